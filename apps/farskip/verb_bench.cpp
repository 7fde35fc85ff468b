// bench: the executions of one model side by side, in one run.
#include "bench_options.h"
#include "verbs.h"

namespace farskip::app {

void add_bench(CLI::App& app) {
  CLI::App& bench =
      *app.add_subcommand("bench", "Executions of one model side by side, in one run");
  bench.require_subcommand(1);
  add_bench_train(bench);
  add_bench_tokens(bench);
}

}  // namespace farskip::app
