#include "util/table.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>

#include "util/error.h"

namespace farskip::util {
namespace {

std::string padded(const std::string& cell, size_t width, bool right) {
  const std::string space(width - columns(cell), ' ');
  return right ? space + cell : cell + space;
}

void trim_end(std::string& line) {
  line.erase(line.find_last_not_of(' ') + 1);
}

}  // namespace

void Table::add(std::vector<std::string> row) {
  if (row.size() > header_.size())
    throw Error(concat("table: found ", row.size(), " cells, expected ", header_.size()));
  row.resize(header_.size());
  rows_.push_back(std::move(row));
}

std::vector<size_t> Table::widths() const {
  std::vector<size_t> widths;
  for (size_t c = 0; c < header_.size(); ++c) {
    size_t width = columns(header_[c]);
    for (const auto& row : rows_) width = std::max(width, columns(row[c]));
    widths.push_back(width);
  }
  return widths;
}

bool Table::numeric(size_t column) const {
  return !rows_.empty() && std::all_of(rows_.begin(), rows_.end(), [&](const auto& row) {
    const std::string& cell = row[column];
    return cell.empty() || cell == "-" || cell.find_first_of("0123456789") <= 1;
  });
}

std::string Table::text() const {
  const std::vector<size_t> width = widths();
  std::string out;
  const auto line = [&](const std::vector<std::string>& cells) {
    std::string text;
    for (size_t c = 0; c < cells.size(); ++c)
      text += (c ? "  " : "") + padded(cells[c], width[c], numeric(c));
    trim_end(text);
    out += text + "\n";
  };
  line(header_);
  std::vector<std::string> rule;
  for (const size_t w : width) rule.emplace_back(w, '-');
  line(rule);
  for (const auto& row : rows_) line(row);
  return out;
}

std::string Table::markdown() const {
  const std::vector<size_t> width = widths();
  std::string out;
  const auto line = [&](const std::vector<std::string>& cells) {
    out += "|";
    for (size_t c = 0; c < cells.size(); ++c)
      out += " " + padded(cells[c], width[c], numeric(c)) + " |";
    out += "\n";
  };
  line(header_);
  out += "|";
  for (size_t c = 0; c < width.size(); ++c)
    out += std::string(width[c] + 1, '-') + (numeric(c) ? ":|" : "-|");
  out += "\n";
  for (const auto& row : rows_) line(row);
  return out;
}

std::string fixed(double value, int digits) {
  char text[64];
  std::snprintf(text, sizeof text, "%.*f", digits, value);
  return text;
}

std::string grouped(int64_t value) {
  std::string text = std::to_string(value);
  const size_t sign = value < 0 ? 1 : 0;
  for (size_t at = text.size(); at > sign + 3;) text.insert(at -= 3, ",");
  return text;
}

std::string duration(double seconds) {
  if (!std::isfinite(seconds)) return "unknown";
  char text[64];
  const auto whole = static_cast<long long>(seconds + 0.5);
  if (seconds < 9.95)
    std::snprintf(text, sizeof text, "%.1f s", seconds);
  else if (whole < 60)
    std::snprintf(text, sizeof text, "%lld s", whole);
  else if (whole < 3600)
    std::snprintf(text, sizeof text, "%lld min %02lld s", whole / 60, whole % 60);
  else
    std::snprintf(text, sizeof text, "%lld h %02lld min", whole / 3600, whole % 3600 / 60);
  return text;
}

size_t columns(const std::string& text) {
  return std::count_if(text.begin(), text.end(),
                       [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; });
}

}  // namespace farskip::util
