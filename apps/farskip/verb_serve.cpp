// serve: OpenAI's HTTP interface. Rank 0 speaks it, all ranks make its engine's steps.
#include <algorithm>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <iostream>
#include <thread>

#include "io/hub_cache.h"
#include "io/text.h"
#include "options.h"
#include "ranks.h"
#include "serve/engine_backend.h"
#include "serve/http_server.h"
#include "util/error.h"
#include "verbs.h"

namespace farskip::app {
namespace {

constexpr const char* kEngineGroup = "Engine";

struct Options {
  std::string model, api_key, generation_config = "auto";
  std::vector<std::string> names, allowed_origins;
  engine::EngineOptions engine;
  serve::HttpOptions http;
  int64_t max_queue = 256;
  double request_timeout = 600;  ///< seconds
  bool no_prefix_reuse = false;
  RunOptions run;
};

/// The model's name on the hub, or the last part of the directory's.
std::string name_of(const std::string& model) {
  if (const auto name = io::hub_name(model)) return *name;
  const auto path = std::filesystem::weakly_canonical(model);
  return path.filename().string();
}

/// What a browser sends as Origin, or "*"; as vLLM takes them too, a JSON list, of which the
/// parser of options leaves the quotes.
std::vector<std::string> origins(std::vector<std::string> given) {
  for (std::string& origin : given) {
    std::erase_if(origin, [](char c) { return c == '"' || c == ' '; });
    util::require(origin == "*" || (origin.find("://") != origin.npos && !origin.ends_with('/')),
                  "--allowed-origins", io::in_quotes(origin),
                  "*, or scheme://host or scheme://host:port");
  }
  return given;
}

bool is_loopback(const std::string& host) {
  return host == "localhost" || host == "::1" || host.starts_with("127.");
}

void note(const std::string& line) {
  std::cerr << "farskip: note: " << line << "\n";
}

/// What generation_config.json says, told as far as it is not what OpenAI does.
model::GenerationDefaults generation_defaults(const Options& options, int64_t vocabulary) {
  model::GenerationDefaults found = model::read_generation_defaults(options.model, vocabulary);
  if (options.generation_config == "none") return {.eos_tokens = std::move(found.eos_tokens)};
  for (const std::string& line : found.notes) note(line);
  std::string told;
  const auto tell = [&](const char* name, const auto& value) {
    if (value) told += util::concat(told.empty() ? "" : ", ", name, " ", *value);
  };
  tell("temperature", found.temperature);
  tell("top_p", found.top_p);
  tell("top_k", found.top_k);
  tell("min_p", found.min_p);
  tell("repetition_penalty", found.repetition_penalty);
  tell("max_length", found.max_length);
  tell("at most max_new_tokens", found.max_new_tokens);
  if (!told.empty())
    note("requests that leave it out get generation_config.json's " + told +
         " (--generation-config none: they don't)");
  return found;
}

/// The model's chat template; a folder whose template can't be read serves completions all the
/// same.
std::optional<text::ChatTemplate> chat_template(const std::string& model, std::string& why_not) {
  try {
    return text::ChatTemplate::open(model);
  } catch (const InputError& error) {
    why_not = error.what();
    note("no chat: " + why_not);
    return std::nullopt;
  }
}

/// What requests are read against; InputError without a tokenizer.
serve::ServedModel served(const Options& options, const model::Model& model,
                          const serve::Backend& backend) {
  const auto tokenizer = text::Tokenizer::open(options.model);
  auto defaults = generation_defaults(options, model.config.vocabulary);
  // As vLLM: whichever file says what ends an output.
  auto eos_tokens = model::end_tokens(model.config.eos_tokens, defaults);
  if (const auto eos = tokenizer.special_id("eos_token");
      eos && std::find(eos_tokens.begin(), eos_tokens.end(), *eos) == eos_tokens.end())
    eos_tokens.push_back(*eos);
  std::string no_template;
  auto chat = chat_template(options.model, no_template);
  return {.names = options.names.empty() ? std::vector{name_of(options.model)} : options.names,
          .tokenizer = tokenizer,
          .chat_template = std::move(chat),
          .no_template = no_template,
          .defaults = std::move(defaults),
          .eos_tokens = std::move(eos_tokens),
          .vocabulary = model.config.vocabulary,
          .max_sequence = backend.max_sequence()};
}

/// What the other ranks do. A launcher signals all of them; rank 0 finishes what runs first, and
/// then lets them go.
void follow(const model::Model& model, const engine::EngineOptions& options) {
  std::signal(SIGINT, SIG_IGN);
  std::signal(SIGTERM, SIG_IGN);
  engine::Engine(model, options).follow();
}

void run(const CLI::App& verb, Options& options) {
  options.run.apply();
  util::require(verb.count("--api-key") == 0 || !options.api_key.empty(), "--api-key",
                "an empty text", "a key");
  // What speaks HTTP is rank 0's affair, the key above all.
  const Ranks ranks =
      join(options.run, {checkpoint_fact(options.model), options_fact(verb, kEngineGroup)},
           Layouts::either_replicated);
  options.engine.connectivity =
      options.run.resolve(model::read_config(options.model + "/config.json"));
  const model::Model model =
      load(options.model, options.run, model::Residence::copied,
           ranks.share_of_prefill(options.engine.connectivity), ranks.leads());
  options.engine.reuse_prefixes = !options.no_prefix_reuse;
  options.engine.ranks = ranks.experts;
  options.engine.group = ranks.grid.world;
  if (!ranks.leads()) return follow(model, options.engine);
  options.http.answer =
      std::chrono::milliseconds(static_cast<int64_t>(options.request_timeout * 1000));

  serve::EngineBackend backend(model, options.engine);
  serve::ServedModel answers = served(options, model, backend);
  const std::string name = answers.names.front();
  const int64_t at_once =
      options.engine.max_sequences * (options.engine.own_sequences() ? ranks.grid.size() : 1);
  serve::Service service(
      std::move(answers), backend,
      {options.api_key, at_once + options.max_queue, origins(options.allowed_origins)});
  serve::HttpServer server(service, options.http);
  server.stop_on_signals();
  const std::string& host = options.http.host;
  if (!is_loopback(host) && options.api_key.empty())
    std::cerr << "farskip: warning: --host " << host
              << " lets everybody who reaches this machine use the model: no --api-key is set\n";
  std::cout << "Serving " << name << " at http://"
            << (host.find(':') == std::string::npos ? host : "[" + host + "]") << ":"
            << server.port() << std::endl;
  while (!server.finished()) {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    if (backend.failure()) server.stop();
  }
  if (const auto failure = backend.failure()) throw Error("the engine failed: " + *failure);
}

void add_server_options(CLI::App& verb, Options& options) {
  verb.add_option("--host", options.http.host, "Name or address to listen at")
      ->capture_default_str();
  verb.add_option("--port", options.http.port, "Port to listen at; 0: any that is free")
      ->check(CLI::Range(0, 65535))
      ->capture_default_str();
  verb.add_option("--api-key", options.api_key,
                  "What clients must show; by the variable it is not seen in the list of processes "
                  "(default: none)")
      ->envname("FARSKIP_API_KEY");
  verb.add_option("--allowed-origins", options.allowed_origins,
                  "Origins whose pages in a browser may use the server (CORS), as "
                  "https://chat.example; *: anybody's (default: its own page)");
  verb.add_option("--served-model-name", options.names,
                  "Names that clients may call the model by; answers to them all (default: the "
                  "directory's)");
  verb.add_option("--generation-config", options.generation_config,
                  "auto: requests that leave sampling out get what generation_config.json says; "
                  "none: OpenAI's defaults. Its end tokens count in both")
      ->check(CLI::IsMember({"auto", "none"}))
      ->capture_default_str();
  verb.add_option("--max-queue", options.max_queue,
                  "Sequences that may wait beside those that are worked on; one more is told 429")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 20))
      ->capture_default_str();
  verb.add_option("--request-timeout", options.request_timeout,
                  "Seconds that an answer may take; then it is told 504")
      ->check(CLI::Range(0.1, 86400.0))
      ->capture_default_str();
  verb.add_option("--max-request-bytes", options.http.max_request_bytes,
                  "Of a request's body, as 65536, 64KiB, 16MiB; a longer one is told 413 (default: "
                  "16MiB)")
      ->transform(CLI::AsSizeValue(true))
      ->type_name("SIZE");
}

