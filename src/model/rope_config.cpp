// Rope's fields of config.json, which have been spelt in four ways.
#include <charconv>
#include <cmath>

#include "model/families.h"
#include "util/error.h"

namespace farskip::model {
namespace {

constexpr double kLeastTheta = 1e-3, kMostTheta = 1e15;

/// Some files have it as text.
double theta(const io::Fields& fields) {
  if (!fields.json()["rope_theta"].is_string())
    return fields.number("rope_theta", kLeastTheta, kMostTheta);
  const std::string text = fields.string("rope_theta");
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !(value >= kLeastTheta) ||
      value > kMostTheta)
    fields.refuse("rope_theta", "a number");
  return value;
}

/// The object that says how rope is scaled; of two the older name, if it says anything.
std::optional<io::Fields> rope_object(const io::Fields& fields, std::vector<std::string>& notes) {
  std::optional<io::Fields> object;
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    const auto found = fields.optional_object(key);
    if (!found || found->json().empty()) continue;
    if (object && object->json() != found->json())
      notes.push_back(found->label() + " is not taken into account beside rope_scaling");
    if (!object) object = found;
  }
  return object;
}

/// What YaRN reads; the rest of the object has rules as the fields of the whole file have.
const FieldTable& object_fields() {
  static const FieldTable table = {
      read("rope_type"), read("type"), read("rope_theta"), read("factor"), read("beta_fast"),
      read("beta_slow"), read("mscale"), read("mscale_all_dim"), read("attention_factor"),
      read("original_max_position_embeddings"), read("truncate", true),
      fixed("partial_rotary_factor", {1, nullptr}),
      // Of transformers 5, where layers of several kinds have ropes of their own.
      fixed("full_attention", {nullptr}), fixed("sliding_attention", {nullptr}),
      fixed("mrope_section", {nullptr})};
  return table;
}

std::string rope_type(const io::Fields& object, ModelConfig& config) {
  const char* key = object.has("rope_type") ? "rope_type" : "type";
  const std::string type = object.optional_string(key).value_or("default");
  if (object.has("type") && object.optional_string("type") != type)
    config.notes.push_back(util::concat(
        object.label(), ": type: ", io::shown(object.json()["type"]),
        " is not taken into account beside rope_type: ", io::shown(object.json()["rope_type"]),
        " (as in transformers 5; 4 has it the other way round)"));
  if (type != "yarn" && type != "default") object.refuse(key, "\"yarn\" or \"default\"");
  return type;
}

/// 0 and null stand for the usual value, as in transformers.
double ramp_end(const io::Fields& object, const char* key, double usual) {
  const double value = object.optional_number(key, 0, 1e6).value_or(0);
  return value == 0 ? usual : value;
}

YarnConfig parse_yarn(const io::Fields& fields, const io::Fields& object, int64_t max_positions) {
  YarnConfig yarn;
  constexpr int64_t kMost = int64_t{1} << 32;
  // A field beside the object goes before the one in it (transformers 5).
  yarn.original_positions =
      fields.optional_integer("original_max_position_embeddings", 1, kMost)
          .value_or(object.optional_integer("original_max_position_embeddings", 1, kMost)
                        .value_or(max_positions));
  yarn.factor = object.json().contains("factor") && !object.has("factor")
                    ? static_cast<double>(max_positions) / yarn.original_positions
                    : object.number("factor", 1.0, 1e6);
  yarn.beta_fast = ramp_end(object, "beta_fast", 32);
  yarn.beta_slow = ramp_end(object, "beta_slow", 1);
  if (yarn.beta_fast < yarn.beta_slow)
    object.refuse("beta_fast", util::concat("at least beta_slow = ", yarn.beta_slow));
  yarn.truncate = flag(object, "truncate");
  const double mscale = object.optional_number("mscale", 0, 100).value_or(0);
  const double mscale_all = object.optional_number("mscale_all_dim", 0, 100).value_or(0);
  const double derived = mscale != 0 && mscale_all != 0 ? yarn_mscale(yarn.factor, mscale) /
                                                              yarn_mscale(yarn.factor, mscale_all)
                                                        : yarn_mscale(yarn.factor, 1);
  yarn.attention_factor = object.optional_number("attention_factor", 0, 1e3).value_or(derived);
  yarn.mscale_all = mscale_all;
  return yarn;
}

}  // namespace

RopeConfig parse_rope(const io::Fields& fields, int64_t dim, bool interleaved,
                      ModelConfig& config) {
  RopeConfig rope;
  rope.dim = dim;
  rope.interleaved = interleaved;
  if (dim % 2 != 0)
    throw InputError(util::concat(fields.label(), ": rotary head size: found ", dim,
                                  ", expected an even number"));
  const auto found = rope_object(fields, config.notes);
  if (!found) {
    rope.theta = theta(fields);
    return rope;
  }
  const io::Fields object(complete(found->json(), found->label(), object_fields(), config.notes),
                          found->label());
  rope.theta = theta(object.json().contains("rope_theta") ? object : fields);
  if (rope_type(object, config) == "yarn")
    rope.yarn = parse_yarn(fields, object, config.max_positions);
  return rope;
}

double yarn_mscale(double factor, double m) {
  return factor > 1 ? 0.1 * m * std::log(factor) + 1.0 : 1.0;
}

}  // namespace farskip::model
