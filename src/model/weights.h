// The parameters of a model: one struct for every family; what a family does not have is undefined.
#pragma once
#include <vector>

#include "model/config.h"
#include "model/parameter.h"

namespace farskip::model {

struct AttentionWeights {
  // mla: q is [heads (nope + rope), hidden], or q_a [q_rank, hidden], norm and q_b instead.
  // gqa: q [heads dim, hidden], k and v [kv_heads dim, hidden], norms [dim].
  Parameter q, q_bias, q_norm;
  Parameter q_a, q_a_bias, q_a_norm, q_b;
  Parameter kv_a, kv_a_bias, kv_a_norm;  ///< [kv_rank + rope, hidden]: latent, rotary key
  Parameter kv_b;                        ///< [heads (nope + v), kv_rank]
  Parameter k, k_bias, k_norm, v, v_bias;
  Parameter gate;                 ///< [heads v, hidden]
  Parameter output, output_bias;  ///< [hidden, heads v]
};

struct MlpWeights {
  Parameter gate_up;  ///< [2 width, hidden]: gate, then up
  Parameter down;     ///< [hidden, width]
};

struct MoeWeights {
  Parameter router;      ///< [experts, hidden]; float32 unless the family routes in its own dtype
  Parameter correction;  ///< [experts] float32, selects only; never trained by gradients
  Parameter gate_up;     ///< [experts, 2 width, hidden]
  Parameter down;        ///< [experts, hidden, width]
  MlpWeights shared;
};

struct LayerWeights {
  Parameter attention_norm, mlp_norm;
  AttentionWeights attention;
  MlpWeights dense;
  MoeWeights moe;
};

struct Weights {
  Parameter embedding;  ///< [vocabulary, hidden]
  std::vector<LayerWeights> layers;
  Parameter final_norm;
  Parameter head;  ///< [vocabulary, hidden]; shares value and gradient with embedding when tied
};

/// One tensor of the checkpoint and the part of a parameter that it fills:
/// value[expert] (counted from the first that is held) rows `row` to `row + shape[0]`, or all of
/// value where it is the only piece.
struct Piece {
  std::string name;
  std::vector<int64_t> shape;
  int64_t expert = -1;
  int64_t row = 0;
};

enum class Role { matrix, norm, bias, correction };

/// A parameter, its shape and the checkpoint's tensors that make it up.
struct Binding {
  Parameter* parameter = nullptr;
  std::string name;  ///< of its first tensor where all experts are held
  std::vector<int64_t> shape;
  Role role = Role::matrix;
  bool experts = false;  ///< stacked over the experts that this rank holds, not over all
  bool wide = false;     ///< held in float32 (float64 for float64) whatever the model's dtype
  std::vector<Piece> pieces;

  /// The piece's part of a tensor with this binding's shape.
  at::Tensor view(const at::Tensor& stacked, const Piece& piece) const;
};

/// The part of every layer's experts that a rank holds: experts rank E / size to (rank + 1) E /
/// size. Everything else is held by all ranks.
struct ExpertShare {
  int64_t rank = 0;
  int64_t size = 1;
};

/// The one table of names: every parameter that a model of this configuration has (of its share of
/// the experts), in the order embedding, layers, final norm, head (absent when tied). Resizes
/// `weights.layers`. InputError if the experts can't be shared out evenly.
std::vector<Binding> bind(Weights& weights, const ModelConfig& config, ExpertShare share = {});

/// Those of a checkpoint's tensors that are not in the table. The head of tied embeddings, which
/// some files store anyway, is not among them.
std::vector<std::string> unused_tensors(const std::vector<Binding>& bindings,
                                        const ModelConfig& config,
                                        const std::vector<std::string>& names);

}  // namespace farskip::model
