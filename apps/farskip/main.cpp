// farskip VERB [MODEL] [options]: the table of verbs, and what errors become.
#include <c10/util/Exception.h>
#include <c10/util/Logging.h>

#include <iostream>

#include "util/error.h"
#include "util/memory.h"
#include "util/one_line.h"
#include "verbs.h"

namespace {

using namespace farskip;

constexpr void (*kVerbs[])(CLI::App&) = {app::add_inspect, app::add_logits, app::add_generate,
                                         app::add_eval,    app::add_data,   app::add_pretrain,
                                         app::add_distill, app::add_export, app::add_bench,
                                         app::add_serve,   app::add_launch};

/// Ends the program without running what is left of it: threads may be waiting for a rank that is
/// gone.
[[noreturn]] void fail(int code, std::string message) {
  while (!message.empty() && message.back() == '\n') message.pop_back();
  std::cout.flush();
  std::cerr << "farskip: error: " << message << std::endl;
  std::_Exit(code);
}

}  // namespace

int main(int argc, char** argv) {
  util::configure_memory();
  c10::initLogging();  // TORCH_CPP_LOG_LEVEL, as in Python
  CLI::App app("Mixture-of-Experts models whose communication runs under compute (FarSkip).",
               "farskip");
  app.set_version_flag("--version", "farskip 0.1.0");
  app.require_subcommand(1);
  app.get_formatter()->column_width(38);
  for (const auto add : kVerbs) add(app);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& help) {
    return app.exit(help);
  } catch (const CLI::RuntimeError& failed) {  // of another process, which has said why
    return failed.get_exit_code();
  } catch (const CLI::ParseError& error) {
    fail(2, util::one_line(error) + " (see --help)");
  } catch (const InputError& error) {
    fail(2, error.what());
  } catch (const std::exception& error) {
    fail(1, util::one_line(error));
  }
  return 0;
}
