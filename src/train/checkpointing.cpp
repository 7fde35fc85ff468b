// How the trainer saves itself and comes back.
#include <ATen/ATen.h>
#include <sys/wait.h>

#include <cstdio>
#include <map>

#include "io/atomic_file.h"
#include "io/json_file.h"
#include "io/safetensors.h"
#include "train/trainer.h"
#include "util/error.h"

namespace farskip::train {
namespace fs = std::filesystem;
namespace {

constexpr const char* kTensors = "training.safetensors";  ///< moments, masters, wide values
constexpr const char* kState = "training.json";           ///< the rest; written last

/// Parameters that a checkpoint in the model's dtype would round, and that no master holds.
std::vector<std::pair<std::string, at::Tensor>> wide_values(model::Model& model) {
  std::vector<std::pair<std::string, at::Tensor>> found;
  for (const model::Parameter* parameter : model.parameters())
    if (parameter->value.scalar_type() != model.dtype)
      found.emplace_back("value." + parameter->name, parameter->value.detach());
  return found;
}

}  // namespace

void Trainer::write_model(const fs::path& folder) const {
  model::save_model(model_, connectivity_, folder);
}

void Trainer::save(bool is_best) {
  const fs::path folder =
      directory_.out() / "checkpoints" / util::concat("step-", step_, ".partial");
  if (!begun_) write_model(directory_.begin(step_));
  auto tensors = optimizer_.state();
  const auto wide = wide_values(model_);
  tensors.insert(tensors.end(), wide.begin(), wide.end());
  io::write_safetensors(folder / kTensors, tensors);
  io::write_json_file(folder / kState, {{"step", step_},
                                        {"tokens", tokens_},
                                        {"updates", optimizer_.updates()},
                                        {"skipped", skipped_},
                                        {"identity", options_.identity},
                                        {"stopping", stopping_.state()},
                                        {"data", loader_.state()}});
  directory_.commit(step_, is_best, options_.keep);
}

void Trainer::load_weights(const fs::path& checkpoint) {
  at::NoGradGuard no_grad;
  model::Model saved = model::load_model(checkpoint, model_.dtype, model_.device);
  const auto from = saved.parameters(), to = model_.parameters();
  util::require(from.size() == to.size(), checkpoint.string() + ": parameters", from.size(),
                to.size());
  for (size_t i = 0; i < to.size(); ++i)
    // Frozen embeddings are the teacher's own tensors and never change; load-balancing biases do.
    if (to[i]->trained() || to[i]->value.dim() == 1)
      to[i]->value.detach().copy_(from[i]->value.detach());
  const auto tensors = io::SafetensorsFile::open(checkpoint / kTensors);
  for (const auto& [name, value] : wide_values(model_)) value.copy_(tensors.tensor(name));
}

void Trainer::resume() {
  const fs::path checkpoint = *directory_.latest();
  const nlohmann::json state = io::read_large_json_file(checkpoint / kState);
  const nlohmann::json before = state.value("identity", nlohmann::json());
  for (const auto& [key, value] : options_.identity.items())
    util::require(before.is_object() && before.contains(key) && before[key] == value,
                  "resumed run: " + key, value.dump(),
                  before.is_object() ? before.value(key, nlohmann::json()).dump() + " as before"
                                     : std::string("a run of this program"));
  load_weights(checkpoint);
  const auto tensors = io::SafetensorsFile::open(checkpoint / kTensors);
  try {
    optimizer_.restore(state.at("updates").get<int64_t>(),
                       [&](const std::string& name) { return tensors.tensor(name); });
    step_ = state.at("step").get<int64_t>();
    tokens_ = state.at("tokens").get<int64_t>();
    skipped_ = state.at("skipped").get<int64_t>();
    stopping_.restore(state.at("stopping"));
    loader_.restore(state.at("data"));
  } catch (const nlohmann::json::exception& error) {
    throw InputError(util::concat((checkpoint / kState).string(), ": found ", error.what(),
                                  ", expected the state of a training run"));
  }
}

double Trainer::run_command(const fs::path& checkpoint) const {
  std::string quoted = "'";
  for (const char c : checkpoint.string())
    quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  const std::string command = options_.eval_command + " " + quoted + "'";
  FILE* pipe = ::popen(command.c_str(), "r");
  if (!pipe) throw Error("--eval-command: can't be started: " + command);
  std::string output;
  char buffer[4096];
  while (const size_t count = std::fread(buffer, 1, sizeof buffer, pipe))
    output.append(buffer, count);
  const int status = ::pclose(pipe);
  if (status != 0)
    throw Error(util::concat("--eval-command: found exit status ",
                             WIFEXITED(status) ? WEXITSTATUS(status) : status,
                             ", expected 0: ", command));
  output.erase(output.find_last_not_of(" \t\r\n") + 1);
  const std::string line = output.substr(output.find_last_of('\n') + 1);
  char* end = nullptr;
  const double value = std::strtod(line.c_str(), &end);
  if (line.empty() || *end != '\0')
    throw InputError("--eval-command: found the last line " + io::in_quotes(line) +
                     ", expected a number");
  return value;
}

}  // namespace farskip::train
