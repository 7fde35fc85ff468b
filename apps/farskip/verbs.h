// The verbs: each adds its sub-command, whose callback does the work.
#pragma once
#include <CLI/CLI.hpp>

namespace farskip::app {

void add_inspect(CLI::App& app);
void add_logits(CLI::App& app);
void add_generate(CLI::App& app);
void add_eval(CLI::App& app);
void add_data(CLI::App& app);
void add_pretrain(CLI::App& app);
void add_distill(CLI::App& app);
void add_bench(CLI::App& app);
void add_serve(CLI::App& app);
void add_export(CLI::App& app);
void add_launch(CLI::App& app);

}  // namespace farskip::app
