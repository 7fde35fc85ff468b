// data: training data as they will be learnt.
#include <unistd.h>

#include <algorithm>
#include <iostream>

#include "io/unicode.h"
#include "options.h"
#include "text/codec.h"
#include "text/tables.h"
#include "util/error.h"
#include "util/progress.h"
#include "util/table.h"
#include "verbs.h"

namespace farskip::app {
namespace {

struct Options {
  std::vector<std::string> files, ignored_keys;
  std::string model, tokenizer;
  int64_t show = 3;
  bool json = false;
};

/// Tokens that follow one another and are all learnt, or none of them.
struct Stretch {
  std::string text;
  bool learnt = false;
};

std::vector<Stretch> stretches(const train::Sample& document, const train::TextCodec& codec) {
  std::vector<Stretch> found;
  for (size_t i = 0; i < document.ids.size(); ++i) {
    if (found.empty() || found.back().learnt != document.learn[i])
      found.push_back({"", document.learn[i]});
    found.back().text += codec.bytes_of(document.ids[i]);
  }
  for (Stretch& stretch : found) {
    io::LossyUtf8 lossy;
    stretch.text = lossy.push(stretch.text);
    stretch.text += lossy.finish();
  }
  return found;
}

struct Counts {
  int64_t documents = 0, tokens = 0, learnt = 0, longest = 0, nothing_learnt = 0;
};

/// Prints what is learnt in green, or in brackets where there are no colours.
class Printer {
 public:
  explicit Printer(bool json) : json_(json), colours_(::isatty(STDOUT_FILENO) == 1) {}

  void show(const std::string& place, const train::Sample& document,
            const train::TextCodec& codec) {
    const auto parts = stretches(document, codec);
    const auto tokens = static_cast<int64_t>(document.ids.size());
    if (json_) {
      io::Json list = io::Json::array();
      for (const Stretch& part : parts)
        list.push_back({{"text", part.text}, {"learnt", part.learnt}});
      shown_.push_back({{"place", place},
                        {"ids", document.ids},
                        {"tokens", tokens},
                        {"learnt", document.learnt()},
                        {"parts", list}});
      return;
    }
    std::cout << (colours_ ? "\033[1m" : "") << place << ": " << util::grouped(tokens)
              << " tokens, " << util::grouped(document.learnt()) << " learnt"
              << (colours_ ? "\033[0m" : "") << "\n";
    size_t left = kMostBytes;
    for (const Stretch& part : parts) {
      const std::string text = cut(part.text, left);
      if (part.learnt) std::cout << (colours_ ? "\033[32m" : "[");
      std::cout << text;
      if (part.learnt) std::cout << (colours_ ? "\033[0m" : "]");
      left -= text.size();
      if (text.size() < part.text.size()) {
        std::cout << " ... (--json has all of it)";
        break;
      }
    }
    std::cout << "\n\n";
  }

  void finish(const Counts& counts) const {
    if (json_) {
      std::cout << io::Json{{"documents", counts.documents},
                            {"tokens", counts.tokens},
                            {"learnt", counts.learnt},
                            {"longest", counts.longest},
                            {"nothing_learnt", counts.nothing_learnt},
                            {"shown", shown_}}
                       .dump()
                << "\n";
      return;
    }
    util::Table table({"of all data", "number"});
    table.add({"documents", util::grouped(counts.documents)});
    table.add({"tokens", util::grouped(counts.tokens)});
    table.add({"learnt tokens", util::grouped(counts.learnt)});
    table.add({"tokens of the longest document", util::grouped(counts.longest)});
    table.add({"rows of which nothing can be learnt", util::grouped(counts.nothing_learnt)});
    std::cout << table.text();
  }

 private:
  static constexpr size_t kMostBytes = 4000;

  static std::string cut(const std::string& text, size_t most) {
    if (text.size() <= most) return text;
    while (most > 0 && (static_cast<unsigned char>(text[most]) & 0xC0) == 0x80) --most;
    return text.substr(0, most);
  }

  bool json_, colours_;
  io::Json shown_ = io::Json::array();
};

train::TextCodec open_codec(const Options& options) {
  const std::set<std::string> ignored(options.ignored_keys.begin(), options.ignored_keys.end());
  if (options.model.empty())
    return text::open_codec(tokenizer_folder(options.tokenizer), nullptr, ignored);
  const auto config = model::read_config(std::filesystem::path(options.model) / "config.json");
  return text::open_codec(options.model, &config, ignored);
}

void run(const Options& options) {
  util::require(!options.model.empty() || !options.tokenizer.empty(), "data",
                "neither --model nor --tokenizer", "one of them (it turns the text into tokens)");
  const train::TextCodec codec = open_codec(options);
  const train::Pieces pieces = text::open_pieces({options.files.begin(), options.files.end()});
  Printer printer(options.json);
  Counts counts;
  int64_t shown = 0, length = 0;
  util::Progress progress("reading", pieces.size());
  for (int64_t i = 0; i < pieces.size(); ++i) {
    const bool lines = pieces.is_lines(i);
    train::read_documents(pieces, i, codec, [&](const train::Sample& document, int64_t offset) {
      const bool begins = lines || pieces[i].starts_document;
      counts.tokens += static_cast<int64_t>(document.ids.size());
      counts.learnt += document.learnt();
      if (lines && document.learnt() == 0) {
        ++counts.nothing_learnt;
        return;
      }
      length = (begins ? 0 : length) + static_cast<int64_t>(document.ids.size());
      counts.longest = std::max(counts.longest, length);
      if (!begins) return;
      ++counts.documents;
      if (shown++ < options.show) printer.show(pieces.place(i, offset), document, codec);
    });
    progress.update(i + 1);
  }
  progress.finish();
  printer.finish(counts);
}

}  // namespace

void add_data(CLI::App& app) {
  CLI::App& verb = *app.add_subcommand("data", "Training data as they will be learnt");
  const auto options = std::make_shared<Options>();
  verb.add_option("FILE", options->files, "Files as --data takes them")->required();
  auto* model = takes_model(verb.add_option(
      "--model", options->model, "The model that is to learn: its tokenizer, template and ends"));
  takes_model(
      verb.add_option("--tokenizer", options->tokenizer,
                      "A tokenizer.json or the folder that holds one, where there is no model yet"))
      ->excludes(model);
  verb.add_option("--show", options->show,
                  "Documents to print; what is learnt is green, or in brackets")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  add_ignored_keys(verb, options->ignored_keys);
  add_json(verb, options->json);
  examples(verb, {"farskip data chats.jsonl --model model --show 3",
                  "farskip data rows.parquet books.txt --tokenizer folder --show 0 --json"});
  verb.callback([options] { run(*options); });
}

}  // namespace farskip::app
