#include "model/parameter_count.h"

#include "model/weights.h"

namespace farskip::model {
namespace {

/// Where a parameter of that name is counted.
int64_t& part(ParameterCount& count, const std::string& name, Role role) {
  const auto has = [&](const char* text) { return name.find(text) != std::string::npos; };
  if (has("embed_tokens")) return count.embedding;
  if (has("lm_head")) return count.head;
  if (has(".self_attn.")) return count.attention;
  if (role == Role::norm) return count.norms;
  if (role == Role::correction) return count.corrections;
  if (has(".mlp.gate.")) return count.router;
  if (has(".shared_experts.")) return count.shared_experts;
  if (has(".mlp.experts.")) return count.routed_experts;
  return count.dense_mlp;
}

}  // namespace

ParameterCount count_parameters(const ModelConfig& config, const Share& share) {
  ParameterCount count;
  Weights weights;
  for (const Binding& binding : bind(weights, config, share)) {
    int64_t elements = 1;
    for (const int64_t size : binding.shape) elements *= size;
    part(count, binding.parameter->name, binding.role) += elements;
  }
  for (const LayerConfig& layer : config.layers)
    if (layer.moe)
      count.chosen_experts += 3 * config.hidden * layer.moe->router.top_k *
                              share.expert_width.size(layer.moe->expert_width) /
                              share.experts.count;
  return count;
}

}  // namespace farskip::model
