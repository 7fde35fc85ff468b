// Expert choices that no router made, for benchmarks.
#pragma once
#include <ATen/core/Tensor.h>

#include "model/config.h"

namespace farskip::model {

enum class Routing {
  real,     ///< the router's
  uniform,  ///< at random, every expert equally likely: what a good router's load looks like
  balanced  ///< round robin: every expert gets as many tokens, which flatters
};

/// int64 [tokens, top_k], distinct in a row. The same for the same seed. Not of `real`.
at::Tensor synthetic_experts(Routing routing, int64_t tokens, const RouterConfig& config,
                             uint64_t seed);

}  // namespace farskip::model
