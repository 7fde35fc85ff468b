#include "measure/token_report.h"

#include <optional>

#include "measure/windows.h"
#include "util/error.h"
#include "util/table.h"

namespace farskip::measure {
namespace {

/// Communication of the regular blocking execution, as a share of its time.
double share(const TokenSetting& setting) {
  const TokenResult& base = find(setting.variants, kRegularBlocking);
  return over_rounds(base, &TokenFigures::communication).median /
         over_rounds(base, &TokenFigures::time).median;
}

Summary of_message(const TokenResult& result, size_t index, double MessageFigures::*figure) {
  return over_rounds(result, [&](const TokenFigures& f) { return f.messages.at(index).*figure; });
}

/// What of each message is left of the converted model's overlapped execution.
std::string message_table(const TokenSetting& setting) {
  const TokenResult& result = find(setting.variants, {true, model::Execution::overlapped, true});
  util::Table table({"farskip overlapped: message", "ms", "exposed ms"});
  for (size_t i = 0; i < result.rounds.front().messages.size(); ++i)
    table.add({result.rounds.front().messages[i].name.describe(),
               with_spread(of_message(result, i, &MessageFigures::communication), 1e3, 2),
               with_spread(of_message(result, i, &MessageFigures::exposed), 1e3, 2)});
  return table.markdown() + "\n";
}

/// What overlapped execution of the converted model should come to, where it has messages and its
/// bound was traced.
struct Prediction {
  double time = 0, hidden = 0;
};
std::optional<Prediction> predicted(const TokenSetting& setting) {
  const TokenResult& bound = find(setting.variants, bound_of({.converted = true}));
  if (bound.timeline.parts.empty()) return std::nullopt;
  const Windows found = windows(setting.variants);
  if (found.communication == 0) return std::nullopt;
  return Prediction{over_rounds(bound, &TokenFigures::time).median + found.exposed, found.hidden()};
}

}  // namespace

nlohmann::ordered_json TokenReport::json() const {
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  for (const TokenSetting& setting : settings) {
    const auto prediction = predicted(setting);
    for (const TokenResult& result : setting.variants) {
      nlohmann::ordered_json row = {{"connectivity", result.variant.connectivity_name()},
                                    {"execution", result.variant.execution_name()},
                                    {"network", result.variant.network ? "link" : "none"},
                                    {"link", link},
                                    {"ranks", ranks},
                                    {"layout", layout},
                                    {"batch", setting.batch},
                                    {"batch_of", own_sequences ? "rank" : "all"},
                                    {"prompt", setting.prompt},
                                    {"share", share(setting)}};
      put(row, "speedup", time_ratio(find(setting.variants, kRegularBlocking), result), 1);
      put(row, "to_bound", time_ratio(result, find(setting.variants, bound_of(result.variant))), 1);
      put(row, "ms", over_rounds(result, &TokenFigures::time), 1e3);
      put(row, "communication_ms", over_rounds(result, &TokenFigures::communication), 1e3);
      put(row, "hidden", over_rounds(result, &TokenFigures::hidden), 1);
      put(row, "exposed_ms", over_rounds(result, &TokenFigures::exposed), 1e3);
      put(row, "slowest_hidden", over_rounds(result, &TokenFigures::slowest_hidden), 1);
      put(row, "slowest_exposed_ms", over_rounds(result, &TokenFigures::slowest_exposed), 1e3);
      row["megabytes_sent"] = over_rounds(result, &TokenFigures::megabytes).median;
      if (prediction && result.variant == Variant{true, model::Execution::overlapped, true}) {
        row["predicted_ms"] = 1e3 * prediction->time;
        row["predicted_hidden"] = prediction->hidden;
      }
      row["messages"] = nlohmann::ordered_json::array();
      for (size_t i = 0; i < result.rounds.front().messages.size(); ++i) {
        nlohmann::ordered_json message = {
            {"name", result.rounds.front().messages[i].name.describe()}};
        put(message, "communication_ms", of_message(result, i, &MessageFigures::communication),
            1e3);
        put(message, "exposed_ms", of_message(result, i, &MessageFigures::exposed), 1e3);
        row["messages"].push_back(std::move(message));
      }
      rows.push_back(std::move(row));
    }
  }
  return {{"rows", std::move(rows)}};
}

std::string TokenReport::text(bool by_message) const {
  std::string text;
  for (const TokenSetting& setting : settings) {
    text +=
        util::concat(figure, ", ", setting.batch, " x ", setting.prompt,
                     ranks > 1 && own_sequences ? " tokens a rank, " : " tokens, ", ranks,
                     ranks == 1 ? " rank" : " ranks", ranks == 1 ? "" : ", " + layout, ", link ",
                     link, ": communication is ", percent(share(setting)), " of regular blocking");
    if (const auto prediction = predicted(setting))
      text += util::concat("; the method's windows hide ", percent(prediction->hidden),
                           " of farskip's and predict ", util::fixed(1e3 * prediction->time, 1),
                           " ms for farskip overlapped");
    text += "\n\n";
    util::Table table({"connectivity", "execution", "ms", "speed-up", "to bound", "communication",
                       "hidden", "exposed", "slowest rank", "exposed", "MB sent"});
    for (const TokenResult& result : setting.variants) {
      const auto& variants = setting.variants;
      const bool network = result.variant.network;
      table.add({result.variant.connectivity_name(),
                 network ? result.variant.execution_name() : "no network",
                 with_spread(over_rounds(result, &TokenFigures::time), 1e3, 2),
                 with_spread(time_ratio(find(variants, kRegularBlocking), result), 1, 2),
                 with_spread(time_ratio(result, find(variants, bound_of(result.variant))), 1, 2),
                 util::fixed(1e3 * over_rounds(result, &TokenFigures::communication).median, 2),
                 network ? percent(over_rounds(result, &TokenFigures::hidden).median) : "",
                 util::fixed(1e3 * over_rounds(result, &TokenFigures::exposed).median, 2),
                 network ? percent(over_rounds(result, &TokenFigures::slowest_hidden).median) : "",
                 util::fixed(1e3 * over_rounds(result, &TokenFigures::slowest_exposed).median, 2),
                 util::fixed(over_rounds(result, &TokenFigures::megabytes).median, 3)});
    }
    text += table.markdown() + "\n";
    if (by_message) text += message_table(setting);
  }
  return text;
}

}  // namespace farskip::measure
