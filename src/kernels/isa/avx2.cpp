#define FARSKIP_ISA_NAMESPACE avx2
#define FARSKIP_ISA_LEVEL Level::kAvx2
#include "kernels/isa/kernels.inl"
