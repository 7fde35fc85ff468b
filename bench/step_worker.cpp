// Times single steps on request, so that a script can interleave it with another implementation's.
//
//   step_worker --model DIR [--threads N] [--dtype bfloat16]
//
// reads one request a line and answers each with one line of JSON:
//   prefill BATCH LENGTH      {"ms"}: forward of BATCH x LENGTH tokens into a KV cache, last logits
//   decode BATCH PROMPT NEW   {"ms"}: per step, NEW greedy steps after a prompt
//   train BATCH LENGTH        {"ms"}: forward, cross entropy, backward, AdamW
//   gemm                      {"gflops"}: of at::mm in the dtype, 2048 x 512 x 4096
//   bandwidth                 {"gbps"}: of summing 1 GiB
//   quit
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <iostream>

#include "kernels/top_k.h"
#include "model/model.h"
#include "schedule/forward.h"
#include "train/gradient_sync.h"
#include "train/task.h"
#include "util/memory.h"

using namespace farskip;

namespace {

template <class Work>
double milliseconds(const Work& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start)
      .count();
}

void answer(const char* name, double value) {
  std::cout << nlohmann::json{{name, value}}.dump() << std::endl;
}

at::Tensor random_tokens(const model::Model& model, int64_t batch, int64_t length) {
  return at::randint(model.config.vocabulary, {batch, length}, at::kLong);
}

model::Batch rows(const at::Tensor& tokens, int64_t past) {
  std::vector<std::vector<int64_t>> rows;
  for (int64_t row = 0; row < tokens.size(0); ++row) {
    const at::Tensor line = tokens[row].contiguous();
    rows.emplace_back(line.data_ptr<int64_t>(), line.data_ptr<int64_t>() + line.numel());
  }
  return model::Batch::rows(rows, std::vector<int64_t>(rows.size(), past), at::kCPU);
}

/// Logits after the last token of every row.
at::Tensor last_logits(const model::Model& model, const at::Tensor& tokens, int64_t past,
                       const schedule::ForwardOptions& options) {
  const at::Tensor hidden = schedule::forward(model, rows(tokens, past), options);
  return schedule::logits(
      model, hidden.view({tokens.size(0), tokens.size(1), -1}).select(1, -1).contiguous());
}

/// Greedy choice of every row, as the engine makes it. [batch, vocabulary] -> [batch, 1]
at::Tensor greedy(const at::Tensor& logits) {
  at::Tensor next = at::empty({logits.size(0), 1}, at::kLong);
  for (int64_t row = 0; row < logits.size(0); ++row)
    next.mutable_data_ptr<int64_t>()[row] = kernels::argmax(logits[row]).value();
  return next;
}

schedule::ForwardOptions regular(const model::Model& model, model::KvCache& cache) {
  return {.connectivity = model::Connectivity::regular(model.config.depth()), .cache = &cache};
}

double prefill(const model::Model& model, int64_t batch, int64_t length) {
  const c10::InferenceMode inference;
  const at::Tensor tokens = random_tokens(model, batch, length);
  return milliseconds([&] {
    model::KvCache cache(model.config, batch, length, model.dtype);
    last_logits(model, tokens, 0, regular(model, cache));
  });
}

double decode(const model::Model& model, int64_t batch, int64_t prompt, int64_t count) {
  const c10::InferenceMode inference;
  model::KvCache cache(model.config, batch, prompt + count, model.dtype);
  const auto options = regular(model, cache);
  at::Tensor next = greedy(last_logits(model, random_tokens(model, batch, prompt), 0, options));
  const double total = milliseconds([&] {
    for (int64_t step = 0; step < count; ++step)
      next = greedy(last_logits(model, next, prompt + step, options));
  });
  return total / static_cast<double>(count);
}

/// A model in training: pretraining's task and optimizer, kept from step to step.
class Training {
 public:
  explicit Training(const model::Model& start)
      : model_(start.trainable()),
        task_(train::pretraining(
            model_, {.connectivity = model::Connectivity::regular(model_.config.depth())}, {})),
        sync_(model_, {}),
        optimizer_(sync_.owned(), {}) {}

  double step(int64_t batch, int64_t length) {
    const at::Tensor tokens = random_tokens(model_, batch, length);
    train::Rows rows{tokens, at::roll(tokens, -1, 1), at::ones_like(tokens, at::kBool)};
    return milliseconds([&] {
      sync_.zero_gradients();
      task_->forward(rows, 1.0 / static_cast<double>(tokens.numel()), 1)->finish();
      optimizer_.step(1e-5, 1);
    });
  }

 private:
  model::Model model_;
  std::unique_ptr<train::Task> task_;
  train::GradientSync sync_;
  train::AdamW optimizer_;
};

double gemm_gflops(at::ScalarType dtype) {
  const c10::InferenceMode inference;
  const int64_t m = 2048, k = 512, n = 4096;
  const at::Tensor a = at::randn({m, k}, dtype), b = at::randn({n, k}, dtype);
  at::Tensor c = at::mm(a, b.t());
  const int repeats = 20;
  const double ms = milliseconds([&] {
    for (int i = 0; i < repeats; ++i) at::mm_out(c, a, b.t());
  });
  return 2e-6 * m * k * n * repeats / ms;
}

double bandwidth_gbps() {
  static const at::Tensor memory = at::ones({int64_t{1} << 28}, at::kFloat);
  double best = 1e30;
  for (int i = 0; i < 3; ++i) best = std::min(best, milliseconds([&] { memory.sum().item(); }));
  return static_cast<double>(memory.nbytes()) * 1e-6 / best;
}

}  // namespace

int main(int argc, char** argv) {
  util::configure_memory();  // as the program does
  CLI::App app("Times single steps on request (see the head of this file)");
  std::string directory, dtype = "bfloat16";
  int threads = 1;
  app.add_option("--model", directory)->required();
  app.add_option("--threads", threads);
  app.add_option("--dtype", dtype)->check(CLI::IsMember({"float32", "bfloat16"}));
  CLI11_PARSE(app, argc, argv);
  at::set_num_threads(threads);
  const model::Model model =
      model::load_model(directory, dtype == "bfloat16" ? at::kBFloat16 : at::kFloat, at::kCPU,
                        model::Residence::copied);

  std::optional<Training> training;
  for (std::string request; std::cin >> request;) {
    int64_t batch = 0, length = 0, count = 0;
    if (request == "prefill") {
      std::cin >> batch >> length;
      answer("ms", prefill(model, batch, length));
    } else if (request == "decode") {
      std::cin >> batch >> length >> count;
      answer("ms", decode(model, batch, length, count));
    } else if (request == "train") {
      std::cin >> batch >> length;
      if (!training) training.emplace(model);
      answer("ms", training->step(batch, length));
    } else if (request == "gemm") {
      answer("gflops", gemm_gflops(model.dtype));
    } else if (request == "bandwidth") {
      answer("gbps", bandwidth_gbps());
    } else if (request == "quit") {
      break;
    } else {
      std::cerr << "step_worker: unknown request " << request << "\n";
      return 2;
    }
  }
}
