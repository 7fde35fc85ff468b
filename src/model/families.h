// The table of model families: which architecture is read by which function. A family is data: the
// rules of its fields and a function that fills a ModelConfig; all families share one layer
// program, one set of parts and one table of tensor names.
#pragma once
#include "io/json_file.h"
#include "model/config.h"
#include "model/config_fields.h"

namespace farskip::model {

struct FamilyEntry {
  const char* architecture;  ///< the one entry of config.json's `architectures`
  /// Values of `model_type` beside it. The first family that lists one is meant where a file names
  /// no architecture.
  std::vector<const char*> model_types;
  Family family;
  FieldTable fields;
  /// Fills everything that is particular to the family; common fields are there already.
  void (*parse)(const io::Fields& fields, ModelConfig& config);
};

const std::vector<FamilyEntry>& families();
const char* to_string(Family family);

// What the table is made of.
FieldTable deepseek_fields(Family family);                           ///< V2, V3, Instella-MoE
void parse_deepseek(const io::Fields& fields, ModelConfig& config);  ///< the same
FieldTable qwen3_moe_fields();
void parse_qwen3_moe(const io::Fields& fields, ModelConfig& config);

// What they share.
inline constexpr int64_t kMaxWidth =
    int64_t{1} << 20;  ///< of any dimension but the vocabulary; larger is taken for damage

/// Rope of `dim` as transformers 5 reads it: the object `rope_scaling` where it says anything, else
/// `rope_parameters`, with theta in it before the one beside it. The softmax scale of
/// multi-head latent attention wants its mscale_all_dim: see RopeConfig.
RopeConfig parse_rope(const io::Fields& fields, int64_t dim, bool interleaved, ModelConfig& config);
/// 0.1 m ln f + 1 for f > 1, else 1 (YaRN's attention temperature).
double yarn_mscale(double factor, double m);
/// null counts as false.
bool flag(const io::Fields& fields, const char* key);

}  // namespace farskip::model
