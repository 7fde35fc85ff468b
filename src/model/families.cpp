#include "model/families.h"

#include "util/error.h"

namespace farskip::model {

const std::vector<FamilyEntry>& families() {
  static const std::vector<FamilyEntry> table = {
      {"DeepseekV2ForCausalLM",
       {"deepseek_v2"},
       Family::deepseek_v2,
       deepseek_fields(Family::deepseek_v2),
       parse_deepseek},
      {"DeepseekV3ForCausalLM",
       {"deepseek_v3", "kimi_k2"},
       Family::deepseek_v3,
       deepseek_fields(Family::deepseek_v3),
       parse_deepseek},
      {"InstellaMoEForCausalLM",
       {"deepseek_v3", "instella_moe"},
       Family::instella_moe,
       deepseek_fields(Family::instella_moe),
       parse_deepseek},
      {"Qwen3MoeForCausalLM",
       {"qwen3_moe"},
       Family::qwen3_moe,
       qwen3_moe_fields(),
       parse_qwen3_moe},
  };
  return table;
}

const char* to_string(Family family) {
  switch (family) {
    case Family::deepseek_v2:
      return "DeepSeek-V2";
    case Family::deepseek_v3:
      return "DeepSeek-V3";
    case Family::instella_moe:
      return "Instella-MoE";
    case Family::qwen3_moe:
      return "Qwen3-MoE";
  }
  throw Error("a family of no known name");
}

}  // namespace farskip::model
