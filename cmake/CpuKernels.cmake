# Files that are compiled for a newer instruction set; they are only called after a run-time check of the processor.
include(CheckCXXCompilerFlag)
check_cxx_compiler_flag("-mavx512bf16" FARSKIP_COMPILER_HAS_AVX512_BF16)
