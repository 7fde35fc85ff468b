// The table of model families: which architecture is read by which function. A family is data: a
// function that fills a ModelConfig; all families share one layer program, one set of parts and one
// table of tensor names.
#pragma once
#include "io/json_file.h"
#include "model/config.h"

namespace farskip::model {

struct FamilyEntry {
  const char* architecture;  ///< the one entry of config.json's `architectures`
  Family family;
  /// Fills everything that is particular to the family; common fields are there already.
  void (*parse)(const io::Fields& fields, ModelConfig& config);
};

const std::vector<FamilyEntry>& families();
const char* to_string(Family family);

// The functions of the table.
void parse_deepseek(const io::Fields& fields,
                    ModelConfig& config);  ///< V2, V3 (Moonlight), Instella-MoE
void parse_qwen3_moe(const io::Fields& fields, ModelConfig& config);

// What they share.
inline constexpr int64_t kMaxWidth =
    int64_t{1} << 20;  ///< of any dimension but the vocabulary; larger is taken for damage

/// Rope of `dim` with theta and scaling from `rope_scaling` + `rope_theta`, or transformers 5's
/// `rope_parameters`.
RopeConfig parse_rope(const io::Fields& fields, int64_t dim, bool interleaved,
                      int64_t max_positions);
/// The `rope_scaling` or `rope_parameters` object, if one is there.
std::optional<io::Fields> rope_scaling(const io::Fields& fields);
/// 0.1 m ln f + 1 for f > 1, else 1 (YaRN's attention temperature).
double yarn_mscale(double factor, double m);
/// Refuses a field that is there with another value than the only one supported.
void only(const io::Fields& fields, const char* key, const io::Json& supported);

}  // namespace farskip::model
