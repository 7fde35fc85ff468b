#include "ranks.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <set>

#include "util/error.h"
#include "util/fingerprint.h"

namespace farskip::app {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kExpertWaves = 2;

/// Of several things, written as hexadecimal digits.
class Fingerprint {
 public:
  void add(const std::string& bytes) { hash_ = util::fingerprint(bytes, hash_); }
  /// A file's length, and up to `samples` pieces of it, evenly spread.
  void add_file(const fs::path& path, int64_t samples) {
    constexpr int64_t kPiece = 4096;
    std::ifstream file(path, std::ios::binary);
    const auto length = static_cast<int64_t>(fs::file_size(path));
    add(util::concat(path.filename().string(), length));
    const int64_t pieces = std::min(samples, (length + kPiece - 1) / kPiece);
    std::string piece(kPiece, '\0');
    for (int64_t i = 0; i < pieces; ++i) {
      file.seekg(length * i / pieces);
      file.read(piece.data(), kPiece);
      add(piece.substr(0, static_cast<size_t>(file.gcount())));
      file.clear();
    }
  }
  std::string text() const {
    char digits[20];
    std::snprintf(digits, sizeof digits, "%016llx", static_cast<unsigned long long>(hash_));
    return digits;
  }

 private:
  uint64_t hash_ = util::fingerprint("");
};

std::string build_fingerprint() {
  Fingerprint fingerprint;
  fingerprint.add_file(fs::read_symlink("/proc/self/exe"), INT64_MAX);
  return fingerprint.text();
}

}  // namespace

Fact checkpoint_fact(const std::string& directory) {
  std::set<fs::path> files;
  for (const auto& entry : fs::directory_iterator(directory))
    if (entry.is_regular_file() &&
        (entry.path().extension() == ".safetensors" || entry.path().filename() == "config.json"))
      files.insert(entry.path());
  Fingerprint fingerprint;
  for (const fs::path& file : files) fingerprint.add_file(file, 64);
  return {"checkpoint " + directory, fingerprint.text()};
}

Fact config_fact(const model::ModelConfig& config) {
  Fingerprint fingerprint;
  fingerprint.add(config.source.dump());
  return {"configuration", fingerprint.text()};
}

Ranks join(const RunOptions& options, std::vector<Fact> facts) {
  const comm::LaunchEnvironment environment = comm::launch_environment();
  const int64_t size = environment.size;
  const int64_t ep = options.ep > 0 ? options.ep : options.dp > 0 ? size / options.dp : size;
  const std::string ranks =
      util::concat(size, size == 1 ? " rank" : " ranks",
                   size == 1 ? " (torchrun or `farskip launch` start more)" : "");
  if (options.dp > 0)
    util::require(ep * options.dp == size, "--ep x --dp", util::concat(ep, " x ", options.dp),
                  util::concat("a product of ", ranks));
  util::require(ep > 0 && size % ep == 0, "--ep", ep, "a divisor of " + ranks);
  util::require(options.tp <= 1, "--tp", options.tp, "1 (this verb shares out no attention)");
  util::require(options.transport.empty() || options.transport == "all-to-all", "--transport",
                options.transport, "all-to-all (this verb has no other)");

  Ranks found;
  found.rendezvous = std::make_unique<comm::Rendezvous>(
      environment, std::chrono::milliseconds(static_cast<int64_t>(options.timeout * 1000)),
      options.torch_device());
  facts.insert(facts.begin(), {"program", build_fingerprint()});
  facts.insert(facts.begin() + 1, {"layout", util::concat("ep ", ep, " x dp ", size / ep)});
  facts.emplace_back("--execution", options.execution);
  facts.emplace_back("--dtype", options.dtype.empty() ? "the checkpoint's" : options.dtype);
  facts.emplace_back("--wire-dtype", options.wire.empty() ? "the model's" : options.wire);
  const int64_t waves = options.waves > 0 ? options.waves : kExpertWaves;
  facts.emplace_back("--expert-waves", std::to_string(waves));
  found.rendezvous->agree(facts);
  found.grid = comm::make_grid(*found.rendezvous, ep);
  found.experts.courier = found.grid.courier;
  found.experts.execution = options.schedule_execution();
  if (!options.wire.empty())
    found.experts.wire = options.wire == "bfloat16" ? at::kBFloat16 : at::kFloat;
  found.experts.waves = waves;
  for (const auto& [name, given] : {std::pair{"--wire-dtype", !options.wire.empty()},
                                    std::pair{"--expert-waves", options.waves > 0}})
    util::require(ep > 1 || !given, name, "it without effect", "it with --ep above 1");
  return found;
}

}  // namespace farskip::app
