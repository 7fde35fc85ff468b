// generate: continues a prompt.
#include <charconv>
#include <iostream>

#include "engine/generate.h"
#include "io/chat_template.h"
#include "io/json_file.h"
#include "io/tokenizer.h"
#include "options.h"
#include "util/error.h"
#include "verbs.h"

namespace farskip::app {
namespace {

struct Options {
  std::string model, prompt, prompt_tokens;
  std::vector<std::string> stops;
  bool chat = false, json = false;
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
std::vector<int64_t> encode_prompt(const Options& options, const io::Tokenizer& tokenizer) {
  if (!options.chat) return tokenizer.encode(options.prompt, /*add_special_tokens=*/true);
  const auto chat = io::ChatTemplate::open(options.model);
  if (!chat) throw InputError(options.model + ": found no chat template, expected one for --chat");
  const io::Json messages = {{{"role", "user"}, {"content", options.prompt}}};
  return tokenizer.encode(chat->render(messages, /*add_generation_prompt=*/true));
}

/// Streams text as it comes and looks for stop strings.
class Output {
 public:
  Output(const io::Tokenizer* tokenizer, const std::vector<std::string>& stops, bool stream)
      : tokenizer_(tokenizer), stops_(stops), stream_(stream) {
    if (tokenizer) decoder_.emplace(*tokenizer);
  }

  /// False when a stop string is complete.
  bool push(int64_t token) {
    if (!tokenizer_) {
      if (stream_) std::cout << (first_ ? "" : ",") << token << std::flush;
      first_ = false;
      return true;
    }
    return append(decoder_->push(token));
  }
  void finish() {
    if (decoder_ && !stopped_) append(decoder_->finish());
    if (!stopped_) show(text_.size());
    if (stream_) std::cout << std::endl;
  }
  const std::string& text() const { return text_; }

 private:
  bool append(const std::string& piece) {
    text_ += piece;
    size_t safe = text_.size();
    for (const std::string& stop : stops_) {
      if (const auto at = text_.find(stop); at != std::string::npos) {
        text_.resize(at);
        stopped_ = true;
        safe = std::min(safe, at);
      }
      // What might be the beginning of a stop string is not shown yet.
      for (size_t n = std::min(stop.size() - 1, text_.size()); n > 0; --n)
        if (text_.ends_with(stop.substr(0, n))) {
          safe = std::min(safe, text_.size() - n);
          break;
        }
    }
    show(stopped_ ? text_.size() : safe);
    return !stopped_;
  }
  void show(size_t until) {
    if (!stream_ || until <= shown_) return;
    std::cout << text_.substr(shown_, until - shown_) << std::flush;
    shown_ = until;
  }

  const io::Tokenizer* tokenizer_;
  std::optional<io::TextStream> decoder_;
  const std::vector<std::string>& stops_;
  std::string text_;
  size_t shown_ = 0;
  bool stream_, first_ = true, stopped_ = false;
};

void run(Options& options) {
  options.run.apply();
  options.run.refuse_ranks();
  if (options.prompt.empty() == options.prompt_tokens.empty())
    throw InputError("--prompt: found " + std::string(options.prompt.empty() ? "neither" : "both") +
                     " it and --prompt-tokens, expected exactly one");
  for (const std::string& stop : options.stops)
    if (stop.empty())
      throw InputError("--stop: found an empty text, expected at least one character");
  check(options.generate.sampling);
  const model::Model model = load(options.model, options.run, model::Residence::copied);
  const bool has_tokenizer =
      std::filesystem::exists(std::filesystem::path(options.model) / "tokenizer.json");
  std::optional<io::Tokenizer> tokenizer;
  if (has_tokenizer || !options.prompt.empty() || !options.stops.empty())
    tokenizer = io::Tokenizer::open(options.model);

  const auto prompt = options.prompt.empty() ? parse_tokens(options.prompt_tokens)
                                             : encode_prompt(options, *tokenizer);
  options.generate.connectivity = options.run.resolve(model.config);
  options.generate.stop_tokens = model.config.eos_tokens;
  Output output(tokenizer ? &*tokenizer : nullptr, options.stops, !options.json);
  const auto generated =
      engine::generate(model, {prompt}, options.generate, [&](size_t, int64_t token) {
        return output.push(token);
      }).front();
  output.finish();
  if (!options.json) return;
  io::Json json = {
      {"tokens", generated.tokens},     {"text", output.text()},
      {"prompt_tokens", prompt.size()}, {"finish_reason", generated.stopped ? "stop" : "length"},
      {"ttft_ms", generated.ttft_ms},   {"tbt_ms", generated.tbt_ms}};
  std::cout << json.dump() << "\n";
}

}  // namespace

void add_generate(CLI::App& app) {
  CLI::App& verb = *app.add_subcommand("generate", "Continues a prompt");
  const auto options = std::make_shared<Options>();
  add_model(verb, options->model);
  verb.add_option("--prompt", options->prompt, "Text to continue");
  verb.add_option("--prompt-tokens", options->prompt_tokens, "Token ids to continue: 1,2,3");
  verb.add_flag("--chat", options->chat, "The prompt is a user's message in the chat template")
      ->needs("--prompt");
  verb.add_option("--max-new-tokens", options->generate.max_new_tokens, "Tokens at most")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 24))
      ->capture_default_str();
  verb.add_option("--temperature", options->generate.sampling.temperature, "0 = greedy")
      ->capture_default_str();
  verb.add_option("--top-p", options->generate.sampling.top_p,
                  "Sample from the likeliest tokens that hold this probability")
      ->capture_default_str();
  verb.add_option("--stop", options->stops, "Text that ends the output (may be repeated)");
  add_seed(verb, options->generate.sampling.seed);
  add_json(verb, options->json);
  add_run_options(verb, options->run);
  examples(verb, {"farskip generate DeepSeek-V2-Lite --prompt 'Once upon a time'",
                  "farskip generate model --prompt-tokens 1,2,3 --max-new-tokens 8 --json",
                  "farskip generate model --chat --prompt 'Why is the sky blue?' --temperature 0.7 "
                  "--top-p 0.9 --seed 1"});
  verb.callback([options] { run(*options); });
}

}  // namespace farskip::app
