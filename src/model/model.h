// A model: what its configuration says and the weights it holds. Loading, saving, copying.
#pragma once
#include <ATen/core/Tensor.h>

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "io/checkpoint.h"
#include "model/weights.h"

namespace farskip::model {

struct Model {
  /// As this rank computes: with the heads and widths of its share (see local_config).
  ModelConfig config;
  ModelConfig whole;  ///< as the checkpoint has it
  Weights weights;    ///< what the share holds
  Share share;
  at::ScalarType dtype = at::kFloat;
  at::Device device = at::kCPU;
  /// Tensors of the checkpoint that the model does not use (multi-token-prediction layers, say).
  std::vector<std::string> unused;
  /// What config.json and the directory say that is passed over, one line each.
  std::vector<std::string> notes;
  /// The directory it was loaded from; unused tensors and companion files are copied from there.
  std::optional<std::filesystem::path> directory;
  bool only_tokenizer = false;  ///< of the files in that directory only the tokenizer's are its own

  /// Every parameter once (a tied head is the embedding), in the order of the name table.
  std::vector<Parameter*> parameters();
  std::vector<const Parameter*> parameters() const;
  /// A copy whose parameters are trained, with values of their own, but for the frozen ones, which
  /// share their tensors with this model. `correction` biases are never trained by gradients but
  /// are copied, so that a load balancer may change them.
  Model trainable(bool freeze_embeddings = false) const;
  /// Where contributions to the gradients wait from now on; null: nowhere.
  void defer_gradients(const std::shared_ptr<GradientQueue>& queue);
};

/// The tensors of a directory under the names of the table; those of a model of text and more have
/// "language_model" before or in them.
io::Checkpoint open_checkpoint(const std::filesystem::path& directory);

/// The dtype that a checkpoint is run in when nobody asks for another: the one its config names
/// (float16 is run in float32).
at::ScalarType default_dtype(const ModelConfig& config);

/// Where weights that need no conversion stay: in the pages of the mapped file, or copied to one
/// block of the process's memory, which is read faster (huge pages) where a model is decoded for
/// long.
enum class Residence { mapped, copied };

/// Loads a Hugging Face directory; only what belongs to the share is read. InputError by name for
/// missing or misshapen tensors, and for a model that can't be shared out so.
Model load_model(const std::filesystem::path& directory,
                 std::optional<at::ScalarType> dtype = std::nullopt, at::Device device = at::kCPU,
                 Residence residence = Residence::mapped, const Share& share = {});

/// Random weights as transformers initialises them: matrices normal with initializer_range, norms
/// one, biases zero. The same for the same seed, whatever the share.
Model random_model(const ModelConfig& config, at::ScalarType dtype, uint64_t seed,
                   const Share& share = {}, at::Device device = at::kCPU);

struct SaveOptions {
  std::optional<at::ScalarType> dtype;  ///< default: the model's
  int64_t max_shard_bytes = 5'000'000'000;
  /// Ranks that each hold some experts and write them; ranks beyond the first share.experts.count
  /// have nothing of their own to write, but call it too.
  io::Team team = {};
  io::Files files = {};  ///< see io::WriteOptions
};

/// Writes a Hugging Face directory with this config.json (its dtype is made right), unused tensors
/// and companion files of the model's own directory included. Error for a share of anything but the
/// experts. forms::save knows what to write into config.json.
void save_model(const Model& model, nlohmann::ordered_json config,
                const std::filesystem::path& directory, const SaveOptions& options = {});

}  // namespace farskip::model
