// Which activations a layer reads: the one idea of FarSkip-Collective (arXiv 2511.11505, section
// 3).
#pragma once
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace farskip::model {

enum class ConnectivityKind { regular, farskip, attention_only, moe_only };

/// What one layer reads. Both false: a regular transformer layer.
struct LayerConnectivity {
  bool attention_partial =
      false;                  ///< attention reads p_k: x_k without the routed output of layer k-1
  bool mlp_outdated = false;  ///< gate, experts, shared experts and dense MLP read x_k: without
                              ///< this layer's attention
  bool operator==(const LayerConnectivity&) const = default;
};

/// Half-open range of layers that are converted.
struct LayerRange {
  int64_t begin = 0;
  int64_t end = 0;
  bool operator==(const LayerRange&) const = default;
};

/// The connectivity of a model of `depth` layers. A value; layers outside the range are regular.
class Connectivity {
 public:
  Connectivity() = default;
  Connectivity(ConnectivityKind kind, LayerRange range, int64_t depth, int64_t lag = 1);

  static Connectivity regular(int64_t depth) { return {ConnectivityKind::regular, {0, 0}, depth}; }
  /// Reads farskip, farskip_start_idx, farskip_end_idx (inclusive, may exceed the depth),
  /// attn_only_farskip, mlp_only_farskip and farskip_lag; regular where `farskip` is absent or
  /// false. `name` is what errors call the file.
  static Connectivity from_json(const nlohmann::ordered_json& config, int64_t depth,
                                const std::string& name);
  /// Stamps (or removes) the keys; the inverse of from_json.
  void to_json(nlohmann::ordered_json& config) const;

  ConnectivityKind kind() const { return kind_; }
  LayerRange range() const { return range_; }
  /// After how many sub-layers a routed output arrives. 1 is FarSkip; other values are refused
  /// until programs for them exist.
  int64_t lag() const { return lag_; }
  bool is_regular() const {
    return kind_ == ConnectivityKind::regular || range_.begin >= range_.end;
  }
  LayerConnectivity layer(int64_t index) const;
  /// Whether both of the last two layers' attention and the MLP before the last are converted.
  bool ends_partial() const;
  /// One line for people: "farskip, layers 0:27 of 27".
  std::string describe() const;

 private:
  ConnectivityKind kind_ = ConnectivityKind::regular;
  LayerRange range_;
  int64_t depth_ = 0;
  int64_t lag_ = 1;
};

/// "regular", "farskip", "attention" or "moe".
ConnectivityKind parse_connectivity_kind(const std::string& text);
std::string to_string(ConnectivityKind kind);

/// `A:B` (half-open, negative and open ends as in Python), `last:N`, `last:P%`, `first:N`,
/// `first:P%`. A percentage is of the depth, rounded to the nearest layer. InputError for a range
/// outside the model.
LayerRange parse_layer_range(const std::string& text, int64_t depth);

}  // namespace farskip::model
