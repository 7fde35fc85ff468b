#include "model/weights.h"

#include <ATen/ATen.h>

#include <set>

#include "util/error.h"

namespace farskip::model {
namespace {

Cut rows(const Fraction& part) {
  return {0, part};
}
Cut columns(const Fraction& part) {
  return {1, part};
}

/// Collects the bindings of what a share holds of one model.
class Table {
 public:
  explicit Table(const Share& share) : share_(share) {}
  std::vector<Binding> bindings;

  Binding& add(Parameter& parameter, const std::string& name, std::vector<int64_t> shape,
               Role role = Role::matrix, Cut cut = {}) {
    const Piece piece{name, std::move(shape), cut};
    bindings.push_back({&parameter, name, piece.held_shape(), role, false, false, {piece}});
    return bindings.back();
  }
  void norm(Parameter& parameter, const std::string& name, int64_t width) {
    add(parameter, name + ".weight", {width}, Role::norm);
  }
  /// A projection [out, in] and, where there is one, its bias, which is cut as its rows are.
  void projection(Parameter& weight, Parameter* bias, const std::string& name, int64_t out,
                  int64_t in, Cut cut = {}) {
    add(weight, name + ".weight", {out, in}, Role::matrix, cut);
    if (bias) add(*bias, name + ".bias", {out}, Role::bias, cut.dim == 0 ? cut : Cut{});
  }
  void mlp(MlpWeights& mlp, const std::string& name, int64_t width, int64_t hidden,
           const Fraction& part) {
    const std::string gate = name + ".gate_proj.weight", up = name + ".up_proj.weight";
    Binding gate_up{&mlp.gate_up, gate, {2 * part.size(width), hidden}};
    gate_up.pieces = {{gate, {width, hidden}, rows(part)},
                      {up, {width, hidden}, rows(part), -1, part.size(width)}};
    bindings.push_back(std::move(gate_up));
    add(mlp.down, name + ".down_proj.weight", {hidden, width}, Role::matrix, columns(part));
  }
  void experts(MoeWeights& moe, const std::string& name, int64_t experts, int64_t width,
               int64_t hidden) {
    const Fraction& part = share_.expert_width;
    const int64_t first = share_.experts.begin(experts), held = share_.experts.size(experts);
    const int64_t own = part.size(width);
    Binding gate_up{&moe.gate_up, name + ".0.gate_proj.weight", {held, 2 * own, hidden}};
    Binding down{&moe.down, name + ".0.down_proj.weight", {held, hidden, own}};
    gate_up.experts = down.experts = true;
    gate_up.stacked = {name + ".gate_up_proj", {experts, 2 * width, hidden}, first};
    down.stacked = {name + ".down_proj", {experts, hidden, width}, first};
    for (int64_t e = 0; e < held; ++e) {
      const std::string expert = util::concat(name, ".", first + e);
      gate_up.pieces.push_back({expert + ".gate_proj.weight", {width, hidden}, rows(part), e});
      gate_up.pieces.push_back({expert + ".up_proj.weight", {width, hidden}, rows(part), e, own});
      down.pieces.push_back({expert + ".down_proj.weight", {hidden, width}, columns(part), e});
    }
    bindings.push_back(std::move(gate_up));
    bindings.push_back(std::move(down));
  }

