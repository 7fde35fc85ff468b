#include "util/plot.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>

#include "util/error.h"

namespace farskip::util {
namespace {

constexpr int kLeft = 72, kTop = 46, kBottom = 56;
constexpr size_t kMaxPoints = 1000;
// Okabe and Ito's colours: told apart by readers who see colours differently.
constexpr const char* kColours[] = {"#0072B2", "#D55E00", "#009E73", "#CC79A7",
                                    "#E69F00", "#56B4E9", "#000000"};

std::string number(double value, const char* format = "%.1f") {
  char text[48];
  std::snprintf(text, sizeof text, format, value);
  return text;
}

/// The same number of digits after the point for all ticks of a linear axis, `step` apart; 0: as
/// few as each needs.
std::string tick_label(double value, double step) {
  const double size = std::abs(value);
  const struct {
    double unit;
    const char* suffix;
  } units[] = {{1e9, "G"}, {1e6, "M"}, {1e4, "k"}};
  for (const auto& [unit, suffix] : units)
    if (size >= unit) return number(value / (unit == 1e4 ? 1e3 : unit), "%.4g") + suffix;
  if (step > 0 && step < 1 && step >= 1e-4) {
    const int digits = static_cast<int>(std::ceil(-std::log10(step) - 1e-9));
    return number(value, ("%." + std::to_string(digits) + "f").c_str());
  }
  return number(size < 1e-12 ? 0 : value, "%.4g");
}

std::vector<double> log_ticks(double low, double high) {
  const int first = static_cast<int>(std::floor(std::log10(low) + 1e-9));
  const int last = std::max(first + 1, static_cast<int>(std::ceil(std::log10(high) - 1e-9)));
  const bool fine = last - first <= 2;
  std::vector<double> ticks;
  for (int power = first; power <= last; ++power)
    for (const int factor : {1, 2, 5})
      if (factor == 1 || (fine && power < last)) ticks.push_back(factor * std::pow(10.0, power));
  // Ends next to the data, not at a whole power of ten far away.
  while (ticks.size() > 2 && ticks[1] <= low) ticks.erase(ticks.begin());
  while (ticks.size() > 2 && ticks[ticks.size() - 2] >= high) ticks.pop_back();
  return ticks;
}

struct Axis {
  bool log;
  std::vector<double> ticks;

  Axis(bool log, double low, double high, int count)
      : log(log), ticks(log ? log_ticks(low, high) : nice_ticks(low, high, count)) {}
  std::string label(double tick) const { return tick_label(tick, log ? 0 : ticks[1] - ticks[0]); }
  /// 0 at the first tick, 1 at the last.
  double place(double value) const {
    const auto scale = [&](double v) { return log ? std::log10(v) : v; };
    return (scale(value) - scale(ticks.front())) / (scale(ticks.back()) - scale(ticks.front()));
  }
};

std::vector<std::pair<double, double>> usable(const Plot& plot, const Series& series) {
  std::vector<std::pair<double, double>> points;
  for (const auto& [x, y] : series.points)
    if (std::isfinite(x) && std::isfinite(y) && (!plot.log_x || x > 0) && (!plot.log_y || y > 0))
      points.emplace_back(x, y);
  const size_t run = (points.size() + kMaxPoints - 1) / kMaxPoints;
  if (run < 2) return points;
  std::vector<std::pair<double, double>> thinned;
  for (size_t begin = 0; begin < points.size(); begin += run) {
    const size_t end = std::min(points.size(), begin + run);
    double x = 0, y = 0;
    for (size_t i = begin; i < end; ++i) x += points[i].first, y += points[i].second;
    const auto count = static_cast<double>(end - begin);
    thinned.emplace_back(x / count, y / count);
  }
  return thinned;
}

std::string text(double x, double y, const std::string& words, const std::string& attributes) {
  return concat("<text x=\"", number(x), "\" y=\"", number(y), "\" ", attributes, ">",
                escaped(words), "</text>\n");
}

std::string line(double x1, double y1, double x2, double y2, const char* colour) {
  return concat("<line x1=\"", number(x1), "\" y1=\"", number(y1), "\" x2=\"", number(x2),
                "\" y2=\"", number(y2), "\" stroke=\"", colour, "\"/>\n");
}

}  // namespace

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '&')
      out += "&amp;";
    else if (c == '<')
      out += "&lt;";
    else if (c == '>')
      out += "&gt;";
    else if (c == '"')
      out += "&quot;";
    else
      out += c;
  }
  return out;
}

