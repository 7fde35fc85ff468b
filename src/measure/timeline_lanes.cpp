#include "measure/timeline_lanes.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "measure/spans.h"
#include "util/error.h"
#include "util/plot.h"

namespace farskip::measure {
namespace {

using schedule::Part, util::concat, util::escaped;

constexpr int kWidth = 1200, kLeft = 92, kRight = 16, kTop = 34;  // the script lays out anew
constexpr int kLayers = 16, kCompute = 32, kMessage = 20, kGap = 3, kBetween = 26;

struct Canvas {
  double per_ns;
  std::string svg;

  /// Labels from long to short; the script takes the longest that fits.
  void span(const std::string& css, int64_t begin, int64_t end, int y, int height,
            const std::string& labels, const std::string& tip) {
    const auto x = [&](int64_t at) { return static_cast<double>(at) * per_ns; };
    char place[80];
    std::snprintf(place, sizeof place, "x=\"%.2f\" width=\"%.2f\"", kLeft + x(begin),
                  x(std::max<int64_t>(0, end - begin)));
    svg += concat("<rect class=\"", css, "\" ", place, " y=\"", y, "\" height=\"", height,
                  "\" data-b=\"", begin, "\" data-e=\"", end, '"');
    if (!labels.empty()) svg += concat(" data-n=\"", escaped(labels), '"');
    if (!tip.empty()) svg += concat(" data-tip=\"", escaped(tip), '"');
    svg += "/>\n";
  }
  void lane(const std::string& name, int y, int height) {
    svg += concat("<text x=\"14\" y=\"", y + height / 2 + 4, "\">", name,
                  "</text>\n<rect class=\"lane\" x=\"", kLeft, "\" y=\"", y, "\" width=\"",
                  kWidth - kLeft - kRight, "\" height=\"", height, "\"/>\n");
  }
};

double seconds(int64_t nanoseconds) {
  return static_cast<double>(nanoseconds) * 1e-9;
}

/// "from 1.2 ms to 1.5 ms (300 us)"
std::string when(int64_t begin, int64_t end) {
  return concat(duration(seconds(end - begin)), ", from ", duration(seconds(begin)), " to ",
                duration(seconds(end)));
}

std::string labels(Part part) {
  const std::string name = schedule::to_string(part);
  switch (part) {
    case Part::attention_prepare:
      return name + "|attn a";
    case Part::attend:
      return name + "|attn b";
    case Part::dense:
      return name + "|MLP";
    case Part::shared:
      return name + "|shared";
    default:
      return name;
  }
}

/// Runs of parts of one layer and direction, as a line above the parts.
void draw_layers(Canvas& canvas, const Timeline& timeline, int y) {
  for (size_t i = 0; i < timeline.parts.size();) {
    const auto& first = timeline.parts[i];
    size_t next = i + 1;
    while (next < timeline.parts.size() && timeline.parts[next].layer == first.layer &&
           timeline.parts[next].backward == first.backward)
      ++next;
    if (first.layer >= 0)
      canvas.span("layer", since_start(timeline, first.begin),
                  since_start(timeline, timeline.parts[next - 1].end), y, kLayers - kGap,
                  concat("layer ", first.layer, first.backward ? " backward|layer " : "|",
                         first.layer, first.backward ? concat("|", first.layer) : ""),
                  "");
    i = next;
  }
}

void draw_compute(Canvas& canvas, const Timeline& timeline, int y) {
  canvas.lane("compute", y, kCompute);
  for (const auto& part : timeline.parts) {
    const int64_t begin = since_start(timeline, part.begin), end = since_start(timeline, part.end);
    canvas.span("part " + css_class(part.part), begin, end, y, kCompute, labels(part.part),
                concat(describe(part), "\n", when(begin, end)));
  }
  for (const Inset& inset : insets(timeline)) {
    const std::string message = timeline.messages[inset.message].name.describe();
    const bool wait = inset.kind == Inset::Kind::wait;
    canvas.span(
        wait ? "wait" : "fill", inset.begin, inset.end, y, kCompute, wait ? "waits" : "",
        concat(wait ? "wait: " : "weight gradients until ", message, "\n",
               when(inset.begin, inset.end),
               wait ? "\nnothing is computed" : "\ncomputed while the message is under way"));
  }
}

void draw_messages(Canvas& canvas, const Timeline& timeline, const std::vector<size_t>& track,
                   int y) {
  const comm::MessageLog log{timeline.messages};
  const std::vector<Inset> inside = insets(timeline);
  for (size_t i = 0; i < log.messages.size(); ++i) {
    const comm::Message& m = log.messages[i];
    const int64_t begin = since_start(timeline, m.launched), end = since_start(timeline, m.arrived);
    const auto traffic =
        comm::measure(log, [&](const comm::Message& other) { return &other == &m; });
    const int top = y + static_cast<int>(track[i]) * (kMessage + kGap);
    char figures[96];
    std::snprintf(
        figures, sizeof figures, "\n%.3f MB to other ranks, %.3g Gbit/s, %.1f%% hidden",
        static_cast<double>(m.bytes) * 1e-6,
        end > begin ? static_cast<double>(8 * m.bytes) / static_cast<double>(end - begin) : 0.0,
        100 * traffic.hidden());
    const std::string name = m.name.describe(), word = comm::to_string(m.name.part);
    canvas.span(css_class(m.name), begin, end, top, kMessage,
                concat(name, "|", word, " ", m.name.layer, "|", m.name.layer),
                concat(name, "\n", when(begin, end), figures));
    // What of it was not hidden, under the message and red like the waits.
    for (const Inset& inset : inside) {
      const int64_t b = std::max(begin, inset.begin), e = std::min(end, inset.end);
      if (inset.kind == Inset::Kind::wait && b < e)
        canvas.span("exposed-part", b, e, top + kMessage - 4, 4, "", "");
    }
  }
}

}  // namespace

std::string css_class(Part part) {
  switch (part) {
    case Part::attention_prepare:
      return "attention-a";
    case Part::attend:
      return "attend";
    case Part::dense:
      return "dense";
    case Part::route:
      return "route";
    case Part::experts:
      return "experts";
    case Part::combine:
      return "combine-part";
    case Part::shared:
      return "shared";
    case Part::head:
      return "head";
    case Part::weight_gradients:
      return "last-gradients";
    case Part::optimizer:
      return "optimizer";
  }
  return "";
}

std::string css_class(const comm::MessageName& name) {
  using enum comm::MessageName::Part;
  if (name.of_update()) return "reduction";
  const bool of_experts = name.part == combine || name.part == routed;
  return concat(of_experts ? "combine" : "dispatch", name.backward ? " back" : "");
}

std::string duration(double seconds) {
  const auto [unit, name] = seconds >= 1      ? std::pair(1.0, "s")
                            : seconds >= 1e-3 ? std::pair(1e-3, "ms")
                                              : std::pair(1e-6, "µs");
  char text[48];
  std::snprintf(text, sizeof text, "%.*f %s", seconds / unit < 10 ? 2 : 1, seconds / unit, name);
  return text;
}

std::string lanes_svg(std::span<const Timeline> ranks) {
  int64_t length = 1;
  for (const Timeline& timeline : ranks) {
    length = std::max(length, since_start(timeline, timeline.end));
    for (const auto& part : timeline.parts)
      length = std::max(length, since_start(timeline, part.end));
  }
  Canvas canvas{(kWidth - kLeft - kRight) / static_cast<double>(length), {}};
  int y = kTop;
  for (const Timeline& timeline : ranks) {
    const std::vector<size_t> track = tracks(timeline);
    const size_t count = track.empty() ? 1 : *std::max_element(track.begin(), track.end()) + 1;
    canvas.svg += concat("<text class=\"rank\" x=\"14\" y=\"", y + 11, "\">rank ", timeline.rank,
                         "</text>\n");
    draw_layers(canvas, timeline, y);
    draw_compute(canvas, timeline, y + kLayers);
    y += kLayers + kCompute + kGap;
    for (size_t i = 0; i < count; ++i)
      canvas.lane(i == 0 ? "messages" : "", y + static_cast<int>(i) * (kMessage + kGap), kMessage);
    draw_messages(canvas, timeline, track, y);
    y += static_cast<int>(count) * (kMessage + kGap) + kBetween;
  }
  const int height = y - kBetween + 6;
  return concat("<svg viewBox=\"0 0 ", kWidth, ' ', height, "\" data-left=\"", kLeft,
                "\" data-length=\"", length,
                "\" role=\"img\" aria-label=\"What every rank computed and which messages were "
                "under way, over time\">\n<g id=\"axis\"></g>\n",
                canvas.svg, "<g id=\"labels\"></g>\n</svg>\n");
}

}  // namespace farskip::measure
