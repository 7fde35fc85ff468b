// What a config.json means, family by family turned into one form: a ModelConfig with one
// LayerConfig a layer.
#pragma once
#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "model/connectivity.h"

namespace farskip::model {

enum class Family { deepseek_v2, deepseek_v3, instella_moe, qwen3_moe };

/// YaRN context extension (Peng et al. 2023), the form that DeepSeek's and transformers' code
/// share.
struct YarnConfig {
  double factor = 1;
  double beta_fast = 32;
  double beta_slow = 1;
  int64_t original_positions = 0;
  double attention_factor =
      1;                  ///< multiplies cos and sin; already derived from mscale / mscale_all_dim
  double mscale_all = 0;  ///< whose mscale, squared, scales the logits of latent attention; 0: 1
  bool truncate = true;   ///< floor and ceil the ends of the ramp
};

struct RopeConfig {
  int64_t dim = 0;  ///< even
  double theta = 10000;
  bool interleaved = false;  ///< pairs (2i, 2i+1), else (i, i + dim/2)
  std::optional<YarnConfig> yarn;
};

enum class AttentionKind { mla, gqa };

/// One attention block. For gqa, rope covers the whole head: nope_dim = 0, rope_dim = v_dim =
/// head_dim.
struct AttentionConfig {
  AttentionKind kind = AttentionKind::gqa;
  int64_t heads = 0;
  int64_t kv_heads = 0;  ///< gqa only; mla has one latent for all heads
  int64_t nope_dim = 0;
  int64_t rope_dim = 0;
  int64_t v_dim = 0;
  int64_t q_rank = 0;     ///< mla: 0 = a direct q_proj
  int64_t kv_rank = 0;    ///< mla
  bool qkv_bias = false;  ///< gqa: on q, k, v; mla: on q_a and kv_a
  bool output_bias = false;
  bool qk_norm = false;  ///< gqa: RMSNorm of every head's q and k before rope
  bool gated = false;    ///< output x sigmoid(gate_proj(normed input)) before o_proj
  double softmax_scale = 0;
  double norm_eps = 1e-6;  ///< of the latent norms (mla) or the head norms (gqa)
  RopeConfig rope;

  int64_t qk_dim() const { return nope_dim + rope_dim; }
  /// Numbers that a token leaves in the KV cache of this layer.
  int64_t cache_width() const {
    return kind == AttentionKind::mla ? kv_rank + rope_dim : kv_heads * (rope_dim + v_dim);
  }
};

enum class RouterScore { softmax, sigmoid };
enum class ExpertSelection {
  greedy,             ///< top-k of the scores
  group_maximum,      ///< of the groups with the best maximum, the others count as score 0
                      ///< (DeepSeek-V2)
  group_top2_biased,  ///< of the groups with the best sum of two biased scores, the others are out
                      ///< (DeepSeek-V3)
};

struct RouterConfig {
  int64_t experts = 0;
  int64_t top_k = 0;
  RouterScore score = RouterScore::softmax;
  ExpertSelection selection = ExpertSelection::greedy;
  int64_t groups = 1;
  int64_t groups_kept = 1;
  bool normalise = false;       ///< weights of the chosen sum to 1 ...
  double scale = 1;             ///< ... then times scale
  bool in_model_dtype = false;  ///< Qwen3: logits in the model's dtype, weights cast back to it,
                                ///< outputs accumulate in it
};

struct MoeConfig {
  RouterConfig router;
  int64_t expert_width = 0;
  int64_t shared_width = 0;  ///< of all shared experts together, which are one MLP; 0 = none
};

struct LayerConfig {
  AttentionConfig attention;
  std::optional<MoeConfig> moe;  ///< none = a dense MLP
  int64_t dense_width = 0;
};

struct ModelConfig {
  Family family = Family::deepseek_v2;
  std::string architecture;  ///< as in config.json
  int64_t vocabulary = 0;
  int64_t hidden = 0;
  double norm_eps = 1e-6;
  bool tied_embeddings = false;
  double initializer_range = 0.02;
  int64_t max_positions = 0;
  std::string
      dtype;  ///< of the checkpoint as config.json says it ("bfloat16"); empty if it does not
  std::vector<int64_t> eos_tokens;
  std::optional<int64_t> bos_token;
  std::optional<int64_t> pad_token;
  double aux_loss_coefficient = 0;  ///< of the load-balancing loss in pretraining
  std::vector<LayerConfig> layers;
  Connectivity connectivity;
  /// What the file says and nobody takes into account, and where it says two things: one line each,
  /// for whoever loads the model to show.
  std::vector<std::string> notes;
  nlohmann::ordered_json source;  ///< config.json itself; what is written out again

  int64_t depth() const { return static_cast<int64_t>(layers.size()); }
  bool is_moe(int64_t layer) const { return layers.at(layer).moe.has_value(); }
};

/// Reads a config.json: what is absent or null as transformers reads it, NaN and Infinity too.
/// InputError names the first field that is missing, absurd, contradictory or unsupported. A
/// quantization_config is a note where the safetensors files beside it are plain, else refused.
ModelConfig read_config(const std::filesystem::path& file);
/// The same from parsed JSON alone; `name` is what errors call it.
ModelConfig parse_config(const nlohmann::ordered_json& json, const std::string& name);
/// The source with the connectivity stamped in (AMD's keys, method.md section 2): what is saved
/// beside the weights.
nlohmann::ordered_json config_with_connectivity(const ModelConfig& config,
                                                const Connectivity& connectivity);

}  // namespace farskip::model
