// How many parameters a model has, part by part.
#pragma once
#include "model/share.h"

namespace farskip::model {

/// Everything that the checkpoint holds for the layers that are run; not multi-token-prediction
/// layers.
struct ParameterCount {
  int64_t embedding = 0, attention = 0, dense_mlp = 0, router = 0, shared_experts = 0,
          routed_experts = 0, norms = 0, head = 0;
  int64_t corrections = 0;     ///< of the routers' choices; buffers, but part of the files
  int64_t chosen_experts = 0;  ///< the part of routed_experts that one token passes through

  int64_t total() const {
    return embedding + attention + dense_mlp + router + shared_experts + routed_experts + norms +
           head + corrections;
  }
  /// The weights that one token is multiplied with: not the experts that it does not choose.
  int64_t active() const { return total() - corrections - routed_experts + chosen_experts; }
};

/// Of what a share holds; a token's experts are taken to lie evenly over the ranks.
ParameterCount count_parameters(const ModelConfig& config, const Share& share = {});

}  // namespace farskip::model
