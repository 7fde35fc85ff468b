#include "model/connectivity.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>

#include "io/json_fields.h"
#include "util/error.h"

namespace farskip::model {
namespace {

constexpr const char* kKeys[] = {"farskip",           "farskip_start_idx", "farskip_end_idx",
                                 "attn_only_farskip", "mlp_only_farskip",  "farskip_lag"};

std::optional<int64_t> parse_integer(std::string_view text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

[[noreturn]] void refuse_range(const std::string& text, int64_t depth) {
  throw InputError(
      util::concat("--layers: found \"", text,
                   "\", expected A:B, last:N, last:P%, first:N or first:P% within the ", depth,
                   " layers of the model"));
}

bool read_flag(const nlohmann::ordered_json& config, const char* key, const std::string& name) {
  if (!config.contains(key) || config[key].is_null()) return false;
  util::require(config[key].is_boolean(), util::concat(name, ": ", key), config[key].dump(),
                "true or false");
  return config[key].get<bool>();
}

/// A whole number, which may be written as a float; one that is larger than any index is the last.
int64_t read_index(const nlohmann::ordered_json& config, const char* key, int64_t fallback,
                   int64_t least, const std::string& name) {
  constexpr int64_t kMost = int64_t{1} << 32;
  if (!config.contains(key) || config[key].is_null()) return fallback;
  if (config[key].is_number() && config[key].get<double>() >= kMost) return kMost;
  return io::Fields(config, name).integer(key, least);
}

}  // namespace

Connectivity::Connectivity(ConnectivityKind kind, LayerRange range, int64_t depth, int64_t lag)
    : kind_(kind), range_(range), depth_(depth), lag_(lag) {
  util::require(lag == 1, "farskip_lag", lag, "1 (the only lag that this version runs)");
  if (kind_ == ConnectivityKind::regular) range_ = {0, 0};
}

Connectivity Connectivity::from_json(const nlohmann::ordered_json& config, int64_t depth,
                                     const std::string& name) {
  if (!read_flag(config, "farskip", name)) return regular(depth);
  const bool attention_only = read_flag(config, "attn_only_farskip", name);
  const bool mlp_only = read_flag(config, "mlp_only_farskip", name);
  if (attention_only && mlp_only)
    return regular(depth);  // so AMD's code reads it: each switches the other part off
  const auto kind = attention_only ? ConnectivityKind::attention_only
                    : mlp_only     ? ConnectivityKind::moe_only
                                   : ConnectivityKind::farskip;
  const int64_t begin = read_index(config, "farskip_start_idx", 0, 0, name);
  const int64_t last = read_index(config, "farskip_end_idx", depth - 1, -1, name);
  const int64_t lag = read_index(config, "farskip_lag", 1, 0, name);
  util::require(lag == 1, name + ": farskip_lag", lag, "1 (the only lag that this version runs)");
  return {kind, {std::min(begin, depth), std::min(last, depth - 1) + 1}, depth, lag};
}

void Connectivity::to_json(nlohmann::ordered_json& config) const {
  for (const char* key : kKeys) config.erase(key);
  if (is_regular()) {
    config["farskip"] = false;
    return;
  }
  config["farskip"] = true;
  config["farskip_start_idx"] = range_.begin;
  config["farskip_end_idx"] = range_.end - 1;
  config["attn_only_farskip"] = kind_ == ConnectivityKind::attention_only;
  config["mlp_only_farskip"] = kind_ == ConnectivityKind::moe_only;
  if (lag_ != 1) config["farskip_lag"] = lag_;
}

LayerConnectivity Connectivity::layer(int64_t index) const {
  if (index < range_.begin || index >= range_.end) return {};
  return {kind_ == ConnectivityKind::farskip || kind_ == ConnectivityKind::attention_only,
          kind_ == ConnectivityKind::farskip || kind_ == ConnectivityKind::moe_only};
}

bool Connectivity::ends_partial() const {
  if (depth_ < 2) return false;
  const LayerConnectivity before = layer(depth_ - 2);
  return before.attention_partial && before.mlp_outdated && layer(depth_ - 1).attention_partial;
}

std::string Connectivity::describe() const {
  if (is_regular()) return "regular";
  return util::concat(to_string(kind_), ", layers ", range_.begin, ":", range_.end, " of ", depth_);
}

ConnectivityKind parse_connectivity_kind(const std::string& text) {
  for (const auto kind : {ConnectivityKind::regular, ConnectivityKind::farskip,
                          ConnectivityKind::attention_only, ConnectivityKind::moe_only})
    if (to_string(kind) == text) return kind;
  throw InputError("--connectivity: found \"" + text +
                   "\", expected regular, farskip, attention or moe");
}

std::string to_string(ConnectivityKind kind) {
  switch (kind) {
    case ConnectivityKind::regular:
      return "regular";
    case ConnectivityKind::farskip:
      return "farskip";
    case ConnectivityKind::attention_only:
      return "attention";
    case ConnectivityKind::moe_only:
      return "moe";
  }
  throw Error("a connectivity of no known kind");
}

LayerRange parse_layer_range(const std::string& text, int64_t depth) {
  const auto colon = text.find(':');
  if (colon == std::string::npos) refuse_range(text, depth);
  const std::string left = text.substr(0, colon), right = text.substr(colon + 1);

  if (left == "last" || left == "first") {
    const bool percent = right.ends_with('%');
    const auto number = parse_integer(percent ? std::string_view(right).substr(0, right.size() - 1)
                                              : std::string_view(right));
    if (!number || *number < 0 || *number > (percent ? 100 : depth)) refuse_range(text, depth);
    const int64_t count =
        percent ? std::llround(static_cast<double>(*number) * depth / 100.0) : *number;
    return left == "last" ? LayerRange{depth - count, depth} : LayerRange{0, count};
  }

  const auto bound = [&](const std::string& part, int64_t open) {
    if (part.empty()) return open;
    const auto number = parse_integer(part);
    if (!number) refuse_range(text, depth);
    const int64_t index = *number < 0 ? *number + depth : *number;
    if (index < 0 || index > depth) refuse_range(text, depth);
    return index;
  };
  const LayerRange range{bound(left, 0), bound(right, depth)};
  if (range.begin > range.end) refuse_range(text, depth);
  return range;
}

}  // namespace farskip::model
