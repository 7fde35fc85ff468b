#include "comm/rank_sum.h"

#include <ATen/ATen.h>

#include <vector>

namespace farskip::comm {
namespace {

class FinishedWork : public Work {
 public:
  using Finish = std::function<at::Tensor(const at::Tensor& received)>;
  FinishedWork(Pending pending, Finish finish)
      : pending_(std::move(pending)), finish_(std::move(finish)) {}
  at::Tensor wait() override { return finish_(pending_.wait()); }
  bool arrived() const override { return pending_.arrived(); }
  void ask() override { pending_.ask(); }

 private:
  Pending pending_;
  Finish finish_;
};

at::Tensor sum_in_order(const std::vector<at::Tensor>& parts) {
  const auto wide = parts.front().scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  at::Tensor sum = parts.front().to(wide, /*non_blocking=*/false, /*copy=*/true);
  for (size_t r = 1; r < parts.size(); ++r) sum.add_(parts[r]);
  return sum;
}

}  // namespace

Pending finished(Pending pending, std::function<at::Tensor(const at::Tensor& received)> finish) {
  return Pending(std::make_unique<FinishedWork>(std::move(pending), std::move(finish)));
}

Pending summed(Pending parts, int64_t ranks, at::ScalarType dtype) {
  return finished(std::move(parts), [ranks, dtype](const at::Tensor& received) {
    const int64_t rows = received.size(0) / ranks;
    return sum_in_order(received.unflatten(0, {ranks, rows}).unbind(0)).to(dtype);
  });
}

}  // namespace farskip::comm
