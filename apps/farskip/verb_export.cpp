// export: a checkpoint in a form that other programs read. The weights are copied as they are.
#include <ATen/core/Tensor.h>

#include <filesystem>
#include <iostream>
#include <map>

#include "forms/form.h"
#include "io/checkpoint.h"
#include "io/json_fields.h"
#include "options.h"
#include "util/error.h"
#include "util/progress.h"
#include "verbs.h"

namespace farskip::app {
namespace {

namespace fs = std::filesystem;

struct Options {
  std::string model, out, form = "hf";
  int64_t lag = 0;  ///< 0: not given
  bool no_auto_map = false;
  RunOptions run;
};

model::Connectivity connectivity_of(const CLI::App& verb, const Options& options,
                                    const model::ModelConfig& config, forms::Form form) {
  if (form == forms::Form::regular) {
    for (const char* option : {"--connectivity", "--layers", "--lag"})
      refuse_without(verb, option, options.run.connectivity == "regular", "--form hf or amd");
    return model::Connectivity::regular(config.depth());
  }
  const model::Connectivity found = options.run.resolve(config);
  if (options.lag == 0 || found.is_regular()) return found;
  io::Json keys = io::Json::object();
  found.to_json(keys);
  keys["farskip_lag"] = options.lag;
  return model::Connectivity::from_json(keys, config.depth(), "--lag");
}

/// The model's tensors, under the names of the table and in the files' own types, and those that it
/// does not use: all views of the mapped files.
std::map<std::string, at::Tensor> tensors_of(const io::Checkpoint& checkpoint,
                                             const model::ModelConfig& config) {
  model::Weights weights;
  const auto bindings = model::bind(weights, config);
  std::map<std::string, at::Tensor> found;
  for (const model::Binding& binding : bindings)
    for (const model::Piece& piece : binding.pieces)
      found.emplace(piece.name, model::read_piece(checkpoint, binding, piece));
  for (const std::string& name : model::unused_tensors(bindings, config, checkpoint.names()))
    found.emplace(name, checkpoint.tensor(name));
  return found;
}

void write(const std::map<std::string, at::Tensor>& tensors, const fs::path& source,
           const fs::path& out, const forms::Description& described) {
  std::vector<io::TensorSpec> specs;
  int64_t total = 0;
  for (const auto& [name, tensor] : tensors) {
    specs.push_back({name, tensor.scalar_type(), tensor.sizes().vec()});
    total += specs.back().bytes();
  }
  constexpr int64_t kMiB = 1 << 20;
  util::Progress progress("Copying weights, MiB", (total + kMiB - 1) / kMiB, total > 512 * kMiB);
  int64_t done = 0;
  const auto produce = [&](const io::TensorSpec& spec) {
    progress.update(done / kMiB);
    done += spec.bytes();
    return tensors.at(spec.name);
  };
  io::write_checkpoint(out, described.config, specs, produce,
                       {.companions = io::companions(source), .files = described.files});
  progress.finish();
}

void run(const CLI::App& verb, const Options& options) {
  const forms::Form form = forms::parse_form(options.form);
  refuse_without(verb, "--no-auto-map", form == forms::Form::amd, "--form amd");
  const fs::path source = options.model, out = options.out;
  std::error_code missing;
  if (fs::equivalent(source, out, missing))
    throw InputError("--out: found the folder of MODEL itself, expected another");
  const auto checkpoint = model::open_checkpoint(source);
  const model::ModelConfig config = model::read_config(source / "config.json");
  const model::Connectivity connectivity = connectivity_of(verb, options, config, form);
  const forms::Description described =
      forms::describe(config, connectivity, form, {.auto_map = !options.no_auto_map});
  const auto tensors = tensors_of(checkpoint, config);

  std::vector<std::string> notes = config.notes;
  notes.insert(notes.end(), checkpoint.notes().begin(), checkpoint.notes().end());
  const std::string before = config.connectivity.describe(), after = connectivity.describe();
  if (before != after)
    notes.push_back("MODEL computes " + before + ", what is written " + after +
                    ": another function of the same weights, which costs quality until they are "
                    "trained for it (`farskip distill`)");
  notes.insert(notes.end(), described.notes.begin(), described.notes.end());
  show_notes(notes);
  write(tensors, source, out, described);
  std::cout << options.out << ": " << described.config["architectures"][0].get<std::string>()
            << ", " << after << "\n";
}

}  // namespace

void add_export(CLI::App& app) {
  CLI::App& verb = *app.add_subcommand(
      "export", "Write a checkpoint in a form that other programs compute right, or refuse");
  const auto options = std::make_shared<Options>();
  add_model(verb, options->model);
  verb.add_option("--out", options->out, "Folder to write")->required();
  verb.add_option("--form", options->form,
                  "hf: a model_type and modeling file of its own, for transformers with "
                  "trust_remote_code; amd: as AMD writes Instella-MoE, of DeepSeek-V3's kind only; "
                  "regular: without FarSkip")
      ->check(CLI::IsMember({"hf", "amd", "regular"}))
      ->capture_default_str();
  verb.add_flag("--no-auto-map", options->no_auto_map,
                "With --form amd: without a modeling file, for programs that have AMD's");
  verb.add_option("--connectivity", options->run.connectivity,
                  "Which activations the layers read (default: what config.json says)")
      ->check(CLI::IsMember({"regular", "farskip", "attention", "moe"}));
  verb.add_option(
      "--layers", options->run.layers,
      "The layers it holds for: A:B (half-open, as in Python), last:N, last:P%, first:N "
      "or first:P% (default: all)");
  verb.add_option("--lag", options->lag, "Layers after which a routed output is read (default: 1)")
      ->check(CLI::PositiveNumber);
  examples(verb, {"farskip export far --out far-hf", "farskip export far --out far-amd --form amd",
                  "farskip export far --out plain --form regular",
                  "farskip export Moonlight-16B-A3B --out far --connectivity farskip "
                  "--layers last:50%"});
  verb.callback([&verb, options] { run(verb, *options); });
}

}  // namespace farskip::app
