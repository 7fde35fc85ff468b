// From hidden states to logits and tokens. Where ranks share the head out, all of them call these
// with the same hidden states, and get the same.
#pragma once
#include <ATen/core/Tensor.h>

#include <vector>

#include "model/model.h"
#include "model/moe.h"

namespace farskip::schedule {

/// hidden [n, hidden] -> logits [n, vocabulary] in the model's dtype.
at::Tensor logits(const model::Model& model, const at::Tensor& hidden,
                  const model::ExpertRanks& ranks = {});

/// The token of the greatest logit of every row, of equal ones the lowest; -1 where a logit is not
/// finite. Ranks exchange two numbers a row in place of logits.
std::vector<int64_t> best_tokens(const model::Model& model, const at::Tensor& hidden,
                                 const model::ExpertRanks& ranks = {});

}  // namespace farskip::schedule
