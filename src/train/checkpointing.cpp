// How the trainer saves itself and comes back.
#include <ATen/ATen.h>
#include <sys/wait.h>

#include <cstdio>
#include <future>
#include <map>

#include "forms/form.h"
#include "io/atomic_file.h"
#include "io/json_file.h"
#include "io/safetensors.h"
#include "train/trainer.h"
#include "util/error.h"

namespace farskip::train {
namespace fs = std::filesystem;
namespace {

constexpr const char* kState = "training.json";  ///< what is no tensor; written last

/// Moments, masters and wide values of one rank.
std::string part_name(int64_t rank, int64_t ranks) {
  if (ranks == 1) return "training.safetensors";
  char name[64];
  std::snprintf(name, sizeof name, "training-%05d-of-%05d.safetensors", static_cast<int>(rank + 1),
                static_cast<int>(ranks));
  return name;
}

/// What all ranks of a run saved, whatever their number was: "NAME@BEGIN" holds the elements of
/// NAME from BEGIN on.
class SavedState {
 public:
  explicit SavedState(const fs::path& checkpoint) : checkpoint_(checkpoint) {
    for (const auto& entry : fs::directory_iterator(checkpoint)) {
      const std::string name = entry.path().filename().string();
      if (name.rfind("training", 0) != 0 || entry.path().extension() != ".safetensors") continue;
      const auto file = io::SafetensorsFile::open(entry.path());
      for (const auto& [tensor, place] : file.header().tensors) {
        const auto at = tensor.rfind('@');
        if (at == std::string::npos) {
          whole_.emplace(tensor, file.tensor(tensor));
        } else {
          const std::string begin = tensor.substr(at + 1);
          util::require(!begin.empty() && begin.size() < 19 &&
                            begin.find_first_not_of("0123456789") == std::string::npos,
                        entry.path().string() + ": " + tensor, begin, "the index of an element");
          parts_[tensor.substr(0, at)].emplace(std::stoll(begin), file.tensor(tensor));
        }
      }
    }
  }

  at::Tensor tensor(const std::string& name) const {
    const auto found = whole_.find(name);
    util::require(found != whole_.end(), checkpoint_.string() + ": " + name, "no such tensor",
                  "the state of a training run");
    return found->second;
  }
  /// Flat elements begin .. begin + count of `name`, put together from the parts that hold them.
  at::Tensor elements(const std::string& name, int64_t begin, int64_t count) const {
    std::vector<at::Tensor> pieces;
    int64_t at = begin;
    if (const auto found = parts_.find(name); found != parts_.end())
      for (const auto& [first, part] : found->second) {
        const int64_t last = first + part.numel();
        if (first > at || last <= at || at >= begin + count) continue;
        const int64_t end = std::min(last, begin + count);
        pieces.push_back(part.narrow(0, at - first, end - at));
        at = end;
      }
    util::require(at == begin + count, checkpoint_.string() + ": " + name,
                  util::concat("elements up to ", at), begin + count);
    return pieces.size() == 1 ? pieces.front() : at::cat(pieces);
  }

 private:
  fs::path checkpoint_;
  std::map<std::string, at::Tensor> whole_;
  std::map<std::string, std::map<int64_t, at::Tensor>> parts_;
};

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
  const comm::Group& world = options_.grid.world;
  forms::save(model_, connectivity_, folder,
              {.team = {world.rank(), [&] { world.barrier("writing the model"); }}});
}

void Trainer::save(bool is_best) {
  const fs::path folder =
      directory_.out() / "checkpoints" / util::concat("step-", step_, ".partial");
  if (!begun_) write_model(directory_.begin(step_));
  std::vector<std::pair<std::string, at::Tensor>> tensors;
  for (const AdamW::State& one : optimizer_.state())
    tensors.emplace_back(util::concat(one.name, '@', one.begin), one.tensor);
  if (leads())
    for (const auto& [name, value] : wide_values(model_)) tensors.emplace_back(name, value);
  io::write_safetensors(folder / part_name(options_.grid.rank(), options_.grid.size()), tensors);
  if (leads())
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
  model::Model saved = model::load_model(checkpoint, model_.dtype, model_.device,
                                         model::Residence::mapped, model_.share);
  const auto from = saved.parameters(), to = model_.parameters();
  util::require(from.size() == to.size(), checkpoint.string() + ": parameters", from.size(),
                to.size());
  for (size_t i = 0; i < to.size(); ++i)
    // Frozen embeddings are the teacher's own tensors and never change; load-balancing biases do.
    if (to[i]->trained() || to[i]->value.dim() == 1)
      to[i]->value.detach().copy_(from[i]->value.detach());
  const SavedState state(checkpoint);
  for (const auto& [name, value] : wide_values(model_)) value.copy_(state.tensor(name));
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
  const SavedState tensors(checkpoint);
  try {
    optimizer_.restore(state.at("updates").get<int64_t>(),
                       [&](const std::string& name, int64_t begin, int64_t count) {
                         return tensors.elements(name, begin, count);
                       });
    step_ = state.at("step").get<int64_t>();
    tokens_ = state.at("tokens").get<int64_t>();
    skipped_ = state.at("skipped").get<int64_t>();
    stopping_.restore(state.at("stopping"));
    loader_.restore(state.at("data"));
  } catch (const nlohmann::json::exception& error) {
    throw InputError(util::concat((checkpoint / kState).string(), ": found ", error.what(),
                                  ", expected the state of a training run"));
  }
  sync_.spread_values();
}

double Trainer::command_score(const fs::path& checkpoint) const {
  const comm::Group& world = options_.grid.world;
  if (world.size() == 1) return run_command(checkpoint);
  std::future<double> score;
  if (leads()) score = std::async(std::launch::async, [&] { return run_command(checkpoint); });
  // A sign of life now and then: the command may take longer than a message may.
  for (;;) {
    const bool done =
        leads() && score.wait_for(std::chrono::seconds(1)) == std::future_status::ready;
    const at::Tensor own = at::tensor({done ? 1.0 : 0.0, done ? score.get() : 0.0}, at::kDouble);
    const at::Tensor sum = world.all_reduce("evaluation command", own).wait();
    if (sum[0].item<double>() == 1) return sum[1].item<double>();
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
