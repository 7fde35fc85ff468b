#include "kernels/small_experts.h"

#include <ATen/ATen.h>

#include "kernels/empty.h"
#include "kernels/generic.h"
#include "kernels/isa/select.h"
#include "kernels/parallel.h"

namespace farskip::kernels {

at::Tensor small_experts(const at::Tensor& x, const at::Tensor& gate_up, const at::Tensor& down,
                         const at::Tensor& experts, const at::Tensor& weights,
                         Accumulate accumulate, int64_t first) {
  at::Tensor y;
  const bool done = isa::with_kernels(x, [&]<class T>(const isa::Kernels<T>& kernels) {
    const Plan order = plan_of(experts, first, gate_up.size(0));
    const at::Tensor rows = gather_rows(x, order.tokens);
    const at::Tensor ups = gate_up.contiguous();
    const at::Tensor downs = down.contiguous();
    const at::Tensor factors = weights_as_factors(weights, x.scalar_type(), accumulate);
    const int64_t width = down.size(2);
    const int64_t hidden_size = x.size(1);
    const at::Tensor hidden = empty({order.rows, width}, x.scalar_type());
    const at::Tensor outputs = empty({order.rows, hidden_size}, x.scalar_type());
    y = empty({x.size(0), hidden_size}, x.scalar_type());
    std::vector<int64_t> active;
    for (int64_t e = 0; e < gate_up.size(0); ++e) {
      if (order.offsets[e] < order.offsets[e + 1]) active.push_back(e);
    }
    const isa::Experts<T> operands{.x = isa::data<T>(rows),
                                   .gate_up = isa::data<T>(ups),
                                   .down = isa::data<T>(downs),
                                   .hidden = isa::mutable_data<T>(hidden),
                                   .outputs = isa::mutable_data<T>(outputs),
                                   .y = isa::mutable_data<T>(y),
                                   .weights = isa::data<float>(factors),
                                   .active = active.data(),
                                   .offsets = order.offsets.data(),
                                   .pairs = isa::data<int64_t>(order.pairs),
                                   .rows_of_token = isa::data<int64_t>(order.rows_of_token),
                                   .active_count = static_cast<int64_t>(active.size()),
                                   .tokens = x.size(0),
                                   .top_k = order.top_k,
                                   .hidden_size = hidden_size,
                                   .width = width,
                                   .by_dtype = accumulate == Accumulate::kDtype};
    constexpr int64_t kBlock = isa::kExpertBlock;
    parallel_for(operands.active_count * ((width + kBlock - 1) / kBlock),
                 grain_for(2 * kBlock * hidden_size * sizeof(T)),
                 [&](int64_t begin, int64_t end) { kernels.experts_up(operands, begin, end); });
    parallel_for((hidden_size + kBlock - 1) / kBlock,
                 grain_for(operands.active_count * kBlock * width * sizeof(T)),
                 [&](int64_t begin, int64_t end) { kernels.experts_down(operands, begin, end); });
  });
  return done ? y : generic::small_experts(x, gate_up, down, experts, weights, accumulate, first);
}

}  // namespace farskip::kernels
