#include "measure/step_report.h"

#include <functional>

#include "measure/statistics.h"
#include "util/error.h"
#include "util/table.h"

namespace farskip::measure {
namespace {

using model::Execution;
using Get = std::function<double(const StepFigures&)>;

double step_time(const VariantResult& result) {
  return over_rounds(result, [](const StepFigures& f) { return f.time; }).median;
}

const VariantResult& regular_blocking(const StepSetting& setting) {
  return find(setting.variants, kRegularBlocking);
}

double communication(const StepFigures& figures) {
  return figures.forward.communication + figures.backward.communication +
         figures.gradients.communication + figures.weights.communication;
}

/// Communication of the regular blocking step, as a share of that step.
double share(const StepSetting& setting) {
  const VariantResult& base = regular_blocking(setting);
  return over_rounds(base, communication).median / step_time(base);
}

using Direction = std::function<const DirectionFigures&(const StepFigures&)>;

nlohmann::ordered_json messages_json(const VariantResult& result, const Direction& of) {
  nlohmann::ordered_json json;
  put(json, "communication_ms",
      over_rounds(result, [&](const auto& f) { return of(f).communication; }), 1e3);
  put(json, "hidden", over_rounds(result, [&](const auto& f) { return of(f).hidden(); }), 1);
  put(json, "exposed_ms", over_rounds(result, [&](const auto& f) { return of(f).exposed; }), 1e3);
  return json;
}

nlohmann::ordered_json direction_json(const VariantResult& result, const Direction& of) {
  nlohmann::ordered_json json;
  put(json, "ms", over_rounds(result, [&](const auto& f) { return of(f).time; }), 1e3);
  json.update(messages_json(result, of));
  return json;
}

const DirectionFigures& forward(const StepFigures& figures) {
  return figures.forward;
}
const DirectionFigures& backward(const StepFigures& figures) {
  return figures.backward;
}

const DirectionFigures& gradients(const StepFigures& figures) {
  return figures.gradients;
}
const DirectionFigures& weights(const StepFigures& figures) {
  return figures.weights;
}

nlohmann::ordered_json layers_json(const VariantResult& result) {
  nlohmann::ordered_json layers = nlohmann::ordered_json::array();
  for (const auto& [layer, unused] : result.rounds.front().forward_by_layer)
    layers.push_back(
        {{"layer", layer},
         {"forward", messages_json(result,
                                   [k = layer](const StepFigures& f) -> const DirectionFigures& {
                                     return f.forward_by_layer.at(k);
                                   })},
         {"backward",
          messages_json(result, [k = layer](const StepFigures& f) -> const DirectionFigures& {
            return f.backward_by_layer.at(k);
          })}});
  return layers;
}

/// Communication, hidden, exposed.
void add_messages(std::vector<std::string>& row, const VariantResult& result, const Direction& of) {
  const auto median = [&](const Get& get) { return over_rounds(result, get).median; };
  row.push_back(util::fixed(1e3 * median([&](const auto& f) { return of(f).communication; }), 1));
  row.push_back(
      result.variant.network ? percent(median([&](const auto& f) { return of(f).hidden(); })) : "");
  row.push_back(util::fixed(1e3 * median([&](const auto& f) { return of(f).exposed; }), 1));
}

/// What the ranks exchange for the update.
util::Table reduction_table(const StepSetting& setting) {
  util::Table table({"connectivity", "execution", "gradients: communication", "hidden", "exposed",
                     "weights: communication", "hidden", "exposed"});
  for (const VariantResult& result : setting.variants) {
    if (!result.variant.network) continue;
    std::vector<std::string> row = {result.variant.connectivity_name(),
                                    result.variant.execution_name()};
    for (const auto& of : {gradients, weights}) add_messages(row, result, of);
    table.add(row);
  }
  return table;
}

}  // namespace

std::string to_string(Update update) {
  switch (update) {
    case Update::none:
      return "none";
    case Update::own:
      return "own";
    case Update::all:
      return "all";
  }
  return "";
}

void StepReport::add(int64_t batch, int64_t sequence, std::vector<VariantResult> results) {
  settings_.push_back({batch, sequence, std::move(results)});
}

double predicted_time(const StepSetting& setting) {
  using schedule::Part;
  const VariantResult& bound = find(setting.variants, bound_of({.converted = true}));
  const VariantResult& messages = regular_blocking(setting);
  std::map<int64_t, double> forward_window;
  double backward_window = 0;
  for (const schedule::PartSpan& span : bound.timeline.parts) {
    if (span.part == Part::experts || span.part == Part::route || span.part == Part::combine ||
        span.part == Part::optimizer)
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
    const VariantResult& base = regular_blocking(setting);
    for (const VariantResult& result : setting.variants) {
      nlohmann::ordered_json row = {{"connectivity", result.variant.connectivity_name()},
                                    {"execution", result.variant.execution_name()},
                                    {"network", result.variant.network ? "link" : "none"},
                                    {"link", link},
                                    {"ranks", ranks},
                                    {"batch", setting.batch},
                                    {"sequence", setting.sequence},
                                    {"share", share(setting)}};
      const VariantResult& bound = find(setting.variants, bound_of(result.variant));
      put(row, "speedup", time_ratio(base, result), 1);
      put(row, "to_bound", time_ratio(result, bound), 1);
      put(row, "step_ms", over_rounds(result, [](const auto& f) { return f.time; }), 1e3);
      row["forward"] = direction_json(result, forward);
      row["backward"] = direction_json(result, backward);
      row["update"] = to_string(update);
      if (update == Update::all && result.variant.network) {
        row["gradients"] = messages_json(result, gradients);
        row["weights"] = messages_json(result, weights);
      }
      row["megabytes_sent"] = over_rounds(result, [](const auto& f) { return f.megabytes; }).median;
      row["queue_mib"] =
          over_rounds(result, [](const auto& f) { return f.queue_bytes; }).median / 1048576;
      row["in_flight_mib"] =
          over_rounds(result, [](const auto& f) { return f.flight_bytes; }).median / 1048576;
      if (result.variant == Variant{true, Execution::overlapped, true} && update != Update::all)
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
    const VariantResult& base = regular_blocking(setting);
    text += util::concat(setting.batch, " x ", setting.sequence, " tokens a rank, ", ranks,
                         " ranks, link ", link, ": communication is ", percent(share(setting)),
                         " of the regular blocking step");
    if (update != Update::all)
      text += util::concat("; eq. 9 predicts ", util::fixed(1e3 * predicted_time(setting), 1),
                           " ms for farskip overlapped");
    text += "\n\n";
    util::Table table({"connectivity", "execution", "step ms", "speed-up", "to bound", "forward ms",
                       "communication", "hidden", "exposed", "backward ms", "communication",
                       "hidden", "exposed"});
    for (const VariantResult& result : setting.variants) {
      const VariantResult& bound = find(setting.variants, bound_of(result.variant));
      std::vector<std::string> row = {
          result.variant.connectivity_name(),
          result.variant.network ? result.variant.execution_name() : "no network",
          with_spread(over_rounds(result, [](const auto& f) { return f.time; }), 1e3, 1),
          with_spread(time_ratio(base, result), 1, 2),
          with_spread(time_ratio(result, bound), 1, 2)};
      for (const auto& of : {forward, backward}) {
        const auto time = over_rounds(result, [&](const auto& f) { return of(f).time; });
        row.push_back(util::fixed(1e3 * time.median, 1));
        add_messages(row, result, of);
      }
      table.add(row);
    }
    text += table.markdown() + "\n";
    if (update == Update::all) text += reduction_table(setting).markdown() + "\n";
    if (!by_layer) continue;
    util::Table layers({"layer", "regular blocking: forward ms", "backward ms",
                        "farskip overlapped: forward ms", "hidden", "backward ms", "hidden"});
    const VariantResult& plain = regular_blocking(setting);
    const VariantResult& best = find(setting.variants, {true, Execution::overlapped, true});
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
