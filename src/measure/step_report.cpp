#include "measure/step_report.h"

#include <functional>

#include "measure/statistics.h"
#include "util/error.h"
#include "util/table.h"

namespace farskip::measure {
namespace {

using model::Execution;
using Get = std::function<double(const StepFigures&)>;

Summary over_rounds(const VariantResult& result, const Get& get) {
  std::vector<double> values;
  for (const StepFigures& figures : result.rounds) values.push_back(get(figures));
  return summarise(values);
}

double step_time(const VariantResult& result) {
  return over_rounds(result, [](const StepFigures& f) { return f.time; }).median;
}

/// How many times as long as `other` it takes: of rounds, whose variants were measured one after
/// the other, so that a machine that slows down slows both.
Summary ratio(const VariantResult& result, const VariantResult& other) {
  std::vector<double> values;
  for (size_t i = 0; i < result.rounds.size(); ++i)
    values.push_back(result.rounds[i].time / other.rounds[i].time);
  return summarise(values);
}

const VariantResult& find(const StepSetting& setting, bool converted, Execution execution,
                          bool network) {
  for (const VariantResult& result : setting.variants)
    if (result.variant.converted == converted && result.variant.network == network &&
        (!network || result.variant.execution == execution))
      return result;
  throw Error("bench: a variant is missing");
}

double communication(const StepFigures& figures) {
  return figures.forward.communication + figures.backward.communication;
}

/// Communication of the regular blocking step, as a share of that step.
double share(const StepSetting& setting) {
  const VariantResult& base = find(setting, false, Execution::blocking, true);
  return over_rounds(base, communication).median / step_time(base);
}

const char* connectivity(const VariantResult& result) {
  return result.variant.converted ? "farskip" : "regular";
}
const char* execution(const VariantResult& result) {
  return result.variant.execution == Execution::blocking ? "blocking" : "overlapped";
}

void put(nlohmann::ordered_json& json, const std::string& name, Summary summary, double unit) {
  json[name] = summary.median * unit;
  json[name + "_spread"] = summary.spread * unit;
}

nlohmann::ordered_json direction_json(
    const VariantResult& result,
    const std::function<const DirectionFigures&(const StepFigures&)>& of) {
  nlohmann::ordered_json json;
  put(json, "ms", over_rounds(result, [&](const auto& f) { return of(f).time; }), 1e3);
  put(json, "communication_ms",
      over_rounds(result, [&](const auto& f) { return of(f).communication; }), 1e3);
  put(json, "hidden", over_rounds(result, [&](const auto& f) { return of(f).hidden(); }), 1);
  put(json, "exposed_ms", over_rounds(result, [&](const auto& f) { return of(f).exposed; }), 1e3);
  return json;
}

const DirectionFigures& forward(const StepFigures& figures) {
  return figures.forward;
}
const DirectionFigures& backward(const StepFigures& figures) {
  return figures.backward;
}

nlohmann::ordered_json layers_json(const VariantResult& result) {
  nlohmann::ordered_json layers = nlohmann::ordered_json::array();
  for (const auto& [layer, unused] : result.rounds.front().forward_by_layer)
    layers.push_back(
        {{"layer", layer},
         {"forward", direction_json(result,
                                    [k = layer](const StepFigures& f) -> const DirectionFigures& {
                                      return f.forward_by_layer.at(k);
                                    })},
         {"backward",
          direction_json(result, [k = layer](const StepFigures& f) -> const DirectionFigures& {
            return f.backward_by_layer.at(k);
          })}});
  for (auto& layer : layers)
    for (const char* way : {"forward", "backward"})
      for (const char* time : {"ms", "ms_spread"}) layer[way].erase(time);
  return layers;
}

std::string with_spread(Summary summary, double unit, int digits) {
  return util::fixed(summary.median * unit, digits) + " ± " +
         util::fixed(summary.spread * unit, digits);
}

std::string percent(double share) {
  return util::fixed(100 * share, 1) + " %";
}

}  // namespace

std::vector<Variant> StepReport::variants() {
  return {{false, Execution::blocking, true},    {false, Execution::overlapped, true},
          {true, Execution::blocking, true},     {true, Execution::overlapped, true},
          {false, Execution::overlapped, false}, {true, Execution::overlapped, false}};
}

void StepReport::add(int64_t batch, int64_t sequence, std::vector<VariantResult> results) {
  settings_.push_back({batch, sequence, std::move(results)});
}

double predicted_time(const StepSetting& setting) {
  using schedule::Part;
  const VariantResult& bound = find(setting, true, Execution::overlapped, false);
  const VariantResult& messages = find(setting, false, Execution::blocking, true);
  std::map<int64_t, double> forward_window;
  double backward_window = 0;
  for (const schedule::PartSpan& span : bound.timeline.parts) {
    if (span.part == Part::experts || span.part == Part::route || span.part == Part::combine)
      continue;
    const double time = std::chrono::duration<double>(span.end - span.begin).count();
    if (span.backward)
      backward_window += time;
    else
      forward_window[span.layer] += time;
  }
  // The head runs under the last combine.
  const auto& layers = messages.rounds.front().forward_by_layer;
  if (!layers.empty()) forward_window[layers.rbegin()->first] += forward_window[-1];
  double exposed = 0;
  for (const auto& [layer, unused] : layers) {
    const double sent = over_rounds(messages, [k = layer](const StepFigures& f) {
                          return f.forward_by_layer.at(k).communication;
                        }).median;
    exposed += std::max(0.0, sent - forward_window[layer]);
  }
  const double back =
      over_rounds(messages, [](const StepFigures& f) { return f.backward.communication; }).median;
  return step_time(bound) + exposed + std::max(0.0, back - backward_window);
}

nlohmann::ordered_json StepReport::json() const {
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  for (const StepSetting& setting : settings_) {
    const VariantResult& base = find(setting, false, Execution::blocking, true);
    for (const VariantResult& result : setting.variants) {
      nlohmann::ordered_json row = {{"connectivity", connectivity(result)},
                                    {"execution", execution(result)},
                                    {"network", result.variant.network ? "link" : "none"},
                                    {"link", link},
                                    {"ranks", ranks},
                                    {"batch", setting.batch},
                                    {"sequence", setting.sequence},
                                    {"share", share(setting)}};
      const VariantResult& bound =
          find(setting, result.variant.converted, Execution::overlapped, false);
      put(row, "speedup", ratio(base, result), 1);
      put(row, "to_bound", ratio(result, bound), 1);
      put(row, "step_ms", over_rounds(result, [](const auto& f) { return f.time; }), 1e3);
      row["forward"] = direction_json(result, forward);
      row["backward"] = direction_json(result, backward);
      row["megabytes_sent"] = over_rounds(result, [](const auto& f) { return f.megabytes; }).median;
      row["queue_mib"] =
          over_rounds(result, [](const auto& f) { return f.queue_bytes; }).median / 1048576;
      row["in_flight_mib"] =
          over_rounds(result, [](const auto& f) { return f.flight_bytes; }).median / 1048576;
      if (result.variant.converted && result.variant.network &&
          result.variant.execution == Execution::overlapped)
        row["predicted_ms"] = 1e3 * predicted_time(setting);
      row["layers"] = layers_json(result);
      rows.push_back(std::move(row));
    }
  }
  return {{"rows", std::move(rows)}};
}

std::string StepReport::text(bool by_layer) const {
  std::string text;
  for (const StepSetting& setting : settings_) {
    const VariantResult& base = find(setting, false, Execution::blocking, true);
    text += util::concat(setting.batch, " x ", setting.sequence, " tokens a rank, ", ranks,
                         " ranks, link ", link, ": communication is ", percent(share(setting)),
                         " of the regular blocking step; eq. 9 predicts ",
                         util::fixed(1e3 * predicted_time(setting), 1),
                         " ms for farskip overlapped\n\n");
    util::Table table({"connectivity", "execution", "step ms", "speed-up", "to bound", "forward ms",
                       "communication", "hidden", "exposed", "backward ms", "communication",
                       "hidden", "exposed"});
    for (const VariantResult& result : setting.variants) {
      const VariantResult& bound =
          find(setting, result.variant.converted, Execution::overlapped, false);
      std::vector<std::string> row = {
          connectivity(result), result.variant.network ? execution(result) : "no network",
          with_spread(over_rounds(result, [](const auto& f) { return f.time; }), 1e3, 1),
          with_spread(ratio(base, result), 1, 2), with_spread(ratio(result, bound), 1, 2)};
      for (const auto& of : {forward, backward}) {
        const auto median = [&](const Get& get) { return over_rounds(result, get).median; };
        row.push_back(util::fixed(1e3 * median([&](const auto& f) { return of(f).time; }), 1));
        row.push_back(
            util::fixed(1e3 * median([&](const auto& f) { return of(f).communication; }), 1));
        row.push_back(result.variant.network
                          ? percent(median([&](const auto& f) { return of(f).hidden(); }))
                          : "");
        row.push_back(util::fixed(1e3 * median([&](const auto& f) { return of(f).exposed; }), 1));
      }
      table.add(row);
    }
    text += table.markdown() + "\n";
    if (!by_layer) continue;
    util::Table layers({"layer", "regular blocking: forward ms", "backward ms",
                        "farskip overlapped: forward ms", "hidden", "backward ms", "hidden"});
    const VariantResult& plain = find(setting, false, Execution::blocking, true);
    const VariantResult& best = find(setting, true, Execution::overlapped, true);
    for (const auto& [layer, unused] : plain.rounds.front().forward_by_layer) {
      std::vector<std::string> row = {std::to_string(layer)};
      const auto figure = [k = layer](const VariantResult& result, bool back, auto get) {
        return over_rounds(result,
                           [&](const StepFigures& f) {
                             return get((back ? f.backward_by_layer : f.forward_by_layer).at(k));
                           })
            .median;
      };
      const auto sent = [](const DirectionFigures& d) { return 1e3 * d.communication; };
      const auto hidden = [](const DirectionFigures& d) { return d.hidden(); };
      for (const bool back : {false, true})
        row.push_back(util::fixed(figure(plain, back, sent), 1));
      for (const bool back : {false, true}) {
        row.push_back(util::fixed(figure(best, back, sent), 1));
        row.push_back(percent(figure(best, back, hidden)));
      }
      layers.add(row);
    }
    text += layers.markdown() + "\n";
  }
  return text;
}

}  // namespace farskip::measure
