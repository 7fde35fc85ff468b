// Answers questions about the text of model directories, for scripts/oracle/check_text.py and for
// timing.
//   text_worker
// Reads one JSON object a line from standard input, answers each with one line of JSON on standard
// output; a mistake is
// {"error": "one line"}. The first key says what is asked:
//   {"open": DIRECTORY}                            {"vocabulary": N, "special_tokens": {name:
//   text}}; what follows is
//                                                  asked of this tokenizer
//   {"encode": [text...], "special": bool}         {"ids": [[id...]...]}
//   {"decode": [[id...]...], "skip": bool}         {"texts": [text...]}
//   {"stream": [[id...]...], "skip": bool}         the same, id by id through a TextStream
//   {"template": DIRECTORY, "source": text?}       {"source": text}; the directory's own without
//   "source"
//   {"render": {"messages", "tools", "documents", "variables", "add_generation_prompt",
//               "continue_final_message"}}         {"text": text, "generated": [[begin, end]...]},
//               in bytes
//   text_worker DIRECTORY FILE [RUNS]
// Prints how long it takes to open the tokenizer and to encode the file, line by line and whole,
// the least of RUNS (3).
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <exception>
#include <functional>
#include <iostream>
#include <optional>
#include <string>
#include <vector>

#include "io/json_fields.h"
#include "io/text.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace {

using farskip::io::Json;
using farskip::text::ChatTemplate;
using farskip::text::Conversation;
using farskip::text::TextStream;
using farskip::text::Tokenizer;

class Session {
 public:
  Json answer(const Json& asked) {
    const std::string what = asked.begin().key();
    const Json& value = asked.begin().value();
    if (what == "open") return open(value.get<std::string>());
    if (what == "encode") return encode(value, asked.value("special", false));
    if (what == "decode" || what == "stream") {
      return decode(value, asked.value("skip", true), what == "stream");
    }
    if (what == "template") return choose(value.get<std::string>(), asked.value("source", Json()));
    if (what == "render") return render(value);
    return {{"error", "unknown question " + what}};
  }

 private:
  Json open(const std::string& directory) {
    tokenizer_ = Tokenizer::open(directory);
    return {{"vocabulary", tokenizer_->vocabulary_size()},
            {"special_tokens", tokenizer_->special_tokens()}};
  }

  Json encode(const Json& texts, bool special) const {
    Json rows = Json::array();
    for (const auto& text : texts) {
      rows.push_back(tokenizer_.value().encode(text.get_ref<const std::string&>(), special));
    }
    return {{"ids", rows}};
  }

  Json decode(const Json& rows, bool skip, bool by_stream) const {
    Json texts = Json::array();
    for (const auto& row : rows) {
      const auto ids = row.get<std::vector<int64_t>>();
      if (!by_stream) {
        texts.push_back(tokenizer_.value().decode(ids, skip));
        continue;
      }
      TextStream stream(tokenizer_.value(), skip);
      std::string text;
      for (const int64_t id : ids) text += stream.push(id);
      texts.push_back(text + stream.finish());
    }
    return {{"texts", texts}};
  }

  Json choose(const std::string& directory, const Json& source) {
    template_ = source.is_null() ? ChatTemplate::open(directory)
                                 : ChatTemplate::with_source(directory, source, "template");
    return {{"source", template_ ? Json(template_->source()) : Json()}};
  }

  Json render(const Json& given) const {
    const Conversation conversation{
        .messages = given.at("messages"),
        .tools = given.value("tools", Json()),
        .documents = given.value("documents", Json()),
        .variables = given.value("variables", Json()),
        .add_generation_prompt = given.value("add_generation_prompt", false),
        .continue_final_message = given.value("continue_final_message", false)};
    const auto rendered = template_.value().render(conversation);
    return {{"text", rendered.text}, {"generated", rendered.generated}};
  }

  std::optional<Tokenizer> tokenizer_;
  std::optional<ChatTemplate> template_;
};

double least_seconds(int runs, const std::function<void()>& work) {
  double least = 0;
  for (int i = 0; i < runs; ++i) {
    const auto start = std::chrono::steady_clock::now();
    work();
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    least = i == 0 ? seconds.count() : std::min(least, seconds.count());
  }
  return least;
}

void time_file(const char* directory, const char* path, int runs) {
  const std::string text = farskip::io::read_file(path, int64_t{1} << 30);
  std::optional<Tokenizer> tokenizer;
  const double open = least_seconds(1, [&] { tokenizer = Tokenizer::open(directory); });
  size_t ids = 0;
  const double whole = least_seconds(runs, [&] { ids = tokenizer->encode(text).size(); });
  const double lines = least_seconds(runs, [&] {
    for (size_t begin = 0; begin < text.size();) {
      const size_t end = std::min(text.find('\n', begin), text.size());
      tokenizer->encode(std::string_view(text).substr(begin, end - begin));
      begin = end + 1;
    }
  });
  std::printf("{\"bytes\": %zu, \"ids\": %zu, \"open\": %.4f, \"whole\": %.4f, \"lines\": %.4f}\n",
              text.size(), ids, open, whole, lines);
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc == 3 || argc == 4) {
    time_file(argv[1], argv[2], argc == 4 ? std::stoi(argv[3]) : 3);
    return 0;
  }
  if (argc != 1) {
    std::fputs("usage: text_worker [DIRECTORY FILE [RUNS]]\n", stderr);
    return 2;
  }
  Session session;
  for (std::string line; std::getline(std::cin, line);) {
    Json answer;
    try {
      answer = session.answer(Json::parse(line));
    } catch (const std::exception& error) {
      answer = {{"error", error.what()}};
    }
    std::cout << answer.dump() << std::endl;
  }
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "text_worker: %s\n", error.what());
  return 2;
}
