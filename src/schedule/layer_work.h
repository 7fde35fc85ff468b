// How much a layer's parts compute, and its messages carry, for a token.
#pragma once
#include "model/batch.h"
#include "model/config.h"

namespace farskip::schedule {

/// Multiplications a token, and rows a token that go to other ranks.
struct LayerWork {
  double prepare = 0;  ///< attention before its core
  double attend = 0;   ///< core and output projection
  double shared = 0;
  double experts = 0;        ///< the routed ones of a token
  double dense = 0;          ///< MLP of a layer without experts
  double dispatch_rows = 0;  ///< one for each rank that has an expert of the token's, at random
  double combine_rows = 0;   ///< one for each expert

  double forward() const { return prepare + attend + shared + experts + dense; }
};

/// `hidden` as the weights have it.
LayerWork layer_work(const model::LayerConfig& layer, int64_t hidden, const model::Batch& batch,
                     int64_t ranks);

}  // namespace farskip::schedule
