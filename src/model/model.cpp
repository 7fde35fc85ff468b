#include "model/model.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include <algorithm>
#include <iterator>
#include <map>
#include <tuple>

#include "util/error.h"

namespace farskip::model {
namespace {

at::ScalarType held_dtype(const Binding& binding, at::ScalarType dtype) {
  return binding.wide && dtype != at::kDouble ? at::kFloat : dtype;
}

/// One block of memory for all parameters, in the order of the name table, which is the order in
/// which a forward pass reads them. Small matrices too lie on huge pages there.
class Block {
 public:
  Block(const std::vector<Binding>& bindings, at::ScalarType dtype, at::Device device) {
    int64_t bytes = 0;
    for (const Binding& binding : bindings)
      bytes += padded_bytes(binding.shape, held_dtype(binding, dtype));
    memory_ = at::empty({bytes}, at::TensorOptions(at::kByte).device(device));
  }
  at::Tensor take(at::IntArrayRef shape, at::ScalarType dtype) {
    const int64_t bytes = c10::multiply_integers(shape) * c10::elementSize(dtype);
    const at::Tensor taken = memory_.narrow(0, used_, bytes).view(dtype).view(shape);
    used_ += padded_bytes(shape, dtype);
    return taken;
  }

 private:
  static int64_t padded_bytes(at::IntArrayRef shape, at::ScalarType dtype) {
    constexpr int64_t kCacheLine = 64;
    const int64_t bytes = c10::multiply_integers(shape) * c10::elementSize(dtype);
    return (bytes + kCacheLine - 1) / kCacheLine * kCacheLine;
  }

