#include "model/config_fields.h"

#include <algorithm>
#include <map>
#include <string_view>

#include "io/text.h"
#include "util/error.h"

namespace farskip::model {
namespace {

bool is_among(const io::Json& value, const io::Json& values) {
  return std::find(values.begin(), values.end(), value) != values.end();
}

/// "silu" or "swish" (nothing else is supported)
std::string supported(const io::Json& values) {
  std::string text;
  for (const io::Json& value : values)
    if (!value.is_null()) text += (text.empty() ? "" : " or ") + value.dump();
  return (text.empty() ? "none" : text) + " (nothing else is supported)";
}

/// What every family reads or refuses, and what writers of config.json add to every model.
const FieldTable& common_fields() {
  static const FieldTable table = {
      read("vocab_size"),
      read("hidden_size"),
      read("num_hidden_layers"),
      read("num_attention_heads"),
      read("moe_intermediate_size"),
      read("rms_norm_eps", 1e-6),
      read("tie_word_embeddings", false),
      defaulted("initializer_range", 0.02),
      read("torch_dtype"),
      read("dtype"),
      read("eos_token_id"),
      read("bos_token_id"),
      read("pad_token_id"),
      read("attention_bias", false),
      read("rope_theta", 10000.0),
      read("rope_scaling"),
      read("rope_parameters"),
      read("original_max_position_embeddings"),
      read("layer_types"),
      read("mlp_layer_types"),
      read("sliding_window"),
      read("use_sliding_window"),
      read("quantization_config"),
      read("compression_config"),
      read("quantization"),
      read("architectures"),
      read("model_type"),
      // Connectivity.
      read("farskip"),
      read("farskip_start_idx"),
      read("farskip_end_idx"),
      read("attn_only_farskip"),
      read("mlp_only_farskip"),
      read("farskip_lag"),
      // What would change the function.
      fixed("hidden_act", {"silu", "swish"}),
      fixed("attention_dropout", {0, nullptr}),
      fixed("mlp_bias", {false, nullptr}),
      fixed("pretraining_tp", {1, 0, nullptr}),
      fixed("partial_rotary_factor", {1, nullptr}),
      fixed("gated_attention", {false, nullptr}),
      fixed("per_layer_config", {nullptr, io::Json::object()}),
      fixed("pruned_heads", {nullptr, io::Json::object()}),
      fixed("is_encoder_decoder", {false, nullptr}),
      fixed("add_cross_attention", {false, nullptr}),
      fixed("attention_chunk_size", {nullptr}),
      fixed("final_logit_softcapping", {nullptr, 0}),
      fixed("attn_logit_softcapping", {nullptr, 0}),
      fixed("clip_qkv", {nullptr}),
      fixed("embedding_multiplier", {1, nullptr}),
      fixed("residual_multiplier", {1, nullptr}),
      fixed("attention_multiplier", {nullptr}),
      fixed("logits_scaling", {1, nullptr}),
      fixed("swiglu_limit", {nullptr}),
      fixed("index_topk", {nullptr}),
      // Who wrote the file, for which program, with which settings of its own.
      harmless("auto_map"),
      harmless("transformers_version"),
      harmless("_name_or_path"),
      harmless("name_or_path"),
      harmless("_commit_hash"),
      harmless("_attn_implementation"),
      harmless("_attn_implementation_autoset"),
      harmless("attn_implementation"),
      harmless("_experts_implementation"),
      harmless("_from_model_config"),
      harmless("unsloth_fixed"),
      harmless("unsloth_version"),
      harmless("use_cache"),
      harmless("output_attentions"),
      harmless("output_hidden_states"),
      harmless("output_router_logits"),
      harmless("output_scores"),
      harmless("return_dict"),
      harmless("return_dict_in_generate"),
      harmless("use_return_dict"),
      harmless("torchscript"),
      harmless("tf_legacy_loss"),
      harmless("use_bfloat16"),
      harmless("tie_encoder_decoder"),
      harmless("is_decoder"),
      harmless("cross_attention_hidden_size"),
      harmless("chunk_size_feed_forward"),
      harmless("finetuning_task"),
      harmless("id2label"),
      harmless("label2id"),
      harmless("num_labels"),
      harmless("problem_type"),
      harmless("task_specific_params"),
      harmless("tokenizer_class"),
      harmless("prefix"),
      harmless("sep_token_id"),
      harmless("cls_token_id"),
      harmless("unk_token_id"),
      harmless("decoder_start_token_id"),
      harmless("max_window_layers"),
      harmless("ep_size"),
      harmless("num_nextn_predict_layers"),
      harmless("num_mtp_layers"),
      harmless("mtp_layer_types"),
      // Generation settings of old files, which transformers writes at these values.
      noted("do_sample", {false}),
      noted("early_stopping", {false}),
      noted("max_length", {20}),
      noted("min_length", {0}),
      noted("num_beams", {1}),
      noted("num_beam_groups", {1}),
      noted("num_return_sequences", {1}),
      noted("temperature", {1}),
      noted("top_k", {50}),
      noted("top_p", {1}),
      noted("typical_p", {1}),
      noted("repetition_penalty", {1}),
      noted("length_penalty", {1}),
      noted("diversity_penalty", {0}),
      noted("no_repeat_ngram_size", {0}),
      noted("encoder_no_repeat_ngram_size", {0}),
      noted("remove_invalid_values", {false}),
      noted("max_new_tokens", {}),
      noted("min_p", {}),
      noted("bad_words_ids", {}),
      noted("suppress_tokens", {}),
      noted("begin_suppress_tokens", {}),
      noted("forced_bos_token_id", {}),
      noted("forced_eos_token_id", {}),
      noted("exponential_decay_length_penalty", {}),
  };
  return table;
}

/// The value under an alias moves to the name that is read; under both it must be the same.
void resolve(const FieldRule& rule, io::Json& json, const std::string& name) {
  const auto found = json.find(rule.key);
  if (found == json.end()) return;
  const io::Json value = *found;
  const std::string first = rule.standard.get<std::string>();
  if (json.contains(first) && json[first] != value)
    throw InputError(util::concat(name, ": ", rule.key, ": found ", io::shown(value), ", expected ",
                                  first, " = ", io::shown(json[first]),
                                  ", which is the same thing"));
  json[first] = value;
}

}  // namespace

std::vector<int64_t> token_ids(const io::Fields& fields, const char* key, int64_t vocabulary) {
  if (!fields.has(key)) return {};
  auto ids = fields.json()[key].is_array() ? fields.integers(key, -1, vocabulary - 1)
                                           : std::vector{fields.integer(key, -1, vocabulary - 1)};
  std::erase(ids, -1);
  return ids;
}

FieldRule read(const char* key, io::Json standard) {
  return {key, FieldUse::read, std::move(standard)};
}
FieldRule defaulted(const char* key, io::Json standard) {
  return {key, FieldUse::defaulted, std::move(standard)};
}
FieldRule fixed(const char* key, std::vector<io::Json> values) {
  return {key, FieldUse::fixed, io::Json(io::Json::array_t(values.begin(), values.end()))};
}
FieldRule harmless(const char* key) {
  return {key, FieldUse::harmless, nullptr};
}
FieldRule noted(const char* key, std::vector<io::Json> values) {
  return {key, FieldUse::noted, io::Json(io::Json::array_t(values.begin(), values.end()))};
}
FieldRule alias(const char* key, const char* of) {
  return {key, FieldUse::alias, of};
}

FieldTable with_common_fields(const FieldTable& family) {
  FieldTable table = common_fields();
  table.insert(table.end(), family.begin(), family.end());
  return table;
}

io::Json complete(const io::Json& json, const std::string& name, const FieldTable& table,
                  std::vector<std::string>& notes) {
  std::map<std::string_view, const FieldRule*> rules;
  for (const FieldRule& rule : table) rules[rule.key] = &rule;
  const io::Fields fields(json, name);
  io::Json completed = json;
  std::string unknown;
  for (const auto& [key, value] : json.items()) {
    const auto found = rules.find(key);
    const FieldUse use = found == rules.end() ? FieldUse::noted : found->second->use;
    const io::Json values = found == rules.end() ? io::Json::array() : found->second->standard;
    if (use == FieldUse::fixed && !is_among(value, values))
      fields.refuse(key.c_str(), supported(values));
    const bool says_nothing = value.is_null() || (value.is_structured() && value.empty());
    if (use == FieldUse::noted && !says_nothing && !is_among(value, values))
      unknown += (unknown.empty() ? "" : ", ") + io::printable(key) + ": " + io::shown(value);
  }
  for (const auto& [key, rule] : rules)
    if (rule->use == FieldUse::alias) resolve(*rule, completed, name);
  for (const auto& [key, rule] : rules) {
    const bool absent = !completed.contains(rule->key);
    const bool fills = absent ? !rule->standard.is_null()
                              : rule->use == FieldUse::defaulted && completed[rule->key].is_null();
    const bool is_read = rule->use == FieldUse::read || rule->use == FieldUse::defaulted;
    if (is_read && fills) completed[rule->key] = rule->standard;
  }
  if (!unknown.empty())
    notes.push_back(name + ": not taken into account: " + io::printable(unknown, 1000));
  return completed;
}

}  // namespace farskip::model
