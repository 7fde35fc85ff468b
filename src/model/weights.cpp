#include "model/weights.h"

#include <ATen/ATen.h>

#include <set>

#include "util/error.h"

namespace farskip::model {
namespace {

/// Collects the bindings of one model.
class Table {
 public:
  explicit Table(ExpertShare share) : share_(share) {}
  std::vector<Binding> bindings;

  Binding& add(Parameter& parameter, const std::string& name, std::vector<int64_t> shape,
               Role role = Role::matrix) {
    bindings.push_back({&parameter, name, shape, role, false, false, {{name, shape}}});
    return bindings.back();
  }
  void norm(Parameter& parameter, const std::string& name, int64_t width) {
    add(parameter, name + ".weight", {width}, Role::norm);
  }
  /// A projection [out, in] and, where there is one, its bias.
  void projection(Parameter& weight, Parameter* bias, const std::string& name, int64_t out,
                  int64_t in) {
    add(weight, name + ".weight", {out, in});
    if (bias) add(*bias, name + ".bias", {out}, Role::bias);
  }
  void mlp(MlpWeights& mlp, const std::string& name, int64_t width, int64_t hidden) {
    bindings.push_back({&mlp.gate_up,
                        name + ".gate_proj.weight",
                        {2 * width, hidden},
                        Role::matrix,
                        false,
                        false,
                        {{name + ".gate_proj.weight", {width, hidden}, -1, 0},
                         {name + ".up_proj.weight", {width, hidden}, -1, width}}});
    add(mlp.down, name + ".down_proj.weight", {hidden, width});
  }
  void experts(MoeWeights& moe, const std::string& name, int64_t experts, int64_t width,
               int64_t hidden) {
    const int64_t held = experts / share_.size, first = share_.rank * held;
    Binding gate_up{&moe.gate_up,
                    name + ".0.gate_proj.weight",
                    {held, 2 * width, hidden},
                    Role::matrix,
                    true,
                    false,
                    {}};
    Binding down{
        &moe.down, name + ".0.down_proj.weight", {held, hidden, width}, Role::matrix, true, false,
        {}};
    for (int64_t e = 0; e < held; ++e) {
      const std::string expert = util::concat(name, ".", first + e);
      gate_up.pieces.push_back({expert + ".gate_proj.weight", {width, hidden}, e, 0});
      gate_up.pieces.push_back({expert + ".up_proj.weight", {width, hidden}, e, width});
      down.pieces.push_back({expert + ".down_proj.weight", {hidden, width}, e, 0});
    }
    bindings.push_back(std::move(gate_up));
    bindings.push_back(std::move(down));
  }

