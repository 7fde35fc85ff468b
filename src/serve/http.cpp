#include "serve/http.h"

#include <charconv>

namespace farskip::serve {
namespace {

/// "%2F" -> "/"; what is no escape stays as it is.
std::string unescaped(const std::string& text) {
  std::string result;
  for (size_t i = 0; i < text.size(); ++i) {
    unsigned char byte = 0;
    const char* digits = text.data() + i + 1;
    if (text[i] == '%' && i + 2 < text.size() &&
        std::from_chars(digits, digits + 2, byte, 16).ptr == digits + 2) {
      result += static_cast<char>(byte);
      i += 2;
    } else {
      result += text[i];
    }
  }
  return result;
}

}  // namespace

std::string path_of(std::string target) {
  // A proxy's form has the origin before the path.
  if (const size_t scheme = target.find("://"); !target.starts_with('/') && scheme != target.npos)
    target.erase(0, std::min(target.find('/', scheme + 3), target.size()));
  target.resize(std::min(target.size(), target.find_first_of("?#")));
  std::string path;
  for (const char c : target)
    if (c != '/' || !path.ends_with('/')) path += c;
  if (path.size() > 1 && path.ends_with('/')) path.pop_back();
  return path.empty() ? "/" : unescaped(path);
}

}  // namespace farskip::serve
