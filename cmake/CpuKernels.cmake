# Files that are compiled for a newer instruction set; they are only called after a run-time check of the processor
# (src/kernels/isa/table.cpp), share no inline functions with other files, and so take no precompiled header.
include(CheckCXXCompilerFlag)
set(kernels ${PROJECT_SOURCE_DIR}/src/kernels)
set(causal_attention ${kernels}/isa/causal_attention_avx512.cpp
    ${kernels}/isa/causal_attention_backward_avx512.cpp)
set(x86_kernels ${kernels}/isa/avx2.cpp ${kernels}/isa/avx512.cpp ${causal_attention})
set_source_files_properties(${kernels}/isa/baseline.cpp PROPERTIES SKIP_PRECOMPILE_HEADERS ON
  COMPILE_OPTIONS -ffp-contract=off)
check_cxx_compiler_flag("-mavx512bf16" FARSKIP_COMPILER_HAS_AVX512_BF16)
if(FARSKIP_COMPILER_HAS_AVX512_BF16)
  # GCC 12's own intrinsics header makes "undefined" vectors by reading uninitialized ones.
  set(quiet $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized> $<$<CXX_COMPILER_ID:GNU>:-Wno-uninitialized>)
  set_source_files_properties(${kernels}/isa/avx2.cpp PROPERTIES SKIP_PRECOMPILE_HEADERS ON
    COMPILE_OPTIONS "-ffp-contract=off;-march=x86-64-v3")
  set_source_files_properties(${kernels}/isa/avx512.cpp ${causal_attention} PROPERTIES SKIP_PRECOMPILE_HEADERS ON
    COMPILE_OPTIONS "-ffp-contract=off;-march=x86-64-v4;-mavx512bf16;-mprefer-vector-width=512;${quiet}")
  set_source_files_properties(${kernels}/isa/table.cpp ${kernels}/causal_attention.cpp PROPERTIES COMPILE_DEFINITIONS FARSKIP_X86_KERNELS)
else()
  set_source_files_properties(${x86_kernels} PROPERTIES HEADER_FILE_ONLY ON)
endif()

# Threads come from the OpenMP pool that torch uses. Two OpenMP runtimes in a process are two pools whose threads spin
# against each other, so: only parallel.cpp is compiled with -fopenmp (at::parallel_for is a template that is serial
# without it), nothing is linked with -fopenmp (that would add the compiler's own libgomp), and the libgomp that the
# wheel ships beside libtorch_cpu.so is linked by its path. tests/kernels/parallel_test.cpp counts the runtimes.
# clang's -fopenmp calls another runtime, libomp: built with clang (fuzzers), our kernels use one thread.
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  set_source_files_properties(${kernels}/parallel.cpp PROPERTIES SKIP_PRECOMPILE_HEADERS ON COMPILE_OPTIONS -fopenmp)
  file(GLOB torch_gomp ${FARSKIP_TORCH_DIR}/lib/libgomp*.so*)
  if(torch_gomp)
    list(GET torch_gomp 0 torch_gomp)
  else()
    set(torch_gomp gomp)  # a LibTorch that uses the system's
  endif()
  target_link_libraries(farskip PUBLIC $<BUILD_INTERFACE:${torch_gomp}>)
endif()
