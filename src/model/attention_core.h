// The second part of attention: the core and the output projection.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstddef>
#include <optional>
#include <vector>

#include "model/attention.h"

namespace farskip::model {

/// Keys and values of whole sequences, head by head.
struct KeysValues {
  at::Tensor k;  ///< [N, heads or kv_heads, qk_dim]
  at::Tensor v;  ///< [N, heads or kv_heads, v_dim]
};

/// Attention over everything that the segments have, for some of the queries' n rows at a time, so
/// that a message with the first can leave before the last are computed. What it is made of must
/// outlive it.
class AttentionCore {
 public:
  AttentionCore(PreparedAttention prepared, const AttentionWeights& weights,
                const AttentionConfig& config, const AttentionContext& context);

  /// n
  int64_t size() const { return prepared_.q.size(0); }
  /// Output projection included. -> [count, hidden]
  at::Tensor rows(int64_t begin, int64_t count);

 private:
  struct Run;
  Run next_run(size_t first, int64_t row, int64_t end) const;
  at::Tensor whole(const Run& run) const;
  at::Tensor decode(const Run& run) const;
  at::Tensor part(size_t segment, int64_t row, int64_t skip, int64_t count);
  KeysValues keys_values(const Run& run) const;
  KeysValues new_keys_values(const Run& run) const;
  KeysValues expanded(const at::Tensor& latent, const at::Tensor& k_rope) const;

  PreparedAttention prepared_;
  const AttentionWeights& weights_;
  const AttentionConfig& config_;
  const AttentionContext& context_;
  const std::vector<Segment>& segments_;
  /// The segment that rows() gave a part of, and what it has.
  size_t cut_ = 0;
  std::optional<KeysValues> of_cut_;
};

}  // namespace farskip::model
