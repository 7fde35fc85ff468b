#include "model/synthetic_routes.h"

#include <ATen/ATen.h>

#include <numeric>
#include <random>

#include "util/error.h"

namespace farskip::model {

at::Tensor synthetic_experts(Routing routing, int64_t tokens, const RouterConfig& config,
                             uint64_t seed) {
  if (routing == Routing::real) throw Error("synthetic_experts: real routes are the router's");
  const int64_t experts = config.experts, top_k = config.top_k;
  const at::Tensor chosen = at::empty({tokens, top_k}, at::kLong);
  int64_t* out = chosen.mutable_data_ptr<int64_t>();
  if (routing == Routing::balanced) {
    for (int64_t i = 0; i < tokens * top_k; ++i)
      out[i] = (i + static_cast<int64_t>(seed)) % experts;
    return chosen;
  }
  std::mt19937_64 random(seed);
  std::vector<int64_t> order(experts);
  std::iota(order.begin(), order.end(), 0);
  for (int64_t token = 0; token < tokens; ++token)
    for (int64_t slot = 0; slot < top_k; ++slot) {  // the beginning of a shuffle
      const int64_t other =
          slot + static_cast<int64_t>(random() % static_cast<uint64_t>(experts - slot));
      std::swap(order[slot], order[other]);
      out[token * top_k + slot] = order[slot];
    }
  return chosen;
}

}  // namespace farskip::model