std::vector<double> nice_ticks(double low, double high, int count) {
  if (!(high > low)) {
    const double margin = std::max(std::abs(low) * 0.1, 1e-6);
    low -= margin;
    high += margin;
  }
  const double raw = (high - low) / std::max(1, count);
  const double power = std::pow(10.0, std::floor(std::log10(raw)));
  double step = 10 * power;
  for (const double factor : {1.0, 2.0, 5.0})
    if (factor * power >= raw * 0.999) {
      step = factor * power;
      break;
    }
  std::vector<double> ticks;
  const auto first = static_cast<int64_t>(std::floor(low / step + 1e-9));
  const auto last = static_cast<int64_t>(std::ceil(high / step - 1e-9));
  for (int64_t i = first; i <= last; ++i) ticks.push_back(static_cast<double>(i) * step);
  return ticks;
}

std::string svg(const Plot& plot) {
  double x_low = std::numeric_limits<double>::infinity(), x_high = -x_low;
  double y_low = x_low, y_high = -x_low;
  std::vector<std::vector<std::pair<double, double>>> lines;
  size_t longest = 0;
  for (const Series& series : plot.series) {
    lines.push_back(usable(plot, series));
    longest = std::max(longest, series.name.size());
    for (const auto& [x, y] : lines.back()) {
      x_low = std::min(x_low, x), x_high = std::max(x_high, x);
      y_low = std::min(y_low, y), y_high = std::max(y_high, y);
    }
  }
  if (!(x_low <= x_high)) x_low = y_low = 1, x_high = y_high = 10;  // nothing to show: empty axes
  const Axis x_axis(plot.log_x, x_low, x_high, 7), y_axis(plot.log_y, y_low, y_high, 6);
  const double legend = 44 + 7.0 * static_cast<double>(longest);
  const double inner_width = plot.width - kLeft - legend - 8,
               inner_height = plot.height - kTop - kBottom;
  const auto px = [&](double x) { return kLeft + x_axis.place(x) * inner_width; };
  const auto py = [&](double y) { return kTop + (1 - y_axis.place(y)) * inner_height; };

  std::string out =
      concat("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"", plot.width, "\" height=\"",
             plot.height, "\" viewBox=\"0 0 ", plot.width, ' ', plot.height,
             "\" font-family=\"sans-serif\" font-size=\"12\">\n", "<title>", escaped(plot.title),
             "</title>\n", "<rect width=\"100%\" height=\"100%\" fill=\"#fcfcfc\"/>\n");
  out += text(kLeft, 26, plot.title, "font-size=\"16\" font-weight=\"bold\" fill=\"#222\"");
  for (const double tick : y_axis.ticks) {
    out += line(kLeft, py(tick), kLeft + inner_width, py(tick), "#e2e2e2");
    out += text(kLeft - 8, py(tick) + 4, y_axis.label(tick), "text-anchor=\"end\" fill=\"#444\"");
  }
  for (const double tick : x_axis.ticks) {
    out += line(px(tick), kTop + inner_height, px(tick), kTop + inner_height + 5, "#666");
    out += text(px(tick), kTop + inner_height + 20, x_axis.label(tick),
                "text-anchor=\"middle\" fill=\"#444\"");
  }
  out += line(kLeft, kTop + inner_height, kLeft + inner_width, kTop + inner_height, "#666");
  out += line(kLeft, kTop, kLeft, kTop + inner_height, "#666");
  out += text(kLeft + inner_width / 2, plot.height - 14, plot.x_label,
              "text-anchor=\"middle\" fill=\"#222\"");
  const double middle = kTop + inner_height / 2;
  out += text(18, middle, plot.y_label,
              concat("text-anchor=\"middle\" fill=\"#222\" transform=\"rotate(-90 18 ",
                     number(middle), ")\""));

  for (size_t s = 0; s < lines.size(); ++s) {
    const char* colour = kColours[s % std::size(kColours)];
    std::string points;
    for (const auto& [x, y] : lines[s]) points += number(px(x)) + "," + number(py(y)) + " ";
    if (!points.empty())
      out +=
          concat("<polyline fill=\"none\" stroke-width=\"1.8\" stroke-linejoin=\"round\" stroke=\"",
                 colour, "\" points=\"", points, "\"/>\n");
    if (plot.series[s].markers || lines[s].size() == 1)
      for (const auto& [x, y] : lines[s])
        out += concat("<circle r=\"3\" fill=\"", colour, "\" cx=\"", number(px(x)), "\" cy=\"",
                      number(py(y)), "\"/>\n");
    const double y = kTop + 10 + 20.0 * static_cast<double>(s), x = kLeft + inner_width + 14;
    out += concat("<rect x=\"", number(x), "\" y=\"", number(y - 6),
                  "\" width=\"18\" height=\"4\" fill=\"", colour, "\"/>\n");
    out += text(x + 24, y, plot.series[s].name, "fill=\"#222\"");
  }
  return out + "</svg>\n";
}

}  // namespace farskip::util
