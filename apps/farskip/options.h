// Options that mean the same in every verb.
#pragma once
#include <CLI/CLI.hpp>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "model/model.h"
#include "schedule/forward.h"

namespace farskip::app {

/// Of the options that add_run_options adds, in --help.
constexpr const char* kRunningGroup = "Running the model";

/// How a model is run. Fields hold what the command line says; the functions turn it into values.
struct RunOptions {
  std::string connectivity, layers, dtype, device = "cpu", execution = "overlapped", transport,
                                           wire, combine;
  int threads = 0;
  int64_t ep = 0, tp = 0, dp = 0, waves = 0;  ///< 0: not given
  bool shard_embedding = false;
  double timeout = 60;  ///< seconds

  /// What the options ask for, else what the model's config.json says.
  model::Connectivity resolve(const model::ModelConfig& config) const;
  std::optional<at::ScalarType> scalar_type() const;
  at::Device torch_device() const;
  schedule::Execution schedule_execution() const;
  /// Sets the number of threads and checks the device.
  void apply() const;
};

constexpr const char* kModelHelp =
    "Directory in Hugging Face layout, or ORG/NAME[@REVISION] in the hub's local cache";
void add_model(CLI::App& verb, std::string& model);
/// The option's value becomes the directory of the model that it names (io::find_model).
CLI::Option* takes_model(CLI::Option* option);
void add_run_options(CLI::App& verb, RunOptions& options);
void add_seed(CLI::App& verb, uint64_t& seed);
void add_json(CLI::App& verb, bool& json);
CLI::Option* add_ignored_keys(CLI::App& verb, std::vector<std::string>& keys);

/// The folder of a --tokenizer, which names it or a tokenizer.json in it.
std::filesystem::path tokenizer_folder(const std::string& given);

/// `option` was given but `needs` was not: InputError.
void refuse_without(const CLI::App& verb, const std::string& option, bool there,
                    const std::string& needs);

/// One line each on stderr.
void show_notes(const std::vector<std::string>& notes);

/// Loads the model, of its experts the share, and (if it talks) says on stderr what was found
/// besides.
model::Model load(const std::string& directory, const RunOptions& options,
                  model::Residence residence = model::Residence::mapped,
                  const model::Share& share = {}, bool talks = true);

/// `tokens`, int64 [batch, length], of a safetensors file.
at::Tensor read_tokens(const std::string& file);

/// The text after --help's options: examples, one a line.
void examples(CLI::App& verb, const std::vector<std::string>& lines);

}  // namespace farskip::app
