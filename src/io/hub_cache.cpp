#include "io/hub_cache.h"

#include <cstdlib>
#include <regex>

#include "io/text.h"
#include "util/error.h"

namespace farskip::io {
namespace {

namespace fs = std::filesystem;

constexpr const char* kPrefix = "models--";

/// The value of a variable, ~ standing for the user's folder; nothing where it is empty or not set.
std::optional<fs::path> folder(const char* variable) {
  const char* value = std::getenv(variable);
  if (!value || !*value) return std::nullopt;
  const std::string text = value;
  const char* home = std::getenv("HOME");
  if (home && (text == "~" || text.starts_with("~/"))) return fs::path(home + text.substr(1));
  return fs::path(text);
}

/// ORG/NAME@REVISION in its parts; of a plain NAME the first is empty.
struct HubName {
  std::string organisation, name, revision;

  std::string repository() const { return organisation.empty() ? name : organisation + "/" + name; }
  std::string folder() const {
    return kPrefix + (organisation.empty() ? "" : organisation + "--") + name;
  }
};

std::optional<HubName> parse(const std::string& text) {
  static const std::regex pattern(
      R"((?:([A-Za-z0-9][\w.-]*)/)?([A-Za-z0-9][\w.-]*)(?:@([\w.][\w./-]*))?)");
  std::smatch match;
  if (!std::regex_match(text, match, pattern)) return std::nullopt;
  return HubName{match[1], match[2], match[3].matched ? match[3].str() : "main"};
}

/// What a file of one line says.
std::string first_line(const fs::path& file) {
  std::string text = read_file(file, 4096);
  text.resize(text.find_last_not_of(" \r\n") + 1);
  return text;
}

/// The commit that a revision stands for; itself where no reference has its name.
std::string commit(const fs::path& repository, const std::string& revision) {
  const fs::path reference = repository / "refs" / revision;
  const bool plain = revision.find("..") == std::string::npos;
  return plain && fs::is_regular_file(reference) ? first_line(reference) : revision;
}

[[noreturn]] void refuse(const std::string& text, const HubName& name, const fs::path& cache) {
  const fs::path snapshots = cache / name.folder() / "snapshots";
  std::string there;
  if (fs::is_directory(snapshots))
    for (const auto& entry : fs::directory_iterator(snapshots))
      there += (there.empty() ? "" : ", ") + entry.path().filename().string();
  const std::string found = there.empty()
                                ? util::concat("nothing of it in ", cache.string())
                                : util::concat("no ", name.revision, " of it in ", cache.string(),
                                               " (there: ", printable(there), ")");
  throw InputError(util::concat(
      printable(text), ": found no such directory, and ", found,
      ", expected a directory with config.json, or a model in the cache (hf download ",
      name.repository(), name.revision == "main" ? "" : " --revision " + name.revision, ")"));
}

}  // namespace

fs::path hub_cache() {
  for (const char* variable : {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"})
    if (const auto found = folder(variable)) return *found;
  if (const auto home = folder("HF_HOME")) return *home / "hub";
  if (const auto caches = folder("XDG_CACHE_HOME")) return *caches / "huggingface/hub";
  return folder("HOME").value_or(".") / ".cache/huggingface/hub";
}

fs::path find_model(const std::string& name) {
  const auto parts = parse(name);
  if (fs::exists(name) || !parts) return name;
  const fs::path cache = hub_cache(), repository = cache / parts->folder();
  const fs::path snapshot = repository / "snapshots" / commit(repository, parts->revision);
  if (fs::is_directory(snapshot)) return snapshot;
  // What has no slash is more likely a directory that is not there than an old model's name.
  if (parts->organisation.empty() && !fs::exists(repository)) return name;
  refuse(name, *parts, cache);
}

std::optional<std::string> hub_name(const fs::path& directory) {
  fs::path path = fs::absolute(directory).lexically_normal();
  if (!path.has_filename()) path = path.parent_path();  // a slash at the end
  const fs::path snapshots = path.parent_path();
  std::string name = snapshots.parent_path().filename().string();
  if (snapshots.filename() != "snapshots" || !name.starts_with(kPrefix)) return std::nullopt;
  name.erase(0, std::string(kPrefix).size());
  const size_t slash = name.find("--");
  return slash == std::string::npos ? name : name.replace(slash, 2, "/");
}

}  // namespace farskip::io