 private:
  const Share& share_;
};

void bind_keys_values(Table& table, KeyValueWeights& w, const AttentionConfig& c, Cut cut,
                      int64_t hidden, const std::string& name) {
  const auto biased = [&](Parameter& bias) { return c.qkv_bias ? &bias : nullptr; };
  const int64_t heads = c.kv_heads;
  table.projection(w.k, biased(w.k_bias), name + ".k_proj", heads * c.qk_dim(), hidden, cut);
  table.projection(w.v, biased(w.v_bias), name + ".v_proj", heads * c.v_dim, hidden, cut);
}

void bind_attention(Table& table, AttentionWeights& w, const AttentionConfig& c,
                    const Fraction& part, bool all_keys, int64_t hidden, const std::string& name) {
  const auto biased = [&](Parameter& bias) { return c.qkv_bias ? &bias : nullptr; };
  const Cut heads = rows(part);
  if (c.kind == AttentionKind::gqa) {
    const int64_t dim = c.qk_dim();
    table.projection(w.q, biased(w.q_bias), name + ".q_proj", c.heads * dim, hidden, heads);
    bind_keys_values(table, w.kv, c, rows(kv_heads(c, part)), hidden, name);
    if (all_keys) bind_keys_values(table, w.all_kv, c, {}, hidden, name);
    if (c.qk_norm) {
      table.norm(w.q_norm, name + ".q_norm", dim);
      table.norm(w.k_norm, name + ".k_norm", dim);
    }
  } else {
    const int64_t queries = c.heads * c.qk_dim();
    if (c.q_rank == 0) {
      table.projection(w.q, nullptr, name + ".q_proj", queries, hidden, heads);
    } else {
      table.projection(w.q_a, biased(w.q_a_bias), name + ".q_a_proj", c.q_rank, hidden);
      table.norm(w.q_a_norm, name + ".q_a_layernorm", c.q_rank);
      table.projection(w.q_b, nullptr, name + ".q_b_proj", queries, c.q_rank, heads);
    }
    table.projection(w.kv_a, biased(w.kv_a_bias), name + ".kv_a_proj_with_mqa",
                     c.kv_rank + c.rope_dim, hidden);
    table.norm(w.kv_a_norm, name + ".kv_a_layernorm", c.kv_rank);
    table.projection(w.kv_b, nullptr, name + ".kv_b_proj", c.heads * (c.nope_dim + c.v_dim),
                     c.kv_rank, heads);
  }
  if (c.gated)
    table.projection(w.gate, nullptr, name + ".gate_proj", c.heads * c.v_dim, hidden, heads);
  // The outputs of the ranks are added up, and the bias must be in the sum once.
  table.projection(w.output, c.output_bias && part.index == 0 ? &w.output_bias : nullptr,
                   name + ".o_proj", hidden, c.heads * c.v_dim, columns(part));
}

void bind_moe(Table& table, MoeWeights& w, const MoeConfig& c, const Fraction& part,
              bool whole_shared, int64_t hidden, const std::string& name) {
  const bool wide = !c.router.in_model_dtype;
  table.add(w.router, name + ".gate.weight", {c.router.experts, hidden}).wide = wide;
  if (c.router.selection == ExpertSelection::group_top2_biased)
    table
        .add(w.correction, name + ".gate.e_score_correction_bias", {c.router.experts},
             Role::correction)
        .wide = true;
  table.experts(w, name + ".experts", c.router.experts, c.expert_width, hidden);
  if (c.shared_width == 0) return;
  table.mlp(w.shared, name + ".shared_experts", c.shared_width, hidden, part);
  if (whole_shared) table.mlp(w.whole_shared, name + ".shared_experts", c.shared_width, hidden, {});
}

}  // namespace

std::vector<int64_t> Piece::held_shape() const {
  std::vector<int64_t> held = shape;
  held[cut.dim] = cut.part.size(shape[cut.dim]);
  return held;
}

at::Tensor Piece::held(const at::Tensor& whole) const {
  const int64_t size = shape[cut.dim];
  return whole.narrow(cut.dim, cut.part.begin(size), cut.part.size(size));
}

at::Tensor Binding::view(const at::Tensor& stacked, const Piece& piece) const {
  const at::Tensor part = piece.expert < 0 ? stacked : stacked.select(0, piece.expert);
  return part.narrow(0, piece.row, piece.held_shape().front());
}

std::vector<Binding> bind(Weights& weights, const ModelConfig& config, const Share& share) {
  check_share(config, share);
  Table table(share);
  weights.layers.resize(config.depth());
  size_t known = 0;
  const auto are_of = [&](int64_t layer) {
    for (; known < table.bindings.size(); ++known) table.bindings[known].layer = layer;
  };
  const std::vector<int64_t> words = {config.vocabulary, config.hidden};
  table.add(weights.embedding, "model.embed_tokens.weight", words, Role::matrix,
            rows(share.embedding));
  are_of(-1);
  // Of a last layer whose keys and values are as many numbers, all tokens get its input.
  const bool divides = config.layers.back().attention.cache_width() < config.hidden;
  for (int64_t k = 0; k < config.depth(); ++k) {
    LayerWeights& layer = weights.layers[k];
    const LayerConfig& c = config.layers[k];
    const std::string name = util::concat("model.layers.", k);
    table.norm(layer.attention_norm, name + ".input_layernorm", config.hidden);
    const int64_t after = config.depth() - 1 - k;
    bind_attention(table, layer.attention, c.attention, share.tensor,
                   share.all_keys && divides && after == 0, config.hidden, name + ".self_attn");
    table.norm(layer.mlp_norm, name + ".post_attention_layernorm", config.hidden);
    if (c.moe) {
      bind_moe(table, layer.moe, *c.moe, share.tensor, share.whole_shared && divides && after == 1,
               config.hidden, name + ".mlp");
    } else {
      table.mlp(layer.dense, name + ".mlp", c.dense_width, config.hidden, share.tensor);
    }
    are_of(k);
  }
  table.norm(weights.final_norm, "model.norm", config.hidden);
  if (!config.tied_embeddings)
    table.add(weights.head, "lm_head.weight", words, Role::matrix, rows(share.head));
  are_of(config.depth());
  for (Binding& binding : table.bindings) binding.parameter->name = binding.name;
  return std::move(table.bindings);
}

at::Tensor read_piece(const io::Checkpoint& checkpoint, const Binding& binding,
                      const Piece& piece) {
  const StackedExperts& stacked = binding.stacked;
  if (stacked.name.empty() || checkpoint.contains(piece.name) || !checkpoint.contains(stacked.name))
    return piece.held(checkpoint.require(piece.name, piece.shape));
  const at::Tensor expert =
      checkpoint.require(stacked.name, stacked.shape).select(0, stacked.first + piece.expert);
  const int64_t rows = piece.shape.front();
  return piece.held(expert.narrow(0, piece.row > 0 ? rows : 0, rows));  // up follows gate
}

std::vector<std::string> unused_tensors(const std::vector<Binding>& bindings,
                                        const ModelConfig& config,
                                        const std::vector<std::string>& names) {
  const std::set<std::string> there(names.begin(), names.end());
  std::set<std::string> used;
  for (const Binding& binding : bindings) {
    for (const Piece& piece : binding.pieces) used.insert(piece.name);
    if (!there.contains(binding.name)) used.insert(binding.stacked.name);
  }
  if (config.tied_embeddings) used.insert("lm_head.weight");
  std::vector<std::string> unused;
  for (const std::string& name : names)
    if (!used.contains(name)) unused.push_back(name);
  return unused;
}

}  // namespace farskip::model
