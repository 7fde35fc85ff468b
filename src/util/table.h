// Tables of text: aligned for people, Markdown for documents.
#pragma once
#include <string>
#include <vector>

namespace farskip::util {

/// Rows of cells under a header. Columns whose cells all look like numbers are set flush right.
class Table {
 public:
  explicit Table(std::vector<std::string> header) : header_(std::move(header)) {}

  /// Missing cells are empty; more cells than the header has are an Error.
  void add(std::vector<std::string> row);
  bool empty() const { return rows_.empty(); }

  /// Columns two spaces apart, a line under the header, no trailing spaces.
  std::string text() const;
  std::string markdown() const;

 private:
  std::vector<size_t> widths() const;
  bool numeric(size_t column) const;

  std::vector<std::string> header_;
  std::vector<std::vector<std::string>> rows_;
};

/// `value` with this many digits after the point.
std::string fixed(double value, int digits);
/// 12,345,678.
std::string grouped(int64_t value);
/// Seconds as people say them: "0.8 s", "42 s", "7 min 12 s", "3 h 05 min".
std::string duration(double seconds);
/// Width on a terminal, taking every code point of valid UTF-8 for one column.
size_t columns(const std::string& text);

}  // namespace farskip::util
