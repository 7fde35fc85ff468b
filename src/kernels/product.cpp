#include "kernels/product.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "kernels/accumulate.h"
#include "kernels/isa/table.h"

namespace farskip::kernels {
namespace {

constexpr int64_t kFew = 8;

at::Tensor wide(const at::Tensor& x) {
  return x.to(at::kFloat);
}

}  // namespace

bool better_wide(const at::Tensor& a, const at::Tensor& b) {
  return a.scalar_type() == at::kBFloat16 && a.device().is_cpu() &&
         isa::table().level != isa::Level::kAvx512Bf16 &&
         std::min({a.size(0), a.size(1), b.size(1)}) >= kFew;
}

at::Tensor product(const at::Tensor& a, const at::Tensor& b) {
  if (!better_wide(a, b)) return at::mm(a, b);
  return at::mm(wide(a), wide(b)).to(a.scalar_type());
}

void product_into(at::Tensor out, const at::Tensor& a, const at::Tensor& b) {
  if (better_wide(a, b))
    out.copy_(at::mm(wide(a), wide(b)));
  else
    at::mm_out(out, a, b);
}

at::Tensor linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  const auto optional = [](const at::Tensor& tensor) {
    return tensor.defined() ? std::optional(tensor) : std::nullopt;
  };
  if (x.dim() != 2 || !better_wide(x, weight.t())) return at::linear(x, weight, optional(bias));
  return at::linear(wide(x), wide(weight),
                    bias.defined() ? std::optional(wide(bias)) : std::nullopt)
      .to(x.scalar_type());
}

void add_product(const at::Tensor& sum, const at::Tensor& a, const at::Tensor& b) {
  if (sum.scalar_type() == a.scalar_type())
    sum.addmm_(a, b);
  else if (better_wide(a, b))
    sum.addmm_(wide(a), wide(b));
  else
    accumulate(sum, at::mm(a, b));
}

}  // namespace farskip::kernels
