// logits: what the model says after every token of a batch.
#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include "io/safetensors.h"
#include "options.h"
#include "util/error.h"
#include "verbs.h"

namespace farskip::app {
namespace {

struct Options {
  std::string model, tokens, out;
  bool hidden_states = false;
  RunOptions run;
};

void run(const Options& options) {
  options.run.apply();
  const model::Model model = load(options.model, options.run);
  const at::Tensor tokens = read_tokens(options.tokens).to(model.device);
  const auto batch = model::Batch::whole(tokens);
  const int64_t rows = tokens.size(0), length = tokens.size(1);

  const c10::InferenceMode inference;
  std::vector<std::pair<std::string, at::Tensor>> results;
  const auto keep = [&](const std::string& name, const at::Tensor& x) {
    results.emplace_back(name, x.view({rows, length, -1}).to(at::kCPU, at::kFloat));
  };
  schedule::ForwardOptions forward{.connectivity = options.run.resolve(model.config)};
  if (options.hidden_states)
    forward.on_residual = [&](int64_t k, const at::Tensor& x) {
      keep(util::concat("residual.", k), x);
    };
  keep("logits", schedule::logits(model, schedule::forward(model, batch, forward)));
  io::write_safetensors(options.out, results);
}

}  // namespace

void add_logits(CLI::App& app) {
  CLI::App& verb = *app.add_subcommand("logits", "Logits (and residuals) of a batch of tokens");
  const auto options = std::make_shared<Options>();
  add_model(verb, options->model);
  verb.add_option("--tokens", options->tokens,
                  "Safetensors file with `tokens`, int64 [batch, length]")
      ->required();
  verb.add_option("--out", options->out,
                  "Safetensors file to write: `logits`, float32 [batch, length, vocabulary]")
      ->required();
  verb.add_flag("--hidden-states", options->hidden_states,
                "Also `residual.K` = x_K, float32 [batch, length, hidden], K = 0 to the depth");
  add_run_options(verb, options->run);
  examples(verb, {"farskip logits DeepSeek-V2-Lite --tokens in.safetensors --out out.safetensors",
                  "farskip logits DeepSeek-V2-Lite --connectivity farskip --layers last:50% "
                  "--tokens in.safetensors --out out.safetensors --hidden-states"});
  verb.callback([options] { run(*options); });
}

}  // namespace farskip::app
