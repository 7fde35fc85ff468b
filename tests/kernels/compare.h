// What the kernel tests share: closeness in units of a dtype, and runs on one and two threads.
#pragma once
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <string>

namespace farskip::kernels {

/// One unit in the last place, relative: what a different order of summation may move a rounding.
inline double unit(at::ScalarType dtype) {
  switch (dtype) {
    case at::kBFloat16:
      return 1.0 / 128;
    case at::kHalf:
      return 1.0 / 1024;
    case at::kFloat:
      return 1e-5;
    default:
      return 1e-12;
  }
}

/// Same dtype and shape; every element within one unit of `expected` for each of its roundings, or
/// 1e-5 of the largest; and below float32, where roundings flip rarely, at most 2 % of the elements
/// (and at most 3 of few) not equal.
inline void expect_close(const at::Tensor& found, const at::Tensor& expected,
                         const std::string& what, int roundings = 1) {
  ASSERT_EQ(found.scalar_type(), expected.scalar_type()) << what;
  ASSERT_EQ(found.sizes(), expected.sizes()) << what;
  ASSERT_TRUE(found.is_contiguous()) << what;
  if (found.numel() == 0) return;
  const at::Tensor a = found.to(at::kDouble);
  const at::Tensor b = expected.to(at::kDouble);
  const double slack = expected.scalar_type() == at::kDouble ? 1e-12 : 1e-5;
  // The last term is for single values that all but cancel.
  const at::Tensor allowed =
      b.abs() * (roundings * unit(expected.scalar_type())) + b.abs().max() * slack + 1e-3 * slack;
  EXPECT_TRUE(((a - b).abs() <= allowed).all().item<bool>())
      << what << ": largest difference " << (a - b).abs().max().item<double>();
  if (expected.element_size() < 4) {
    const int64_t unequal = a.ne(b).sum().item<int64_t>();
    EXPECT_LE(unequal, std::max<int64_t>(3, a.numel() / 50)) << what << " of " << a.numel();
  }
}

/// f() gives the same bits on one thread and on two.
template <class F>
void expect_thread_independent(F f) {
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  const at::Tensor one = f();
  at::set_num_threads(2);
  const at::Tensor two = f();
  at::set_num_threads(threads);
  EXPECT_TRUE(at::equal(one, two));
}

/// Normal values in a shape, rounded to a dtype, the same in every run.
inline at::Tensor normal(at::IntArrayRef shape, at::ScalarType dtype) {
  return at::randn(shape, at::kDouble).to(dtype);
}

constexpr at::ScalarType kDtypes[] = {at::kBFloat16, at::kFloat, at::kDouble, at::kHalf};

}  // namespace farskip::kernels
