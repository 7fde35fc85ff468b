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

# NCCL's collectives take headers of CUDA and NCCL: CUDA wheels of torch bring most along as packages of their own
# (nvidia/*/include beside torch), those in crt/ and nv/ are in the packages nvidia-cuda-crt and nvidia-cuda-cccl or a
# toolkit. No compiler is needed.
set(FARSKIP_NCCL_OPTIONS "")
if(torch_cuda IN_LIST torch_libraries)
  file(GLOB nvidia_includes ${FARSKIP_TORCH_DIR}/../nvidia/*/include)
  set(missing "")
  foreach(header cuda_runtime_api.h crt/host_config.h nv/target nccl.h)
    string(MAKE_C_IDENTIFIER FARSKIP_${header}_INCLUDE found)
    find_path(${found} ${header} HINTS ${nvidia_includes} /usr/local/cuda/include)
    if(${found})
      list(APPEND FARSKIP_NCCL_OPTIONS -isystem${${found}})
    else()
      list(APPEND missing ${header})
    endif()
  endforeach()
  foreach(folder ${nvidia_includes})
    list(APPEND FARSKIP_NCCL_OPTIONS -isystem${folder})
  endforeach()
  if(missing)
    message(WARNING "LibTorch has CUDA, but not found: ${missing} "
                    "(pip install nvidia-cuda-crt nvidia-cuda-cccl nvidia-nccl-cu13, say). Built without NCCL: CUDA on one rank only")
    set(FARSKIP_NCCL_OPTIONS "")
  endif()
endif()
foreach(library ${torch_libraries})
  # torch_cuda registers its kernels when loaded and is named by no symbol of ours: keep it.
  target_link_libraries(farskip_libtorch INTERFACE
    "$<BUILD_INTERFACE:-Wl,--no-as-needed,${FARSKIP_TORCH_DIR}/lib/lib${library}.so,--as-needed>")
endforeach()
target_link_options(farskip_libtorch INTERFACE "$<BUILD_INTERFACE:-Wl,-rpath,${FARSKIP_TORCH_DIR}/lib>")
message(STATUS "LibTorch: ${FARSKIP_TORCH_DIR} (${torch_libraries})")
