// generate: continues prompts.
#include <charconv>
#include <iostream>

#include "engine/generate.h"
#include "io/json_file.h"
#include "model/generation_defaults.h"
#include "options.h"
#include "ranks.h"
#include "text/chat_template.h"
#include "text/text_output.h"
#include "text/tokenizer.h"
#include "util/error.h"
#include "verbs.h"

namespace farskip::app {
namespace {

struct Options {
  std::string model;
  std::vector<std::string> prompts, prompt_tokens, stops;
  std::vector<int64_t> stop_token_ids;
  std::string generation_config = "auto";
  bool chat = false, json = false, ignore_eos = false, skip_special_tokens = true;
  engine::GenerateOptions generate;
  RunOptions run;
};

std::vector<int64_t> parse_tokens(const std::string& text) {
  std::vector<int64_t> tokens;
  const char *at = text.data(), *end = at + text.size();
  while (true) {
    int64_t token = 0;
    const auto [next, error] = std::from_chars(at, end, token);
    if (error != std::errc() || (next != end && *next != ','))
      throw InputError("--prompt-tokens: found \"" + text + "\", expected ids like 1,2,3");
    tokens.push_back(token);
    if (next == end) return tokens;
    at = next + 1;
  }
}

/// The prompt's tokens; as one user message in the model's chat template where that is asked for.
std::vector<int64_t> encode_prompt(const Options& options, const std::string& prompt,
                                   const text::Tokenizer& tokenizer) {
  if (!options.chat) return tokenizer.encode(prompt, /*add_special_tokens=*/true);
  const auto chat = text::ChatTemplate::open(options.model);
  if (!chat) throw InputError(options.model + ": found no chat template, expected one for --chat");
  text::Conversation talk{.messages = {{{"role", "user"}, {"content", prompt}}}};
  talk.add_generation_prompt = true;
  return tokenizer.encode(chat->render(talk).text);
}

/// What comes of one prompt: text, or ids where there is no tokenizer.
class Output {
 public:
  /// `stream`: shown on the terminal as it comes.
  Output(const text::Tokenizer* tokenizer, const Options& options, bool stream) : stream_(stream) {
    if (tokenizer)
      text_.emplace(*tokenizer,
                    text::TextOutputOptions{.stops = options.stops,
                                            .skip_special_tokens = options.skip_special_tokens});
  }

  /// False when a stop string is complete.
  bool push(int64_t token) {
    show(text_ ? text_->push(token) : (first_ ? "" : ",") + std::to_string(token));
    first_ = false;
    return !text_ || !text_->stopped();
  }
  void finish() {
    if (text_) show(text_->finish());
    if (stream_) std::cout << std::endl;
  }
  std::string text() const { return text_ ? text_->text() : ""; }
  /// All that is there to be shown.
  const std::string& shown() const { return shown_; }

 private:
  void show(const std::string& piece) {
    shown_ += piece;
    if (stream_) std::cout << piece << std::flush;
  }

