#include "schedule/head.h"

#include <ATen/ATen.h>

#include <cmath>
#include <limits>

#include "kernels/top_k.h"
#include "model/ops.h"
#include "util/error.h"

namespace farskip::schedule {
namespace {

/// x of every rank that has a part of the head -> [ranks, ...].
at::Tensor gather(const model::Model& model, const at::Tensor& x, const model::ExpertRanks& ranks) {
  const int64_t parts = model.share.head.count;
  if (parts == 1) return x.unsqueeze(0);
  if (!ranks.reducer) throw Error("logits of a head that ranks share were asked of one rank");
  return ranks.reducer->all_gather({.part = comm::MessageName::Part::logits}, x)
      .wait()
      .unflatten(0, {parts, x.size(0)});
}

}  // namespace

at::Tensor logits(const model::Model& model, const at::Tensor& hidden,
                  const model::ExpertRanks& ranks) {
  const at::Tensor own = model::linear(hidden, model.weights.head, {});
  const int64_t parts = model.share.head.count, words = model.config.vocabulary;
  if (parts == 1 || hidden.size(0) == 0) return own;
  const int64_t most = (words + parts - 1) / parts;
  const at::Tensor all = gather(model, at::constant_pad_nd(own, {0, most - own.size(1)}), ranks);
  std::vector<at::Tensor> of_ranks;
  for (int64_t r = 0; r < parts; ++r)
    of_ranks.push_back(all[r].narrow(1, 0, model::Fraction{r, parts}.size(words)));
  return at::cat(of_ranks, 1);
}

std::vector<int64_t> best_tokens(const model::Model& model, const at::Tensor& hidden,
                                 const model::ExpertRanks& ranks) {
  const int64_t rows = hidden.size(0), first = model.share.head.begin(model.config.vocabulary);
  if (rows == 0) return {};
  const at::Tensor own = model::linear(hidden, model.weights.head, {});
  std::vector<int64_t> tokens;
  if (model.share.head.count == 1) {
    for (int64_t row = 0; row < rows; ++row)
      tokens.push_back(kernels::argmax(own[row]).value_or(-1));
    return tokens;
  }
  const at::Tensor found = at::empty({rows, 2}, at::kDouble);  // exact for ids and all dtypes
  auto mine = found.accessor<double, 2>();
  for (int64_t row = 0; row < rows; ++row) {
    const std::optional<int64_t> best = kernels::argmax(own[row]);
    mine[row][0] = best ? own[row][*best].item<double>() : std::nan("");
    mine[row][1] = best ? static_cast<double>(first + *best) : 0;
  }
  const at::Tensor all = gather(model, found, ranks);
  const auto of = all.accessor<double, 3>();
  for (int64_t row = 0; row < rows; ++row) {
    int64_t best = 0;
    bool finite = true;
    for (int64_t r = 0; r < all.size(0); ++r) {
      finite = finite && !std::isnan(of[r][row][0]);
      if (of[r][row][0] > of[best][row][0]) best = r;
    }
    tokens.push_back(finite ? static_cast<int64_t>(of[best][row][1]) : -1);
  }
  return tokens;
}

}  // namespace farskip::schedule
