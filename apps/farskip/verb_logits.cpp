// logits: what the model says after every token of a batch.
#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include "io/safetensors.h"
#include "options.h"
#include "ranks.h"
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
  const Ranks ranks = join(options.run, {checkpoint_fact(options.model)}, Layouts::either);
  const comm::Group& world = ranks.grid.world;
  const model::Model model =
      load(options.model, options.run, model::Residence::mapped, ranks.share, ranks.leads());
  const at::Tensor tokens = read_tokens(options.tokens);
  const int64_t rows = tokens.size(0), length = tokens.size(1);
  // Ranks that do not have all tokens read as many rows each; what is too many at the end are
  // copies that nobody keeps.
  const int64_t each = ranks.replicated() ? rows : (rows + world.size() - 1) / world.size();
  const at::Tensor own =
      ranks.replicated()
          ? tokens
          : tokens.index_select(0, (at::arange(each) + world.rank() * each).clamp_max(rows - 1));

  const c10::InferenceMode inference;
  std::vector<std::pair<std::string, at::Tensor>> results;
  const auto keep = [&](const std::string& name, const at::Tensor& x) {
    const at::Tensor part = x.view({each, length, -1}).to(at::kCPU, at::kFloat);
    results.emplace_back(
        name, ranks.replicated() ? part : world.all_gather(name, part).wait().narrow(0, 0, rows));
  };
  schedule::ForwardOptions forward{.connectivity = options.run.resolve(model.config),
                                   .ranks = ranks.experts};
  if (options.hidden_states)
    forward.on_residual = [&](int64_t k, const at::Tensor& x) {
      keep(util::concat("residual.", k), x);
    };
  const auto batch = model::Batch::whole(own.to(model.device));
  keep("logits", schedule::logits(model, schedule::forward(model, batch, forward), ranks.experts));
  if (ranks.leads()) io::write_safetensors(options.out, results);
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
