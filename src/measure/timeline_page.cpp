#include "measure/timeline_page.h"

#include <algorithm>
#include <cstdio>
#include <map>

#include "measure/timeline_assets.h"
#include "measure/timeline_lanes.h"
#include "measure/variant.h"
#include "util/error.h"
#include "util/plot.h"

namespace farskip::measure {
namespace {

using schedule::Part, util::concat, util::escaped;

/// Sums over the messages of all ranks; a rank's messages are held against its own waits.
struct Sums {
  comm::Traffic all, forward, backward, update;
};

Sums sums(std::span<const Timeline> ranks) {
  Sums sums;
  for (const Timeline& timeline : ranks) {
    const comm::MessageLog log{timeline.messages};
    sums.all += comm::measure(log, [](const auto&) { return true; });
    sums.forward +=
        comm::measure(log, [](const auto& m) { return !m.name.backward && !m.name.of_update(); });
    sums.update += comm::measure(log, [](const auto& m) { return m.name.of_update(); });
    sums.backward += comm::measure(log, [](const auto& m) { return m.name.backward; });
  }
  return sums;
}

std::string hidden(const comm::Traffic& traffic) {
  return traffic.communication > 0 ? percent(traffic.hidden()) : "\u2013";
}

std::string card(const char* css, const std::string& name, const std::string& figure,
                 const std::string& more) {
  return concat("<div class=\"card ", css, "\"><span>", name, "</span><b>", figure, "</b><small>",
                more, "</small></div>\n");
}

std::string cards(std::span<const Timeline> ranks) {
  const Sums sum = sums(ranks);
  const double count = std::max<double>(1, static_cast<double>(ranks.size()));
  double step = 0;
  for (const Timeline& timeline : ranks)
    step = std::max(step, std::chrono::duration<double>(timeline.end - timeline.start).count());
  char megabytes[64];
  std::snprintf(megabytes, sizeof megabytes, "%.2f MB", static_cast<double>(sum.all.bytes) * 1e-6);
  const auto split = [&](const auto& figure, const std::string& otherwise = {}) {
    if (sum.backward.messages == 0) return otherwise;
    return concat("forward ", figure(sum.forward), " \u00b7 backward ", figure(sum.backward),
                  sum.update.messages == 0 ? "" : " \u00b7 update " + figure(sum.update));
  };
  const auto mean = [&](double seconds) { return duration(seconds / count); };
  const double exposed = step > 0 ? sum.all.exposed / count / step : 0;  // D2
  return concat("<div class=\"cards\">\n",
                card("", "Step", duration(step),
                     concat(ranks.size(), ranks.size() == 1 ? " rank, " : " ranks, ",
                            sum.all.messages, " messages, ", megabytes)),
                card("", "Communication hidden", hidden(sum.all), split(hidden)),
                card("", "Communication a rank", mean(sum.all.communication),
                     split([&](const comm::Traffic& t) { return mean(t.communication); })),
                card("exposed", "Exposed a rank", mean(sum.all.exposed),
                     split([&](const comm::Traffic& t) { return mean(t.exposed); },
                           percent(exposed) + " of the step")),
                "</div>\n");
}

bool any_part(std::span<const Timeline> ranks, const auto& matches) {
  return std::any_of(ranks.begin(), ranks.end(), [&](const Timeline& timeline) {
    return std::any_of(timeline.parts.begin(), timeline.parts.end(), matches);
  });
}

/// CSS class -> the kinds of messages that it colours.
std::map<std::string, std::vector<std::string>> message_kinds(std::span<const Timeline> ranks) {
  std::map<std::string, std::vector<std::string>> kinds;
  for (const Timeline& timeline : ranks)
    for (const comm::Message& message : timeline.messages) {
      const std::string name =
          comm::to_string(message.name.part) + (message.name.backward ? " gradient" : "");
      auto& names = kinds[css_class(message.name)];
      if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
    }
  return kinds;
}

std::string legend(std::span<const Timeline> ranks) {
  const auto entry = [](const std::string& css, const std::string& under, const std::string& name) {
    const std::string swatch = "width=\"16\" height=\"12\" rx=\"2\"/>";
    return concat("<span><svg>",
                  under.empty() ? "" : concat("<rect class=\"", under, "\" ", swatch),
                  "<rect class=\"", css, "\" ", swatch, "</svg>", name, "</span>\n");
  };
  std::string out = "<div class=\"legend\"><b>compute</b>\n";
  for (int i = 0; i <= static_cast<int>(Part::optimizer); ++i) {
    const Part part = static_cast<Part>(i);
    if (any_part(ranks, [&](const auto& span) { return span.part == part; }))
      out += entry(css_class(part), "", schedule::to_string(part));
  }
  if (any_part(ranks, [](const auto& span) { return span.backward; }))
    out += entry("fill", "attend", "weight gradients, updates");
  out += entry("wait", "", "<b>waiting</b>");
  out += "</div>\n<div class=\"legend\"><b>messages</b>\n";
  const auto kinds = message_kinds(ranks);
  for (const auto& [css, names] : kinds) {
    std::string text;
    for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
    out += entry(css, "", text);
  }
  return out + concat("<span>",
                      kinds.empty() ? "none" : "with a red foot while compute waits (exposed)",
                      "</span></div>\n");
}

}  // namespace

std::string timeline_page(std::span<const Timeline> ranks, const std::string& title,
                          const std::vector<std::string>& caption, Refresh refresh) {
  std::string paragraphs;
  for (const std::string& line : caption) paragraphs += concat("<p>", escaped(line), "</p>\n");
  return concat(
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width\">\n<title>",
      escaped(title), "</title>\n<style>", timeline_style(), "</style></head>\n<body",
      refresh == Refresh::every_second ? " data-live" : "", ">\n<h1>", escaped(title),
      "</h1>\n<div id=\"figures\">\n", paragraphs,
      ranks.empty() ? "" : cards(ranks) + legend(ranks), "</div>\n",
      // The pattern is drawn over a part, whose colour it lightens.
      "<svg width=\"0\" height=\"0\" style=\"position:absolute\" aria-hidden=\"true\"><defs>"
      "<pattern id=\"stripes\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\" "
      "patternTransform=\"rotate(45)\"><rect class=\"stripe\" width=\"3\" height=\"6\"/></pattern>"
      "</defs></svg>\n",
      "<div class=\"chart\" tabindex=\"0\">\n", lanes_svg(ranks), "</div>\n",
      "<p class=\"help\"><kbd>wheel</kbd> <kbd>+</kbd> <kbd>\u2212</kbd> zoom \u00b7 "
      "<kbd>drag</kbd> <kbd>\u2190</kbd> <kbd>\u2192</kbd> move \u00b7 <kbd>n</kbd> <kbd>p</kbd> "
      "next and previous wait \u00b7 <kbd>0</kbd> whole step</p>\n"
      "<div id=\"tip\" role=\"status\"></div>\n<script>",
      timeline_script(), "</script>\n</body></html>\n");
}

}  // namespace farskip::measure
