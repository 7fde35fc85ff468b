# LibTorch from a pip wheel. find_package(Torch) of a CUDA wheel asks for a CUDA toolkit, which building farskip
# does not need; so the wheel's libraries are linked directly, the CUDA ones when they are there.
if(NOT FARSKIP_TORCH_DIR)
  find_program(FARSKIP_PYTHON NAMES python3 python HINTS ${PROJECT_SOURCE_DIR}/.venv/bin NO_DEFAULT_PATH)
  find_program(FARSKIP_PYTHON NAMES python3 python)
  execute_process(COMMAND ${FARSKIP_PYTHON} -c "import os, torch; print(os.path.dirname(torch.__file__))"
                  OUTPUT_VARIABLE torch_dir OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE failed)
  if(failed)
    message(FATAL_ERROR "LibTorch not found: ${FARSKIP_PYTHON} cannot import torch. Run ./test, which sets up .venv, "
                        "or give -DFARSKIP_TORCH_DIR=<site-packages>/torch (or an unpacked LibTorch)")
  endif()
  set(FARSKIP_TORCH_DIR ${torch_dir} CACHE PATH "The torch folder of a wheel, or an unpacked LibTorch")
endif()
foreach(needed include/ATen/ATen.h lib/libtorch_cpu.so lib/libc10.so)
  if(NOT EXISTS ${FARSKIP_TORCH_DIR}/${needed})
    message(FATAL_ERROR "LibTorch at ${FARSKIP_TORCH_DIR} lacks ${needed}")
  endif()
endforeach()

add_library(farskip_libtorch INTERFACE)
add_library(farskip::libtorch ALIAS farskip_libtorch)
set_target_properties(farskip_libtorch PROPERTIES EXPORT_NAME libtorch)
target_include_directories(farskip_libtorch SYSTEM INTERFACE
  $<BUILD_INTERFACE:${FARSKIP_TORCH_DIR}/include>
  $<BUILD_INTERFACE:${FARSKIP_TORCH_DIR}/include/torch/csrc/api/include>)
set(torch_libraries torch torch_cpu c10)
if(EXISTS ${FARSKIP_TORCH_DIR}/lib/libtorch_cuda.so)
  list(APPEND torch_libraries torch_cuda c10_cuda)
endif()

# NCCL's collectives take the headers of CUDA and NCCL, which CUDA wheels of torch bring along as packages of their own
# (nvidia/*/include beside torch); no compiler or library of a toolkit.
set(FARSKIP_NCCL_INCLUDES "")
if(torch_cuda IN_LIST torch_libraries)
  file(GLOB nvidia_includes ${FARSKIP_TORCH_DIR}/../nvidia/*/include)
  find_path(FARSKIP_CUDA_INCLUDE cuda_runtime_api.h HINTS ${nvidia_includes} /usr/local/cuda/include)
  find_path(FARSKIP_NCCL_INCLUDE nccl.h HINTS ${nvidia_includes} /usr/local/cuda/include)
  if(FARSKIP_CUDA_INCLUDE AND FARSKIP_NCCL_INCLUDE)
    set(FARSKIP_NCCL_INCLUDES ${nvidia_includes} ${FARSKIP_CUDA_INCLUDE} ${FARSKIP_NCCL_INCLUDE})
  else()
    message(WARNING "LibTorch has CUDA, but cuda_runtime_api.h or nccl.h was not found: built without NCCL, one GPU at most")
  endif()
endif()
foreach(library ${torch_libraries})
  # torch_cuda registers its kernels when loaded and is named by no symbol of ours: keep it.
  target_link_libraries(farskip_libtorch INTERFACE
    "$<BUILD_INTERFACE:-Wl,--no-as-needed,${FARSKIP_TORCH_DIR}/lib/lib${library}.so,--as-needed>")
endforeach()
target_link_options(farskip_libtorch INTERFACE "$<BUILD_INTERFACE:-Wl,-rpath,${FARSKIP_TORCH_DIR}/lib>")
message(STATUS "LibTorch: ${FARSKIP_TORCH_DIR} (${torch_libraries})")