  at::Tensor memory_;
  int64_t used_ = 0;
};

/// Copied into `block` where there is one. Without, one piece comes as it is, from the mapped file
/// if its dtype is right and its rows are whole, and several are copied into the stacked parameter.
at::Tensor load_parameter(const io::Checkpoint& checkpoint, const Binding& binding,
                          at::TensorOptions options, Block* block) {
  const auto read = [&](const Piece& piece) { return read_piece(checkpoint, binding, piece); };
  if (binding.pieces.size() == 1 && binding.pieces.front().expert < 0 && !block)
    return read(binding.pieces.front()).to(options).contiguous();
  const at::Tensor value =
      block ? block->take(binding.shape, c10::typeMetaToScalarType(options.dtype()))
            : at::empty(binding.shape, options);
  for (const Piece& piece : binding.pieces) binding.view(value, piece).copy_(read(piece));
  return value;
}

/// The head of tied embeddings is the embedding, or the rows of it that the share has of the head.
void tie(Model& model) {
  if (!model.config.tied_embeddings) return;
  const auto& [embedding, head] = std::tie(model.share.embedding, model.share.head);
  model.weights.head = model.weights.embedding;
  if (head == embedding) return;
  if (embedding.count > 1) throw Error("a share of tied embeddings has other rows of the head");
  const int64_t words = model.config.vocabulary;
  model.weights.head.value =
      model.weights.embedding.value.narrow(0, head.begin(words), head.size(words));
}

/// Where a piece of the saved checkpoint comes from: a parameter, or the model's own directory.
struct Source {
  const Binding* binding;
  const Piece* piece;
};

}  // namespace

std::vector<Parameter*> Model::parameters() {
  std::vector<Parameter*> found;
  for (const Binding& binding : bind(weights, whole, share)) found.push_back(binding.parameter);
  return found;
}

std::vector<const Parameter*> Model::parameters() const {
  const auto found = const_cast<Model*>(this)->parameters();  // bind only fills in what is there
  return {found.begin(), found.end()};
}

Model Model::trainable(bool freeze_embeddings) const {
  Model copy = *this;
  for (const Binding& binding : bind(copy.weights, whole, share)) {
    Parameter& parameter = *binding.parameter;
    const bool embeddings =
        &parameter == &copy.weights.embedding || &parameter == &copy.weights.head;
    if (freeze_embeddings && embeddings) continue;
    parameter.value = parameter.value.detach().clone();
    if (binding.role != Role::correction) parameter.train();
  }
  tie(copy);
  return copy;
}

void Model::defer_gradients(const std::shared_ptr<GradientQueue>& queue) {
  for (Parameter* parameter : parameters()) parameter->queue = queue;
  weights.head.queue = queue;  // a tied one is not among them
}

io::Checkpoint open_checkpoint(const std::filesystem::path& directory) {
  const auto checkpoint = io::Checkpoint::open(directory);
  const std::string embedding = "model.embed_tokens.weight";
  if (checkpoint.contains(embedding)) return checkpoint;
  for (const auto& [from, to] : {std::pair<std::string, std::string>{"language_model.", ""},
                                 {"model.language_model.", "model."}})
    if (const auto renamed = checkpoint.renamed(from, to); renamed.contains(embedding))
      return renamed;
  return checkpoint;
}

at::ScalarType default_dtype(const ModelConfig& config) {
  return config.dtype == "bfloat16" ? at::kBFloat16 : at::kFloat;
}

Model load_model(const std::filesystem::path& directory, std::optional<at::ScalarType> dtype,
                 at::Device device, Residence residence, const Share& share) {
  Model model;
  model.share = share;
  model.whole = read_config(directory / "config.json");
  model.config = local_config(model.whole, share);
  model.dtype = dtype.value_or(default_dtype(model.config));
  model.device = device;
  model.directory = directory;
  const auto checkpoint = open_checkpoint(directory);
  model.notes = model.whole.notes;
  model.notes.insert(model.notes.end(), checkpoint.notes().begin(), checkpoint.notes().end());

  const auto bindings = bind(model.weights, model.whole, share);
  // Of an embedding a few rows are read at a time: it stays in the file, but where it is the head.
  const auto copied = [&](const Binding& binding) {
    return residence == Residence::copied &&
           (binding.parameter != &model.weights.embedding || model.whole.tied_embeddings);
  };
  std::vector<Binding> in_block;
  std::copy_if(bindings.begin(), bindings.end(), std::back_inserter(in_block), copied);
  Block block(in_block, model.dtype, device);
  for (const Binding& binding : bindings) {
    const auto options = at::TensorOptions(held_dtype(binding, model.dtype)).device(device);
    binding.parameter->value =
        load_parameter(checkpoint, binding, options, copied(binding) ? &block : nullptr);
  }
  tie(model);
  Weights all;
  model.unused = unused_tensors(bind(all, model.whole), model.whole, checkpoint.names());
  return model;
}

Model random_model(const ModelConfig& config, at::ScalarType dtype, uint64_t seed,
                   const Share& share, at::Device device) {
  Model model;
  model.device = device;
  model.share = share;
  model.whole = config;
  model.config = local_config(config, share);
  model.dtype = dtype;
  const auto own = bind(model.weights, config, share);
  const auto generator = at::detail::createCPUGenerator(seed);
  Weights all;
  for (const Binding& binding : bind(all, config)) {  // the same draws for every share
    at::Tensor value = at::zeros(binding.shape);
    if (binding.role == Role::matrix) value.normal_(0, config.initializer_range, generator);
    if (binding.role == Role::norm) value.fill_(1);
    std::map<std::string, const Piece*> drawn;
    for (const Piece& piece : binding.pieces) drawn[piece.name] = &piece;
    for (const Binding& found : own) {  // none is another rank's
      if (found.name != binding.name) continue;
      const at::Tensor held =
          at::empty(found.shape, at::TensorOptions(held_dtype(binding, dtype)).device(device));
      for (const Piece& piece : found.pieces)
        found.view(held, piece).copy_(piece.held(binding.view(value, *drawn.at(piece.name))));
      found.parameter->value = held;
    }
  }
  tie(model);
  return model;
}

void save_model(const Model& model, nlohmann::ordered_json config,
                const std::filesystem::path& directory, const SaveOptions& options) {
  if (!model.share.only_experts())
    throw Error("a model whose layers are cut among ranks can't be saved");
  const at::ScalarType dtype = options.dtype.value_or(model.dtype);
  Weights weights = model.weights;  // handles only
  const auto bindings = bind(weights, model.whole, model.share);
  std::optional<io::Checkpoint> origin;
  if (!model.unused.empty()) origin = open_checkpoint(*model.directory);

  std::map<std::string, Source> sources;
  for (const Binding& binding : bindings)
    for (const Piece& piece : binding.pieces) sources[piece.name] = {&binding, &piece};
  std::vector<io::TensorSpec> specs;
  Weights all;
  const int64_t writers = model.share.experts.count;
  int64_t turn = 0;  // what everybody holds is written by each in turn
  for (const Binding& binding : bind(all, model.whole)) {
    // A correction bias is float32 in the files of its family; other weights take the file's dtype.
    const auto file_dtype = binding.role == Role::correction ? at::kFloat : dtype;
    const int64_t held = binding.experts ? binding.shape.front() / writers : 0;
    const int64_t writer = turn++ % writers;
    for (const Piece& piece : binding.pieces)
      specs.push_back(
          {piece.name, file_dtype, piece.shape, binding.experts ? piece.expert / held : writer});
  }
  for (const std::string& name : model.unused) {
    const at::Tensor tensor = origin->tensor(name);
    specs.push_back({name, tensor.scalar_type(), tensor.sizes().vec()});
  }
  const auto produce = [&](const io::TensorSpec& spec) {
    const auto found = sources.find(spec.name);
    if (found == sources.end()) return origin->tensor(spec.name);
    const auto& [binding, piece] = found->second;
    return binding->view(binding->parameter->value.detach(), *piece).to(at::kCPU, spec.dtype);
  };

  const std::string name = dtype == at::kBFloat16 ? "bfloat16"
                           : dtype == at::kDouble ? "float64"
                                                  : "float32";
  config[config.contains("dtype") && !config.contains("torch_dtype") ? "dtype" : "torch_dtype"] =
      name;
  io::WriteOptions written{
      .max_shard_bytes = options.max_shard_bytes, .files = options.files, .team = options.team};
  if (model.directory) written.companions = io::companions(*model.directory, model.only_tokenizer);
  io::write_checkpoint(directory, config, specs, produce, written);
}

}  // namespace farskip::model
