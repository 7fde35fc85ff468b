#include "io/dtype.h"

namespace farskip::io {
namespace {

using c10::ScalarType;

constexpr DtypeEntry kDtypes[] = {
    {"F64", 8, ScalarType::Double},
    {"F32", 4, ScalarType::Float},
    {"BF16", 2, ScalarType::BFloat16},
    {"F16", 2, ScalarType::Half},
    {"I64", 8, ScalarType::Long},
    {"I32", 4, ScalarType::Int},
    {"I16", 2, ScalarType::Short},
    {"I8", 1, ScalarType::Char},
    {"U64", 8, ScalarType::UInt64},
    {"U32", 4, ScalarType::UInt32},
    {"U16", 2, ScalarType::UInt16},
    {"U8", 1, ScalarType::Byte},
    {"F8_E4M3", 1, ScalarType::Float8_e4m3fn},
    {"F8_E5M2", 1, ScalarType::Float8_e5m2},
    {"C64", 8, ScalarType::ComplexFloat},
    {"BOOL", 1, ScalarType::Bool},
};

}  // namespace

const DtypeEntry* find_dtype(std::string_view name) {
  for (const DtypeEntry& entry : kDtypes)
    if (entry.name == name) return &entry;
  return nullptr;
}

const DtypeEntry* find_dtype(c10::ScalarType type) {
  for (const DtypeEntry& entry : kDtypes)
    if (entry.type == type) return &entry;
  return nullptr;
}

}  // namespace farskip::io
