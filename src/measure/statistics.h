// Medians and spreads.
#pragma once
#include <algorithm>
#include <cmath>
#include <vector>

namespace farskip::measure {

/// Linear interpolation between the sorted values, as numpy.quantile does. 0 without any.
inline double quantile(std::vector<double> values, double share) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const double place = share * static_cast<double>(values.size() - 1);
  const auto below = static_cast<size_t>(place);
  const size_t above = std::min(below + 1, values.size() - 1);
  return values[below] + (place - std::floor(place)) * (values[above] - values[below]);
}

struct Summary {
  double median = 0;
  double spread = 0;  ///< interquartile range
};

inline Summary summarise(const std::vector<double>& values) {
  return {quantile(values, 0.5), quantile(values, 0.75) - quantile(values, 0.25)};
}

}  // namespace farskip::measure
