#include "options.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>

#include <iostream>

#include "comm/launch_environment.h"
#include "io/hub_cache.h"
#include "io/safetensors.h"
#include "util/error.h"

namespace farskip::app {

model::Connectivity RunOptions::resolve(const model::ModelConfig& config) const {
  const int64_t depth = config.depth();
  if (connectivity.empty() && layers.empty()) return config.connectivity;
  const auto kind = connectivity.empty() ? config.connectivity.kind()
                                         : model::parse_connectivity_kind(connectivity);
  if (kind == model::ConnectivityKind::regular) {
    if (!layers.empty())
      throw InputError("--layers: found \"" + layers +
                       "\" with a regular connectivity, expected --connectivity farskip, attention "
                       "or moe with it");
    return model::Connectivity::regular(depth);
  }
  const auto range =
      layers.empty() ? model::LayerRange{0, depth} : model::parse_layer_range(layers, depth);
  return {kind, range, depth};
}

std::optional<at::ScalarType> RunOptions::scalar_type() const {
  if (dtype.empty()) return std::nullopt;
  return dtype == "bfloat16" ? at::kBFloat16 : at::kFloat;
}

at::Device RunOptions::torch_device() const {
  if (device == "cpu") return at::kCPU;
  if (!at::globalContext().hasCUDA())
    throw InputError("--device: found \"cuda\", expected cpu (this LibTorch sees no CUDA device)");
  const int64_t local_rank = comm::launch_environment().local_rank;
  const auto devices = static_cast<int64_t>(at::getNumGPUs());
  util::require(local_rank < devices, "--device",
                util::concat("cuda for rank ", local_rank, " of this machine"),
                util::concat("at most ", devices, " ranks here, one a CUDA device"));
  return {at::kCUDA, static_cast<c10::DeviceIndex>(local_rank)};
}

schedule::Execution RunOptions::schedule_execution() const {
  return execution == "blocking" ? schedule::Execution::blocking : schedule::Execution::overlapped;
}

void RunOptions::apply() const {
  torch_device();
  if (threads > 0) at::set_num_threads(threads);
}

CLI::Option* takes_model(CLI::Option* option) {
  return option->transform([](const std::string& name) { return io::find_model(name).string(); });
}

void add_model(CLI::App& verb, std::string& model) {
  takes_model(verb.add_option("MODEL", model, kModelHelp))->required();
}

void add_run_options(CLI::App& verb, RunOptions& options) {
  const auto group = kRunningGroup;
  verb.add_option("--connectivity", options.connectivity,
                  "Which activations the layers read (default: what config.json says)")
      ->check(CLI::IsMember({"regular", "farskip", "attention", "moe"}))
      ->group(group);
  verb.add_option(
          "--layers", options.layers,
          "The layers it holds for: A:B (half-open, as in Python), last:N, last:P%, first:N "
          "or first:P% (default: all)")
      ->group(group);
  verb.add_option("--dtype", options.dtype,
                  "Weights and activations (default: the checkpoint's; float16 runs as float32)")
      ->check(CLI::IsMember({"float32", "bfloat16"}))
      ->group(group);
  verb.add_option("--device", options.device, "cpu or cuda")
      ->check(CLI::IsMember({"cpu", "cuda"}))
      ->capture_default_str()
      ->group(group);
  verb.add_option("--threads", options.threads, "Threads of this rank (default: one a core)")
      ->check(CLI::Range(1, 1024))
      ->group(group);
  verb.add_option("--execution", options.execution,
                  "Wait for messages at the first read or at once; the results are the same bits")
      ->check(CLI::IsMember({"overlapped", "blocking"}))
      ->capture_default_str()
      ->group(group);
  verb.add_option("--ep", options.ep, "Ranks that share the experts (default: all, or all / dp)")
      ->check(CLI::PositiveNumber)
      ->group(group);
  verb.add_option("--tp", options.tp,
                  "Ranks that share every layer: all of them, with --transport all-reduce")
      ->check(CLI::PositiveNumber)
      ->group(group);
  verb.add_option("--dp", options.dp, "How many times the experts are there: ranks / ep")
      ->check(CLI::PositiveNumber)
      ->group(group);
  verb.add_option(
          "--transport", options.transport,
          "all-to-all: every rank has rows or sequences of its own, whose tokens go to their "
          "experts; all-gather (not in training): the same, but tokens go to all ranks; "
          "all-reduce (logits, eval, generate, serve, bench ttft, bench tbt): every rank "
          "has all tokens and a part of "
          "every layer")
      ->check(CLI::IsMember({"all-to-all", "all-gather", "all-reduce"}))
      ->group(group);
  verb.add_flag("--shard-embedding", options.shard_embedding,
                "With --transport all-reduce: a rank has only its rows of the embedding; less "
                "memory for a message that nothing runs under")
      ->group(group);
  verb.add_option("--wire-dtype", options.wire,
                  "Of activations between ranks (default: the model's dtype)")
      ->check(CLI::IsMember({"float32", "bfloat16"}))
      ->group(group);
  verb.add_option("--expert-waves", options.waves,
                  "Parts in which a layer's tokens go to the experts; one's compute runs under the "
                  "next one's messages (default: 2; 1 is faster where the network is)")
      ->check(CLI::Range(1, 64))
      ->group(group);
  verb.add_option("--combine", options.combine,
                  "What experts' ranks send back: expert: every output, added up at home in an "
                  "order that no layout changes (default); rank: the sum of a rank's outputs, "
                  "fewer bytes")
      ->check(CLI::IsMember({"expert", "rank"}))
      ->group(group);
  verb.add_option("--timeout", options.timeout,
                  "Seconds that a rank waits for a message of the others before it gives up")
      ->check(CLI::Range(0.1, 86400.0))
      ->capture_default_str()
      ->group(group);
}

void add_seed(CLI::App& verb, uint64_t& seed) {
  verb.add_option("--seed", seed, "Of everything random")->capture_default_str();
}

void add_json(CLI::App& verb, bool& json) {
  verb.add_flag("--json", json, "One JSON object on stdout");
}

CLI::Option* add_ignored_keys(CLI::App& verb, std::vector<std::string>& keys) {
  return verb
      .add_option("--ignore-keys", keys,
                  "Keys of rows to go on without, a,b,c (others that nothing uses are refused)")
      ->delimiter(',');
}

std::filesystem::path tokenizer_folder(const std::string& given) {
  const std::filesystem::path path = given;
  if (std::filesystem::is_directory(path)) return path;
  util::require(path.filename() == "tokenizer.json", "--tokenizer", given,
                "a tokenizer.json or the folder that holds one");
  const auto parent = path.parent_path();
  return parent.empty() ? "." : parent;
}

void refuse_without(const CLI::App& verb, const std::string& option, bool there,
                    const std::string& needs) {
  if (verb.count(option) > 0 && !there)
    throw InputError(option + ": found it without effect, expected it together with " + needs);
}

void show_notes(const std::vector<std::string>& notes) {
  for (const std::string& note : notes) std::cerr << "farskip: note: " << note << "\n";
}

model::Model load(const std::string& directory, const RunOptions& options,
                  model::Residence residence, const model::Share& share, bool talks) {
  model::Model model =
      model::load_model(directory, options.scalar_type(), options.torch_device(), residence, share);
  if (talks) show_notes(model.notes);
  if (talks && !model.unused.empty())
    std::cerr << "farskip: note: " << model.unused.size()
              << " tensors of the checkpoint are not part of the model (first: "
              << model.unused.front() << "; `farskip inspect` lists them)\n";
  return model;
}

at::Tensor read_tokens(const std::string& file) {
  const auto tensors = io::read_safetensors(file);
  const auto found = tensors.find("tokens");
  if (found == tensors.end())
    throw InputError(file + ": found no tensor \"tokens\", expected int64 [batch, length]");
  const at::Tensor& tokens = found->second;
  util::require(tokens.scalar_type() == at::kLong && tokens.dim() == 2 && tokens.numel() > 0,
                file + ": tokens", util::concat(tokens.scalar_type(), " ", tokens.sizes()),
                "int64 [batch, length]");
  return tokens;
}

void examples(CLI::App& verb, const std::vector<std::string>& lines) {
  std::string text = "Examples:";
  for (const std::string& line : lines) text += "\n  " + line;
  verb.footer(text);
}

}  // namespace farskip::app
