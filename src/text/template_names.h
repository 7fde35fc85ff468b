// What a chat template reads, by name.
#pragma once
#include <set>
#include <string>
#include <string_view>

namespace farskip::text {

/// Names in the source of a Jinja template. Text that it writes names nothing, be it outside of its
/// tags or a string of several words.
class TemplateNames {
 public:
  TemplateNames() = default;  ///< of no template
  explicit TemplateNames(std::string_view source);

  bool has_template() const { return has_template_; }
  /// Whether it reads a variable of this name (or makes one).
  bool variable(const std::string& name) const { return variables_.contains(name); }
  /// Whether it reads a field of this name, or compares something with it: `m.name`, 'name'.
  bool field(const std::string& name) const { return fields_.contains(name); }

 private:
  void read_tag(std::string_view tag);

  bool has_template_ = false;
  std::set<std::string> variables_, fields_;
};

}  // namespace farskip::text
