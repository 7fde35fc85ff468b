#define FARSKIP_ISA_NAMESPACE avx512
#define FARSKIP_ISA_LEVEL Level::kAvx512Bf16
#include "kernels/isa/kernels.inl"