 private:
  ExpertShare share_;
};

void bind_attention(Table& table, AttentionWeights& w, const AttentionConfig& c, int64_t hidden,
                    const std::string& name) {
  const auto biased = [&](Parameter& bias) { return c.qkv_bias ? &bias : nullptr; };
  if (c.kind == AttentionKind::gqa) {
    const int64_t dim = c.qk_dim();
    table.projection(w.q, biased(w.q_bias), name + ".q_proj", c.heads * dim, hidden);
    table.projection(w.k, biased(w.k_bias), name + ".k_proj", c.kv_heads * dim, hidden);
    table.projection(w.v, biased(w.v_bias), name + ".v_proj", c.kv_heads * c.v_dim, hidden);
    if (c.qk_norm) {
      table.norm(w.q_norm, name + ".q_norm", dim);
      table.norm(w.k_norm, name + ".k_norm", dim);
    }
  } else {
    const int64_t queries = c.heads * c.qk_dim();
    if (c.q_rank == 0) {
      table.projection(w.q, nullptr, name + ".q_proj", queries, hidden);
    } else {
      table.projection(w.q_a, biased(w.q_a_bias), name + ".q_a_proj", c.q_rank, hidden);
      table.norm(w.q_a_norm, name + ".q_a_layernorm", c.q_rank);
      table.projection(w.q_b, nullptr, name + ".q_b_proj", queries, c.q_rank);
    }
    table.projection(w.kv_a, biased(w.kv_a_bias), name + ".kv_a_proj_with_mqa",
                     c.kv_rank + c.rope_dim, hidden);
    table.norm(w.kv_a_norm, name + ".kv_a_layernorm", c.kv_rank);
    table.projection(w.kv_b, nullptr, name + ".kv_b_proj", c.heads * (c.nope_dim + c.v_dim),
                     c.kv_rank);
  }
  if (c.gated) table.projection(w.gate, nullptr, name + ".gate_proj", c.heads * c.v_dim, hidden);
  table.projection(w.output, c.output_bias ? &w.output_bias : nullptr, name + ".o_proj", hidden,
                   c.heads * c.v_dim);
}

void bind_moe(Table& table, MoeWeights& w, const MoeConfig& c, int64_t hidden,
              const std::string& name) {
  const bool wide = !c.router.in_model_dtype;
  table.add(w.router, name + ".gate.weight", {c.router.experts, hidden}).wide = wide;
  if (c.router.selection == ExpertSelection::group_top2_biased)
    table
        .add(w.correction, name + ".gate.e_score_correction_bias", {c.router.experts},
             Role::correction)
        .wide = true;
  table.experts(w, name + ".experts", c.router.experts, c.expert_width, hidden);
  if (c.shared_width > 0) table.mlp(w.shared, name + ".shared_experts", c.shared_width, hidden);
}

}  // namespace

at::Tensor Binding::view(const at::Tensor& stacked, const Piece& piece) const {
  const at::Tensor part = piece.expert < 0 ? stacked : stacked.select(0, piece.expert);
  return part.narrow(0, piece.row, piece.shape.front());
}

std::vector<Binding> bind(Weights& weights, const ModelConfig& config, ExpertShare share) {
  for (const LayerConfig& layer : config.layers)
    if (layer.moe)
      util::require(
          layer.moe->router.experts % share.size == 0, "--ep", share.size,
          util::concat("a divisor of the model's ", layer.moe->router.experts, " experts"));
  Table table(share);
  weights.layers.resize(config.depth());
  table.add(weights.embedding, "model.embed_tokens.weight", {config.vocabulary, config.hidden});
  for (int64_t k = 0; k < config.depth(); ++k) {
    LayerWeights& layer = weights.layers[k];
    const LayerConfig& c = config.layers[k];
    const std::string name = util::concat("model.layers.", k);
    table.norm(layer.attention_norm, name + ".input_layernorm", config.hidden);
    bind_attention(table, layer.attention, c.attention, config.hidden, name + ".self_attn");
    table.norm(layer.mlp_norm, name + ".post_attention_layernorm", config.hidden);
    if (c.moe) {
      bind_moe(table, layer.moe, *c.moe, config.hidden, name + ".mlp");
    } else {
      table.mlp(layer.dense, name + ".mlp", c.dense_width, config.hidden);
    }
  }
  table.norm(weights.final_norm, "model.norm", config.hidden);
  if (!config.tied_embeddings)
    table.add(weights.head, "lm_head.weight", {config.vocabulary, config.hidden});
  for (Binding& binding : table.bindings) binding.parameter->name = binding.name;
  return std::move(table.bindings);
}

std::vector<std::string> unused_tensors(const std::vector<Binding>& bindings,
                                        const ModelConfig& config,
                                        const std::vector<std::string>& names) {
  std::set<std::string> used;
  for (const Binding& binding : bindings)
    for (const Piece& piece : binding.pieces) used.insert(piece.name);
  if (config.tied_embeddings) used.insert("lm_head.weight");
  std::vector<std::string> unused;
  for (const std::string& name : names)
    if (!used.contains(name)) unused.push_back(name);
  return unused;
}

}  // namespace farskip::model
