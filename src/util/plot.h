// Line charts as SVG.
#pragma once
#include <string>
#include <utility>
#include <vector>

namespace farskip::util {

struct Series {
  std::string name;
  std::vector<std::pair<double, double>> points;  ///< in order of x; points that are not finite (or
                                                  ///< not positive on a log axis) are left out
  bool markers = false;                           ///< a dot at every point
};

struct Plot {
  std::string title;
  std::string x_label;
  std::string y_label;
  bool log_y = false;
  bool log_x = false;
  int width = 760;
  int height = 440;
  std::vector<Series> series;
};

/// A self-contained SVG document on a light background. The axes cover the points and end on round
/// numbers; series with more than 1,000 points are thinned to means of runs of points.
std::string svg(const Plot& plot);

/// Round numbers (1, 2 or 5 times a power of ten apart) from at or below `low` to at or above
/// `high`, about `count` of them.
std::vector<double> nice_ticks(double low, double high, int count);

/// `text` with the entities that XML and HTML need for & < > and ".
std::string escaped(const std::string& text);

}  // namespace farskip::util
