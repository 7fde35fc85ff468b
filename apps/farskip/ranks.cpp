#include "ranks.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iostream>
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
  io::Checkpoint::open(directory);  // which says what is wrong with it
  std::set<fs::path> files;
  for (const auto& entry : fs::directory_iterator(directory))
    if (entry.is_regular_file() &&
        (entry.path().extension() == ".safetensors" || entry.path().filename() == "config.json" ||
         entry.path().filename() == "generation_config.json"))
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

Fact options_fact(const CLI::App& verb, const std::string& group) {
  std::string text;
  for (const CLI::Option* option : verb.get_options()) {
    // How a rank runs (threads, say) is its own affair; what must be alike of it is compared by
    // join().
    if (option->count() == 0 || option->get_group() == kRunningGroup) continue;
    if (!group.empty() && option->get_group() != group) continue;
    text += (text.empty() ? "" : " ") + option->get_name();
    for (const std::string& value : option->results()) text += " " + value;
  }
  return {"options", text};
}

namespace {

constexpr const char* kAllReduce = "all-reduce";
constexpr const char* kAllGather = "all-gather";
constexpr const char* kAllToAll = "all-to-all";

/// What the options say of `size` ranks, checked.
struct Layout {
  bool replicated = false;  ///< every rank has all tokens
  bool gathers = false;     ///< every rank has its own, which all ranks get
  int64_t ep = 1;           ///< ranks that share the experts out

  std::string describe(int64_t size) const {
    return replicated ? util::concat("tp ", size, " x ep ", ep)
                      : util::concat("ep ", ep, " x dp ", size / ep, gathers ? ", all-gather" : "");
  }
};

Layout find_layout(const RunOptions& options, int64_t size, Layouts layouts) {
  const auto transport_is = [&](const char* only) {
    return options.transport.empty() || options.transport == only;
  };
  const bool wants = options.transport == kAllReduce || options.tp > 1;
  const bool unasked = layouts == Layouts::either_replicated && options.transport.empty();
  Layout layout;
  layout.replicated = size > 1 && (wants || unasked);
  if (layouts == Layouts::all_to_all) {
    util::require(options.tp <= 1, "--tp", options.tp, "1 (this verb shares out no attention)");
    util::require(transport_is(kAllToAll), "--transport", options.transport,
                  "all-to-all (this verb has no other)");
  }
  if (wants)
    util::require(transport_is(kAllReduce), "--transport", options.transport,
                  "all-reduce with --tp above 1");

  layout.gathers = options.transport == kAllGather;
  const std::string ranks =
      util::concat(size, size == 1 ? " rank" : " ranks",
                   size == 1 ? " (torchrun or `farskip launch` start more)" : "");
  if (layout.replicated || wants)
    util::require(options.tp == 0 || options.tp == size, "--tp", options.tp, ranks);
  if (layout.replicated)
    util::require(options.dp <= 1, "--dp", options.dp, "1 with --transport all-reduce");
  const bool replicas = options.dp > 0 && !layout.replicated;
  layout.ep = options.ep > 0 ? options.ep : replicas ? size / options.dp : size;
  if (replicas)
    util::require(layout.ep * options.dp == size, "--ep x --dp",
                  util::concat(layout.ep, " x ", options.dp), util::concat("a product of ", ranks));
  util::require(layout.ep > 0 && size % layout.ep == 0, "--ep", layout.ep, "a divisor of " + ranks);
  return layout;
}

/// Neighbours share the hidden layers of an expert, where fewer ranks than all share the experts.
/// Every rank has the embedding, unless asked otherwise: a sum over ranks that each know some rows
/// would have nothing to run under.
model::Share replicated_share(int64_t rank, int64_t size, int64_t ep, bool shard_embedding) {
  const int64_t width = size / ep;
  const model::Fraction all{rank, size};
  return {.experts = {rank / width, ep},
          .expert_width = {rank % width, width},
          .tensor = all,
          .embedding = shard_embedding ? all : model::Fraction{},
          .head = all};
}

}  // namespace

model::Share Ranks::share_of_prefill(const model::Connectivity& connectivity) const {
  model::Share found = share;
  found.all_keys = replicated();
  found.whole_shared = replicated() && connectivity.ends_partial();
  return found;
}

std::string Ranks::transport() const {
  if (replicated()) return kAllReduce;
  return experts.gathers() ? kAllGather : kAllToAll;
}

Ranks join(const RunOptions& options, std::vector<Fact> facts, Layouts layouts) {
  const comm::LaunchEnvironment environment = comm::launch_environment();
  if (!environment.note.empty()) std::cerr << "farskip: note: " << environment.note << "\n";
  const int64_t size = environment.size;
  const Layout layout = find_layout(options, size, layouts);

  Ranks found;
  found.rendezvous = std::make_unique<comm::Rendezvous>(
      environment, std::chrono::milliseconds(static_cast<int64_t>(options.timeout * 1000)),
      options.torch_device());
  facts.insert(facts.begin(), {"program", build_fingerprint()});
  facts.insert(facts.begin() + 1, {"layout", layout.describe(size)});
  facts.emplace_back("--connectivity, --layers",
                     options.connectivity.empty() && options.layers.empty()
                         ? "the checkpoint's"
                         : options.connectivity + " " + options.layers);
  facts.emplace_back("--execution", options.execution);
  facts.emplace_back("--dtype", options.dtype.empty() ? "the checkpoint's" : options.dtype);
  facts.emplace_back("--wire-dtype", options.wire.empty() ? "the model's" : options.wire);
  const int64_t waves = options.waves > 0 ? options.waves : kExpertWaves;
  facts.emplace_back("--expert-waves", std::to_string(waves));
  facts.emplace_back("--combine", options.combine.empty() ? "expert" : options.combine);
  facts.emplace_back("--shard-embedding", options.shard_embedding ? "yes" : "no");
  found.rendezvous->agree(facts);
  if (layout.replicated) {
    found.grid.world = found.rendezvous->all();
    found.experts.reducer = std::make_shared<comm::Reducer>(found.rendezvous->all());
    found.share = replicated_share(found.grid.rank(), size, layout.ep, options.shard_embedding);
  } else {
    found.grid = comm::make_grid(*found.rendezvous, layout.ep);
    found.experts.courier = found.grid.courier;
    if (layout.gathers) found.experts.transport = model::Transport::all_gather;
    found.share = model::Share::of_experts(found.grid.expert_part(), found.grid.ep);
  }
  found.experts.execution = options.schedule_execution();
  if (!options.wire.empty())
    found.experts.wire = options.wire == "bfloat16" ? at::kBFloat16 : at::kFloat;
  found.experts.waves = waves;
  if (options.combine == "rank") found.experts.combine = model::Combine::rank;
  const bool all_to_all = layout.ep > 1 && !layout.replicated && !layout.gathers;
  util::require(all_to_all || options.combine.empty(), "--combine", "it without effect",
                "it with --ep above 1 and --transport all-to-all");
  util::require(layout.replicated || !options.shard_embedding, "--shard-embedding",
                "it without effect", "it with --transport all-reduce");
  for (const auto& [name, given] : {std::pair{"--wire-dtype", !options.wire.empty()},
                                    std::pair{"--expert-waves", options.waves > 0}})
    util::require(layout.ep > 1 || layout.replicated || !given, name, "it without effect",
                  "it with --ep above 1");
  return found;
}

}  // namespace farskip::app
