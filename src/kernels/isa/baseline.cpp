#define FARSKIP_ISA_NAMESPACE baseline
#define FARSKIP_ISA_LEVEL Level::kBaseline
#include "kernels/isa/kernels.inl"
