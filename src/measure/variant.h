// The executions that a benchmark holds against each other.
#pragma once
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "measure/statistics.h"
#include "model/expert_exchange.h"
#include "util/error.h"

namespace farskip::measure {

struct Variant {
  bool converted = false;  ///< with the given connectivity, else regular
  model::Execution execution = model::Execution::blocking;
  /// false: messages are replaced by local copies of equal size, the bound of any execution.
  bool network = true;

  bool operator==(const Variant&) const = default;
  /// "regular" or "farskip"
  const char* connectivity_name() const;
  /// "blocking" or "overlapped"
  const char* execution_name() const;
};

/// What everything is compared with.
inline constexpr Variant kRegularBlocking{};
/// The least that any execution of the connectivity can take.
inline constexpr Variant bound_of(const Variant& variant) {
  return {variant.converted, model::Execution::overlapped, /*network=*/false};
}
/// Regular and converted, blocking and overlapped, and each without a network.
std::vector<Variant> all_variants();

/// The variant's result, of those of a setting.
template <class Result>
const Result& find(const std::vector<Result>& results, const Variant& variant) {
  for (const Result& result : results)
    if (result.variant == variant) return result;
  throw Error("bench: a variant is missing");
}

/// get(figures), or a member of them, over a variant's rounds.
template <class Result, class Get>
Summary over_rounds(const Result& result, const Get& get) {
  std::vector<double> values;
  for (const auto& figures : result.rounds) values.push_back(std::invoke(get, figures));
  return summarise(values);
}

/// How many times as long as `other` it takes: of rounds, whose variants were measured one after
/// the other, so that a machine that slows down slows both.
template <class Result>
Summary time_ratio(const Result& result, const Result& other) {
  std::vector<double> values;
  for (size_t i = 0; i < result.rounds.size(); ++i)
    values.push_back(result.rounds[i].time / other.rounds[i].time);
  return summarise(values);
}

/// json[name] and json[name_spread], in units of `unit`.
void put(nlohmann::ordered_json& json, const std::string& name, Summary summary, double unit);
/// "12.3 ± 0.4"
std::string with_spread(Summary summary, double unit, int digits);
/// "12.3 %"
std::string percent(double share);

}  // namespace farskip::measure