  std::optional<text::TextOutput> text_;
  std::string shown_;
  bool stream_, first_ = true;
};

io::Json to_json(const engine::Generated& generated, const std::vector<int64_t>& prompt,
                 const Output& output) {
  return {
      {"tokens", generated.tokens},     {"text", output.text()},
      {"prompt_tokens", prompt.size()}, {"finish_reason", generated.stopped ? "stop" : "length"},
      {"ttft_ms", generated.ttft_ms},   {"tbt_ms", generated.tbt_ms}};
}

/// What the command line leaves out is sampled as the model's generation_config.json says.
void take_defaults(const CLI::App& verb, const model::GenerationDefaults& defaults,
                   engine::GenerateOptions& generate) {
  const auto take = [&](const char* option, auto& value, const auto& given) {
    if (given && verb.count(option) == 0) value = *given;
  };
  engine::SamplingOptions& sampling = generate.sampling;
  take("--temperature", sampling.temperature, defaults.temperature);
  take("--top-k", sampling.top_k, defaults.top_k);
  take("--top-p", sampling.top_p, defaults.top_p);
  take("--min-p", sampling.min_p, defaults.min_p);
  take("--repetition-penalty", sampling.repetition_penalty, defaults.repetition_penalty);
  take("--max-new-tokens", generate.max_new_tokens, defaults.max_new_tokens);
  if (!defaults.max_new_tokens && verb.count("--max-new-tokens") == 0)
    generate.max_length = defaults.max_length;
}

/// What ends an output: the model's own end tokens, whatever --generation-config says, the
/// tokenizer's, and those that are asked for.
std::vector<int64_t> stop_tokens(const Options& options, const model::ModelConfig& config,
                                 const model::GenerationDefaults& defaults,
                                 const text::Tokenizer* tokenizer) {
  std::vector<int64_t> tokens;
  if (!options.ignore_eos) {
    tokens = model::end_tokens(config.eos_tokens, defaults);
    if (tokenizer)
      if (const auto end = tokenizer->special_id("eos_token")) tokens.push_back(*end);
  }
  for (const int64_t token : options.stop_token_ids) {
    util::require(token >= 0 && token < config.vocabulary, "--stop-token-ids", token,
                  util::concat("0 to ", config.vocabulary - 1));
    tokens.push_back(token);
  }
  return tokens;
}

void run(const CLI::App& verb, Options& options) {
  options.run.apply();
  if (options.prompts.empty() == options.prompt_tokens.empty())
    throw InputError("--prompt: found " +
                     std::string(options.prompts.empty() ? "neither" : "both") +
                     " it and --prompt-tokens, expected exactly one");
  for (const std::string& prompt : options.prompts)
    util::require(!prompt.empty(), "--prompt", "an empty text", "at least one character");
  for (const std::string& stop : options.stops)
    util::require(!stop.empty(), "--stop", "an empty text", "at least one character");
  const Ranks ranks = join(options.run, {checkpoint_fact(options.model), options_fact(verb)},
                           Layouts::either_replicated);
  const model::ModelConfig config = model::read_config(options.model + "/config.json");
  options.generate.connectivity = options.run.resolve(config);
  const auto defaults = model::read_generation_defaults(options.model, config.vocabulary);
  if (options.generation_config == "auto") {
    take_defaults(verb, defaults, options.generate);
    if (ranks.leads()) show_notes(defaults.notes);
  }
  for (const char* option : {"--top-k", "--top-p", "--min-p"})
    refuse_without(verb, option, options.generate.sampling.temperature > 0,
                   "--temperature above 0");
  const model::Model model =
      load(options.model, options.run, model::Residence::copied,
           ranks.share_of_prefill(options.generate.connectivity), ranks.leads());
  std::optional<text::Tokenizer> tokenizer;
  if (text::Tokenizer::exists(options.model) || !options.prompts.empty() || !options.stops.empty())
    tokenizer = text::Tokenizer::open(options.model);
  const text::Tokenizer* reader = tokenizer ? &*tokenizer : nullptr;
  options.generate.stop_tokens = stop_tokens(options, config, defaults, reader);

  std::vector<std::vector<int64_t>> prompts;
  for (const std::string& text : options.prompt_tokens) prompts.push_back(parse_tokens(text));
  for (const std::string& text : options.prompts)
    prompts.push_back(encode_prompt(options, text, *tokenizer));
  options.generate.ranks = ranks.experts;
  // Ranks that have all tokens get the same ones without a word to each other.
  if (!ranks.replicated()) options.generate.group = ranks.grid.world;
  // Several that come at once are shown one after the other, in the end.
  const bool shows = !options.json && ranks.leads(), streams = shows && prompts.size() == 1;
  std::vector<Output> outputs(prompts.size(), {reader, options, streams});
  const auto generated =
      engine::generate(model, prompts, options.generate,
                       [&](size_t prompt, int64_t token) { return outputs[prompt].push(token); });
  for (Output& output : outputs) output.finish();
  if (!ranks.leads()) return;
  for (size_t i = 0; i < prompts.size(); ++i) {
    if (shows && !streams) std::cout << outputs[i].shown() << "\n";
    if (options.json) std::cout << to_json(generated[i], prompts[i], outputs[i]).dump() << "\n";
  }
}

void add_sampling(CLI::App& verb, engine::SamplingOptions& sampling) {
  const auto add = [&](const char* name, auto& value, const char* text,
                       const CLI::Validator& range) {
    verb.add_option(name, value, text)->check(range)->capture_default_str()->group("Sampling");
  };
  add("--temperature", sampling.temperature, "0 = greedy", CLI::Range(0.0, 1e6));
  add("--top-k", sampling.top_k, "Sample from so many of the likeliest tokens (0: all)",
      CLI::Range(int64_t{0}, int64_t{1} << 32));
  add("--top-p", sampling.top_p, "Sample from the likeliest tokens that hold this probability",
      CLI::Range(1e-9, 1.0));
  add("--min-p", sampling.min_p,
      "Sample from tokens at least this fraction as probable as the likeliest",
      CLI::Range(0.0, 1.0));
  add("--repetition-penalty", sampling.repetition_penalty,
      "Divides logits of tokens in prompt and output (above 1: fewer repetitions)",
      CLI::Range(1e-6, 1e6));
  add("--presence-penalty", sampling.presence_penalty, "Taken off logits of tokens in the output",
      CLI::Range(-2.0, 2.0));
  add("--frequency-penalty", sampling.frequency_penalty,
      "The same, once for every time that a token came up", CLI::Range(-2.0, 2.0));
}

}  // namespace

void add_generate(CLI::App& app) {
  CLI::App& verb = *app.add_subcommand("generate", "Continues prompts");
  const auto options = std::make_shared<Options>();
  add_model(verb, options->model);
  verb.add_option("--prompt", options->prompts, "Text to continue (may be repeated)")
      ->allow_extra_args(false);
  verb.add_option("--prompt-tokens", options->prompt_tokens,
                  "Token ids to continue: 1,2,3 (may be repeated)")
      ->allow_extra_args(false);
  verb.add_flag("--chat", options->chat, "A prompt is a user's message in the chat template")
      ->needs("--prompt");
  verb.add_option("--max-new-tokens", options->generate.max_new_tokens, "Tokens at most")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 24))
      ->capture_default_str();
  add_sampling(verb, options->generate.sampling);
  verb.add_option("--generation-config", options->generation_config,
                  "auto: what is not given is as the model's generation_config.json says; none")
      ->check(CLI::IsMember({"auto", "none"}))
      ->capture_default_str()
      ->group("Sampling");
  verb.add_option("--stop", options->stops, "Text that ends the output (may be repeated)");
  verb.add_option("--stop-token-ids", options->stop_token_ids,
                  "Tokens that end the output besides the model's end tokens: 1,2,3")
      ->delimiter(',')
      ->allow_extra_args(false);
  verb.add_flag("--ignore-eos", options->ignore_eos, "Go on after the model's end tokens");
  verb.add_flag("--skip-special-tokens,!--no-skip-special-tokens", options->skip_special_tokens,
                "Whether the text is without special tokens (default: it is)");
  add_seed(verb, options->generate.sampling.seed);
  add_json(verb, options->json);
  add_run_options(verb, options->run);
  examples(verb, {"farskip generate DeepSeek-V2-Lite --prompt 'Once upon a time'",
                  "farskip generate model --prompt-tokens 1,2,3 --max-new-tokens 8 --json",
                  "farskip generate model --chat --prompt 'Why is the sky blue?' --temperature 0.7 "
                  "--top-p 0.9 --seed 1"});
  verb.callback([options, &verb] { run(verb, *options); });
}

}  // namespace farskip::app
