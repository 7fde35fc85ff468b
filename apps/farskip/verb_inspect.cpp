// inspect: what a checkpoint or a config.json is, without running it.
#include <iostream>

#include "io/checkpoint.h"
#include "io/json_file.h"
#include "io/text.h"
#include "model/generation_defaults.h"
#include "model/parameter_count.h"
#include "options.h"
#include "util/error.h"
#include "verbs.h"

namespace farskip::app {
namespace {

io::Json describe(const model::ModelConfig& config) {
  const auto count = model::count_parameters(config);
  io::Json layers = io::Json::array();
  for (int64_t k = 0; k < config.depth(); ++k) {
    const model::LayerConfig& layer = config.layers[k];
    const auto reads = config.connectivity.layer(k);
    io::Json entry = {
        {"layer", k},
        {"attention", layer.attention.kind == model::AttentionKind::mla ? "mla" : "gqa"},
        {"mlp", layer.moe ? "moe" : "dense"},
        {"attention_reads", reads.attention_partial ? "partial" : "full"},
        {"mlp_reads", reads.mlp_outdated ? "outdated" : "full"}};
    if (layer.moe) {
      entry["experts"] = layer.moe->router.experts;
      entry["top_k"] = layer.moe->router.top_k;
      entry["shared_width"] = layer.moe->shared_width;
    }
    layers.push_back(std::move(entry));
  }
  const int64_t element = model::default_dtype(config) == at::kFloat ? 4 : 2;
  return {{"architecture", config.architecture},
          {"dtype", config.dtype},
          {"vocabulary", config.vocabulary},
          {"hidden", config.hidden},
          {"depth", config.depth()},
          {"tied_embeddings", config.tied_embeddings},
          {"connectivity", config.connectivity.describe()},
          {"parameters",
           {{"total", count.total()},
            {"active", count.active()},
            {"embedding", count.embedding},
            {"attention", count.attention},
            {"dense_mlp", count.dense_mlp},
            {"router", count.router},
            {"shared_experts", count.shared_experts},
            {"routed_experts", count.routed_experts},
            {"norms", count.norms},
            {"head", count.head}}},
          {"kv_cache_bytes_per_token", model::KvCache::bytes_per_token(config, element)},
          {"layers", layers}};
}

/// Checks that every tensor is there with its shape; notes what is passed over.
std::vector<std::string> check_tensors(const std::string& directory,
                                       const model::ModelConfig& config,
                                       std::vector<std::string>& notes) {
  const auto checkpoint = model::open_checkpoint(directory);
  notes.insert(notes.end(), checkpoint.notes().begin(), checkpoint.notes().end());
  model::Weights weights;
  const auto bindings = model::bind(weights, config);
  for (const model::Binding& binding : bindings)
    for (const model::Piece& piece : binding.pieces) model::read_piece(checkpoint, binding, piece);
  return model::unused_tensors(bindings, config, checkpoint.names());
}

std::string human(double value) {
  const char* units[] = {"", " K", " M", " G", " T"};
  int unit = 0;
  while (std::abs(value) >= 1000 && unit < 4) value /= 1000, ++unit;
  char text[32];
  std::snprintf(text, sizeof text, unit == 0 ? "%.0f%s" : "%.2f%s", value, units[unit]);
  return text;
}

void print(const io::Json& found) {
  const auto line = [](const std::string& name, const std::string& value) {
    std::cout << name << std::string(name.size() < 24 ? 24 - name.size() : 1, ' ') << value << "\n";
  };
  line("architecture", found["architecture"]);
  line("connectivity", found["connectivity"]);
  const std::string dtype = found["dtype"];
  line("dtype", dtype.empty() ? "not stated" : dtype);
  line("vocabulary, hidden", util::concat(found["vocabulary"], ", ", found["hidden"]));
  const auto& parameters = found["parameters"];
  line("parameters", util::concat(human(parameters["total"]), ", of which a token uses ",
                                  human(parameters["active"])));
  for (const auto& [part, n] : parameters.items())
    if (part != "total" && part != "active" && n != 0) line("  " + part, human(n));
  line("KV cache", util::concat(found["kv_cache_bytes_per_token"], " bytes a token"));
  if (found.contains("end_tokens")) line("end tokens", found["end_tokens"].dump());
  line("layers", found["depth"].dump());
  // Runs of equal layers on one line.
  const auto& layers = found["layers"];
  for (size_t begin = 0, end; begin < layers.size(); begin = end) {
    io::Json first = layers[begin];
    first.erase("layer");
    for (end = begin + 1; end < layers.size(); ++end) {
      io::Json next = layers[end];
      next.erase("layer");
      if (next != first) break;
    }
    std::string text = util::concat(first["attention"].get<std::string>(), " reads ",
                                    first["attention_reads"].get<std::string>(), "; ",
                                    first["mlp"].get<std::string>(), " reads ",
                                    first["mlp_reads"].get<std::string>());
    if (first.contains("experts"))
      text += util::concat("; top ", first["top_k"], " of ", first["experts"], " experts",
                           first["shared_width"] == 0 ? ""
                                                      : util::concat(" and a shared one of width ",
                                                                     first["shared_width"]));
    line(begin + 1 == end ? util::concat("  ", begin) : util::concat("  ", begin, "-", end - 1),
         text);
  }
  for (const auto& name : found["unused_tensors"])
    line("not part of the model", io::printable(name.get<std::string>()));
  for (const auto& note : found["notes"]) line("note", note.get<std::string>());
}

void run(const std::string& where, bool json) {
  const bool directory = std::filesystem::is_directory(where);
  std::filesystem::path file = where;
  if (directory) file /= "config.json";
  const auto config = model::read_config(file);
  io::Json found = describe(config);
  auto notes = config.notes;
  found["unused_tensors"] =
      directory ? io::Json(check_tensors(where, config, notes)) : io::Json::array();
  if (directory) {
    const auto defaults = model::read_generation_defaults(where, config.vocabulary);
    notes.insert(notes.end(), defaults.notes.begin(), defaults.notes.end());
    found["end_tokens"] = model::end_tokens(config.eos_tokens, defaults);
  }
  found["notes"] = notes;
  if (json) {
    std::cout << found.dump(2) << "\n";
  } else {
    print(found);
  }
}

}  // namespace

void add_inspect(CLI::App& app) {
  CLI::App& verb =
      *app.add_subcommand("inspect", "What a checkpoint (or a config.json alone) holds");
  const auto where = std::make_shared<std::string>();
  const auto json = std::make_shared<bool>(false);
  takes_model(verb.add_option("MODEL", *where, std::string(kModelHelp) + ", or a config.json"))
      ->required();
  add_json(verb, *json);
  examples(verb, {"farskip inspect DeepSeek-V2-Lite", "farskip inspect config.json --json"});
  verb.callback([where, json] { run(*where, *json); });
}

}  // namespace farskip::app
