#include "serve/page.h"

#include "measure/timeline_page.h"
#include "util/error.h"
#include "util/plot.h"

namespace farskip::serve {
namespace {

/// Where a figure of /metrics is shown.
std::string figure(const char* id, const char* name) {
  return util::concat("<div class=\"figure\"><dt>", name, "</dt><dd id=\"", id,
                      "\">\u2013</dd></div>\n");
}

std::string setting(const char* id, const char* name, const char* input) {
  return util::concat("<label for=\"", id, "\">", name, "</label>\n", input, "\n");
}

std::string settings(bool has_chat_template) {
  return util::concat(
      "<details><summary>Settings</summary><div class=\"settings\">\n",
      has_chat_template
          ? setting("system", "System prompt", "<textarea id=\"system\" rows=\"2\"></textarea>")
          : "",
      setting("temperature", "Temperature",
              "<input id=\"temperature\" type=\"number\" min=\"0\" max=\"2\" step=\"0.1\" "
              "value=\"0.7\">"),
      setting("top_p", "Top p",
              "<input id=\"top_p\" type=\"number\" min=\"0.05\" max=\"1\" step=\"0.05\" "
              "value=\"1\">"),
      setting("max_tokens", "Limit of new tokens",
              "<input id=\"max_tokens\" type=\"number\" min=\"1\" step=\"1\" value=\"512\">"),
      setting("key", "API key",
              "<input id=\"key\" type=\"password\" autocomplete=\"off\" "
              "placeholder=\"only if the server asks for one\">"),
      "</div></details>\n");
}

std::string panel(bool has_chat_template) {
  return util::concat(
      "<aside aria-label=\"The server\">\n<h2>Live</h2>\n<dl>\n",
      figure("generated", "generated tokens/s"), figure("prompts", "prompt tokens/s"),
      figure("running", "running"), figure("queued", "queued"),
      figure("ttft", "mean time to first token"), figure("tbt", "mean time between tokens"),
      "</dl>\n<svg id=\"history\" viewBox=\"0 0 120 40\" preserveAspectRatio=\"none\" role=\"img\" "
      "aria-label=\"Generated tokens a second over the last two minutes\"><path></path></svg>\n"
      "<p class=\"caption\">generated tokens/s, last two minutes</p>\n"
      "<label for=\"kv\">KV cache <span id=\"kv-text\"></span></label>\n"
      "<meter id=\"kv\" min=\"0\" max=\"1\" value=\"0\"></meter>\n"
      "<p id=\"state\" class=\"caption\" role=\"status\"></p>\n",
      settings(has_chat_template), "</aside>\n");
}

/// Timelines of the last passes, in a frame: they are pages of their own.
std::string steps() {
  return "<details id=\"steps\" open><summary>Last forward pass</summary>\n"
         "<nav><a href=\"timeline/decode\" target=\"timeline\" aria-current=\"true\">decode</a>"
         "<a href=\"timeline/prefill\" target=\"timeline\">prefill</a></nav>\n"
         "<iframe name=\"timeline\" title=\"Timeline of the last forward pass\"></iframe>\n"
         "</details>\n";
}

}  // namespace

std::string chat_page(const std::string& model, bool has_chat_template) {
  const std::string name = util::escaped(model);
  return util::concat(
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<link rel=\"icon\" href=\"data:,\">\n<title>",
      name, " \u00b7 farskip</title>\n<style>", page_style(), "</style></head>\n<body data-chat=\"",
      has_chat_template ? "yes" : "no", "\">\n<header><h1>", name,
      "</h1><span>farskip</span></header>\n<main>\n"
      "<section aria-label=\"Conversation\">\n<div id=\"log\" role=\"log\" tabindex=\"0\" "
      "aria-label=\"Messages\"><p id=\"empty\">",
      has_chat_template ? "Ask the model something."
                        : "This model has no chat template: it continues what you write.",
      "</p></div>\n<form id=\"form\">\n<label class=\"hidden\" for=\"input\">Message</label>\n"
      "<textarea id=\"input\" rows=\"2\" placeholder=\"Message (Enter sends it)\" "
      "autofocus></textarea>\n<button id=\"send\" type=\"submit\">Send</button>\n"
      "<button id=\"clear\" type=\"button\">Clear</button>\n</form>\n</section>\n",
      panel(has_chat_template), "</main>\n", steps(), "<script>", page_script(),
      "</script>\n</body></html>\n");
}

std::string timeline_page(measure::StepRecorder& steps, measure::StepRecorder::Kind kind) {
  const bool prefill = kind == measure::StepRecorder::Kind::prefill;
  const std::string title =
      prefill ? "The last pass with tokens of prompts" : "The last decode step";
  const auto step = steps.last(kind);
  if (!step)
    return measure::timeline_page({}, title, {"None yet since somebody looks: send a request."},
                                  measure::Refresh::every_second);
  const int64_t ranks = steps.totals().ranks;
  return measure::timeline_page(
      std::span(&step->timeline, 1), title,
      {util::concat("Pass ", step->number, ": ", step->sequences,
                    step->sequences == 1 ? " sequence, " : " sequences, ", step->tokens,
                    step->tokens == 1 ? " token. " : " tokens. ",
                    ranks == 1 ? "One rank: there is no communication."
                               : util::concat("Rank ", step->timeline.rank, " of ", ranks,
                                              ", as it measured itself."))},
      measure::Refresh::every_second);
}

}  // namespace farskip::serve
