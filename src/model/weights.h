// The parameters of a model: one struct for every family; what a family does not have is undefined.
#pragma once
#include <vector>

#include "io/checkpoint.h"
#include "model/parameter.h"
#include "model/share.h"

namespace farskip::model {

/// Of gqa: k [kv_heads dim, hidden], v [kv_heads v, hidden].
struct KeyValueWeights {
  Parameter k, k_bias, v, v_bias;
};

/// Shapes are those of the whole model; a rank with a share has fewer heads, widths and rows.
struct AttentionWeights {
  // mla: q is [heads (nope + rope), hidden], or q_a [q_rank, hidden], norm and q_b instead.
  // gqa: q [heads dim, hidden], norms [dim].
  Parameter q, q_bias, q_norm;
  Parameter q_a, q_a_bias, q_a_norm, q_b;
  Parameter kv_a, kv_a_bias, kv_a_norm;  ///< [kv_rank + rope, hidden]: latent, rotary key
  Parameter kv_b;                        ///< [heads (nope + v), kv_rank]
  KeyValueWeights kv;
  KeyValueWeights all_kv;  ///< see Share::all_keys
  Parameter k_norm;
  Parameter gate;  ///< [heads v, hidden]
  /// [hidden, heads v]; of the ranks that share the heads, whose outputs are added up, the first
  /// has the bias.
  Parameter output, output_bias;
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
  MlpWeights whole_shared;  ///< see Share::whole_shared
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

/// What is held of a tensor: a fraction of its rows (dimension 0) or columns (1).
struct Cut {
  int64_t dim = 0;
  Fraction part;
};

/// One tensor of the checkpoint and the part of a parameter that what is held of it fills:
/// value[expert] (counted from the first that is held) from `row` on, or all of value where it is
/// the only piece.
struct Piece {
  std::string name;
  std::vector<int64_t> shape;  ///< of the whole tensor
  Cut cut = {};
  int64_t expert = -1;
  int64_t row = 0;

  std::vector<int64_t> held_shape() const;
  /// Of the checkpoint's tensor, without copying.
  at::Tensor held(const at::Tensor& whole) const;
};

/// The one tensor that holds all experts in some files, as transformers 5 has them in memory:
/// [experts, 2 width, hidden] (gate, then up) or [experts, hidden, width].
struct StackedExperts {
  std::string name = {};
  std::vector<int64_t> shape = {};
  int64_t first = 0;  ///< the expert that Piece::expert counts from
};

enum class Role { matrix, norm, bias, correction };

/// A parameter, its shape and the checkpoint's tensors that make it up.
struct Binding {
  Parameter* parameter = nullptr;
  std::string name;            ///< of its first tensor where all experts are held
  std::vector<int64_t> shape;  ///< of what is held
  Role role = Role::matrix;
  bool experts = false;  ///< stacked over the experts that this rank holds, not over all
  bool wide = false;     ///< held in float32 (float64 for float64) whatever the model's dtype
  std::vector<Piece> pieces = {};
  StackedExperts stacked = {};  ///< where a checkpoint may hold the pieces together
  int64_t layer = -1;  ///< that it is of; -1: the embedding, the depth: what comes after the layers

  /// The piece's part of a tensor with this binding's shape.
  at::Tensor view(const at::Tensor& stacked, const Piece& piece) const;
};

/// The one table of names: every parameter that a model of this (whole) configuration has, and
/// what the share holds of it, in the order embedding, layers, final norm, head (absent when tied).
/// Resizes `weights.layers`. InputError if the model can't be shared out so (see local_config).
std::vector<Binding> bind(Weights& weights, const ModelConfig& config, const Share& share = {});

/// What is held of a piece, from the tensor of its name or its part of the stacked one, without
/// copying. InputError by name if the checkpoint has neither, or one of another shape.
at::Tensor read_piece(const io::Checkpoint& checkpoint, const Binding& binding, const Piece& piece);

/// Those of a checkpoint's tensors that are not in the table. The head of tied embeddings, which
/// some files store anyway, is not among them.
std::vector<std::string> unused_tensors(const std::vector<Binding>& bindings,
                                        const ModelConfig& config,
                                        const std::vector<std::string>& names);

}  // namespace farskip::model