void add_engine_options(CLI::App& verb, Options& options) {
  const auto group = kEngineGroup;
  verb.add_option("--max-sequences", options.engine.max_sequences,
                  "Sequences that are worked on at once (with --transport all-to-all: a rank)")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 16))
      ->capture_default_str()
      ->group(group);
  verb.add_option("--max-batch-tokens", options.engine.max_batch_tokens,
                  "Tokens of one forward pass: of every running sequence one, the rest parts of "
                  "prompts")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 20))
      ->capture_default_str()
      ->group(group);
  verb.add_option("--cache-memory", options.engine.cache_bytes,
                  "Memory for keys and values of a rank, as 512MiB, 4GiB (default: 1GiB)")
      ->transform(CLI::AsSizeValue(true))
      ->type_name("SIZE")
      ->group(group);
  verb.add_flag("--no-prefix-reuse", options.no_prefix_reuse,
                "Compute every prompt anew, also where one began like it")
      ->group(group);
}

}  // namespace

void add_serve(CLI::App& app) {
  CLI::App& verb = *app.add_subcommand("serve", "Serves a model over HTTP, as OpenAI does");
  const auto options = std::make_shared<Options>();
  add_model(verb, options->model);
  add_server_options(verb, *options);
  add_engine_options(verb, *options);
  add_run_options(verb, options->run);
  examples(verb, {"farskip serve DeepSeek-V2-Lite",
                  "farskip serve DeepSeek-V2-Lite --port 8080 --cache-memory 8GiB",
                  "farskip launch --ranks 2 -- serve Moonlight-16B-A3B --tp 2",
                  "farskip launch --ranks 2 -- serve Moonlight-16B-A3B --transport all-to-all",
                  "FARSKIP_API_KEY=secret farskip serve model --host 0.0.0.0"});
  verb.callback([options, &verb] { run(verb, *options); });
}

}  // namespace farskip::app
