// What clients get, against an engine that repeats the prompt.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "serve/support.h"

namespace farskip::serve {
namespace {

using io::Json;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

std::string text_of(const std::vector<int64_t>& ids) {
  return demo_model().tokenizer.decode(ids);
}

TEST(Service, CompletesTexts) {
  Served served;
  const auto response =
      served.post("/v1/completions", {{"model", "demo"}, {"prompt", kText}, {"max_tokens", 5}});
  EXPECT_EQ(response.status, 200);
  EXPECT_EQ(response.headers.at("content-type"), "application/json");
  const Json json = response.json();
  const auto prompt = ids(kText);
  EXPECT_THAT(json["id"].get<std::string>(), StartsWith("cmpl-"));
  EXPECT_EQ(json["object"], "text_completion");
  EXPECT_EQ(json["model"], "demo");
  EXPECT_NEAR(json["created"].get<double>(), static_cast<double>(std::time(nullptr)), 60);
  const Json expected = {{{"index", 0},
                          {"text", text_of({prompt.begin(), prompt.begin() + 5})},
                          {"logprobs", nullptr},
                          {"finish_reason", "length"}}};
  EXPECT_EQ(json["choices"], expected);
  EXPECT_EQ(json["usage"]["prompt_tokens"], prompt.size());
  EXPECT_EQ(json["usage"]["completion_tokens"], 5);
  EXPECT_EQ(json["usage"]["total_tokens"], prompt.size() + 5);
}

TEST(Service, AnswersEveryPromptAndChoice) {
  Served served;
  const Json json =
      served
          .post(
              "/v1/completions",
              {{"prompt", {{10, 11, 12}, {20, 21, 22}}}, {"n", 2}, {"max_tokens", 2}, {"seed", 7}})
          .json();
  ASSERT_EQ(json["choices"].size(), 4u);
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(json["choices"][i]["index"], i);
    EXPECT_EQ(json["choices"][i]["text"], i < 2 ? text_of({10, 11}) : text_of({20, 21}));
  }
  EXPECT_EQ(json["usage"]["prompt_tokens"], 6);
  EXPECT_EQ(json["usage"]["completion_tokens"], 8);
  // Choices of a prompt draw from seeds of their own, the same every time.
  EXPECT_EQ(served.backend.last_request().sampling.seed, 8u);
}

TEST(Service, EndsAtStopStringsAndTokens) {
  Served served;
  const auto complete = [&](Json more) {
    Json body = {{"prompt", kText}, {"max_tokens", 50}};
    body.update(more);
    return served.post("/v1/completions", body).json();
  };
  // The stop string stands across tokens.
  const Json stopped = complete({{"stop", {"never", "n a tim"}}});
  EXPECT_EQ(stopped["choices"][0]["text"], "Once upo");
  EXPECT_EQ(stopped["choices"][0]["finish_reason"], "stop");
  const Json token = complete({{"stop_token_ids", {ids(kText)[2]}}});
  EXPECT_EQ(token["choices"][0]["text"], text_of({ids(kText)[0], ids(kText)[1]}));
  EXPECT_EQ(token["choices"][0]["finish_reason"], "stop");
  // The model's own end of text.
  const Json end = complete({{"prompt", {10, 0, 11}}});
  EXPECT_EQ(end["choices"][0]["text"], text_of({10}));
  const Json on = complete({{"prompt", {10, 0, 11}}, {"ignore_eos", true}, {"max_tokens", 3}});
  EXPECT_EQ(on["choices"][0]["text"], text_of({10, 11}));
  EXPECT_EQ(on["choices"][0]["finish_reason"], "length");
}

TEST(Service, GivesWhatLmEvalReads) {
  // As lm_eval's local-completions asks for log-likelihoods.
  Served served;
  const std::vector<std::vector<int64_t>> prompts = {{10, 11, 12, 13}, {20, 0}};
  const Json json = served
                        .post("/v1/completions", {{"model", "demo"},
                                                  {"prompt", prompts},
                                                  {"temperature", 0},
                                                  {"max_tokens", 1},
                                                  {"logprobs", 1},
                                                  {"seed", 1234},
                                                  {"echo", true}})
                        .json();
  for (size_t i = 0; i < prompts.size(); ++i) {
    const Json& choice = json["choices"][i];
    const Json& logprobs = choice["logprobs"];
    const size_t size = prompts[i].size() + 1;  // and the one generated
    for (const char* list : {"tokens", "token_logprobs", "top_logprobs", "text_offset"})
      ASSERT_EQ(logprobs[list].size(), size) << list;
    EXPECT_TRUE(logprobs["token_logprobs"][0].is_null());
    EXPECT_TRUE(logprobs["top_logprobs"][0].is_null());
    for (size_t k = 1; k < prompts[i].size(); ++k) {
      EXPECT_EQ(logprobs["token_logprobs"][k], -0.25 * static_cast<double>(k + 1));
      // The likeliest is the chosen one: the numbers are the same.
      EXPECT_EQ(logprobs["top_logprobs"][k].front(), logprobs["token_logprobs"][k]);
    }
    std::vector<int64_t> all = prompts[i];
    all.push_back(prompts[i][0]);
    EXPECT_EQ(choice["text"], text_of(prompts[i]) + text_of({prompts[i][0]}));
  }
}

TEST(Service, CountsOffsetsInCharacters) {
  Served served;
  const std::string text = "naïve — café über";
  const Json json = served
                        .post("/v1/completions", {{"prompt", text},
                                                  {"echo", true},
                                                  {"max_tokens", 0},
                                                  {"logprobs", 0},
                                                  {"temperature", 0}})
                        .json();
  const Json& logprobs = json["choices"][0]["logprobs"];
  EXPECT_EQ(json["choices"][0]["text"], text);
  EXPECT_EQ(json["usage"]["completion_tokens"], 0);
  EXPECT_EQ(logprobs["text_offset"].size(), ids(text).size());
  EXPECT_EQ(logprobs["text_offset"][0], 0);
  int64_t characters = 0;
  for (const char c : text) characters += (c & 0xC0) != 0x80;
  EXPECT_LE(logprobs["text_offset"].back(), characters);
  EXPECT_GE(logprobs["text_offset"].back(), characters - 3);
  // Tokens that are no whole characters tell their bytes.
  EXPECT_THAT(json.dump(), HasSubstr("bytes:\\\\x"));
}

TEST(Service, StreamsWhatItWouldAnswer) {
  Served served;
  for (const Json& more :
       {Json{{"max_tokens", 9}}, Json{{"max_tokens", 9}, {"echo", true}, {"logprobs", 2}},
        Json{{"max_tokens", 50}, {"stop", "n a tim"}}, Json{{"max_tokens", 3}, {"n", 3}}}) {
    Json body = {{"prompt", kText}};
    body.update(more);
    const Json whole = served.post("/v1/completions", body).json();
    body["stream"] = true;
    const auto streamed = served.post("/v1/completions", body);
    EXPECT_THAT(streamed.headers.at("content-type"), StartsWith("text/event-stream"));
    std::map<int64_t, std::string> texts;
    std::map<int64_t, Json> reasons;
    Json logprobs = Json::object();
    for (const Json& event : streamed.events()) {
      EXPECT_EQ(event["object"], "text_completion");
      EXPECT_EQ(event["id"], streamed.events()[0]["id"]);
      EXPECT_FALSE(event.contains("usage"));
      const Json& choice = event["choices"][0];
      texts[choice["index"]] += choice["text"];
      if (!choice["finish_reason"].is_null()) reasons[choice["index"]] = choice["finish_reason"];
      if (!choice["logprobs"].is_null())
        for (const auto& [key, list] : choice["logprobs"].items())
          for (const Json& entry : list) logprobs[key].push_back(entry);
    }
    for (const Json& choice : whole["choices"]) {
      EXPECT_EQ(texts[choice["index"]], choice["text"]);
      EXPECT_EQ(reasons[choice["index"]], choice["finish_reason"]);
      if (!choice["logprobs"].is_null()) {
        EXPECT_EQ(logprobs, choice["logprobs"]);
      }
    }
  }
}

TEST(Service, Chats) {
  Served served;
  const Json body = chat_body({{"max_tokens", 6}, {"logprobs", true}, {"top_logprobs", 2}});
  const Json json = served.post("/v1/chat/completions", body).json();
  EXPECT_THAT(json["id"].get<std::string>(), StartsWith("chatcmpl-"));
  EXPECT_EQ(json["object"], "chat.completion");
  const Json& choice = json["choices"][0];
  EXPECT_EQ(choice["message"]["role"], "assistant");
  EXPECT_EQ(choice["finish_reason"], "length");
  const auto prompt = demo_model().tokenizer.encode("<|user|>\nWhy so?\n<|assistant|>\n");
  EXPECT_EQ(choice["message"]["content"], text_of({prompt.begin(), prompt.begin() + 6}));
  EXPECT_EQ(json["usage"]["prompt_tokens"], prompt.size());
  ASSERT_EQ(choice["logprobs"]["content"].size(), 6u);
  const Json& first = choice["logprobs"]["content"][0];
  EXPECT_EQ(first["token"], "<|user|>");
  EXPECT_EQ(first["logprob"], -0.25);
  EXPECT_EQ(first["bytes"].size(), 8u);
  EXPECT_EQ(first["top_logprobs"].size(), 2u);
  EXPECT_EQ(first["top_logprobs"][1]["logprob"], -1.25);
}

TEST(Service, StreamsChats) {
  Served served;
  Json body = chat_body({{"max_tokens", 6}, {"n", 2}, {"stream", true}});
  const Json whole = served.post("/v1/chat/completions", chat_body({{"max_tokens", 6}})).json();
  body["stream_options"] = {{"include_usage", true}};
  const auto events = served.post("/v1/chat/completions", body).events();
  std::map<int64_t, std::string> texts;
  std::map<int64_t, int> roles, ends;
  for (size_t i = 0; i + 1 < events.size(); ++i) {
    EXPECT_EQ(events[i]["object"], "chat.completion.chunk");
    EXPECT_TRUE(events[i].at("usage").is_null());
    const Json& choice = events[i]["choices"][0];
    const int64_t index = choice["index"];
    EXPECT_EQ(ends[index], 0);
    if (choice["delta"].contains("role")) {
      EXPECT_EQ(choice["delta"], Json({{"role", "assistant"}, {"content", ""}}));
      EXPECT_EQ(texts[index], "");
      ++roles[index];
    } else {
      texts[index] += choice["delta"].value("content", "");
    }
    ends[index] += !choice["finish_reason"].is_null();
  }
  for (const int64_t index : {0, 1}) {
    EXPECT_EQ(texts[index], whole["choices"][0]["message"]["content"]);
    EXPECT_EQ(roles[index], 1);
    EXPECT_EQ(ends[index], 1);
  }
  EXPECT_TRUE(events.back()["choices"].empty());
  EXPECT_EQ(events.back()["usage"]["completion_tokens"], 12);
  EXPECT_EQ(events.back()["usage"]["prompt_tokens"], whole["usage"]["prompt_tokens"]);
}

TEST(Service, EndsAtSpecialTokens) {
  // The engine repeats the prompt: "Once upon<|user|> a".
  Served served;
  const std::vector<int64_t> prompt = demo_model().tokenizer.encode("Once upon<|user|> a");
  const auto text = [&](const Json& more) {
    Json body = {{"prompt", prompt}, {"max_tokens", 5}};
    body.update(more);
    const Json choice = served.post("/v1/completions", body).json()["choices"][0];
    return choice["finish_reason"].get<std::string>() + ":" + choice["text"].get<std::string>();
  };
  const int64_t user = *demo_model().tokenizer.id_of("<|user|>");
  EXPECT_EQ(text({{"stop", "<|user|>"}}), "stop:Once upon");
  EXPECT_EQ(text({{"stop", {"x", "<|user|>"}}, {"include_stop_str_in_output", true}}),
            "stop:Once upon<|user|>");
  EXPECT_EQ(text({{"stop_token_ids", {user}}}), "stop:Once upon");
  EXPECT_EQ(text({{"stop_token_ids", {user}},
                  {"include_stop_str_in_output", true},
                  {"skip_special_tokens", false}}),
            "stop:Once upon<|user|>");
  EXPECT_THAT(text({{"skip_special_tokens", false}}), StartsWith("length:Once upon<|user|> a"));
  EXPECT_THAT(text(Json::object()), StartsWith("length:Once upon a"));
}

TEST(Service, TellsWhereTokensBeginInTheText) {
  Served served;
  const auto& tokenizer = demo_model().tokenizer;
  const std::string text = "<|user|>Once <|assistant|>upon";
  const auto offsets = [&](const Json& more) {
    Json body = {{"prompt", text}, {"max_tokens", 2}, {"echo", true}, {"logprobs", 0}};
    body.update(more);
    const Json choice = served.post("/v1/completions", body).json()["choices"][0];
    const Json& tokens = choice["logprobs"]["tokens"];
    const auto begins = choice["logprobs"]["text_offset"].get<std::vector<size_t>>();
    for (size_t i = 0; i < begins.size(); ++i) {
      const std::string token = tokens[i];
      const bool shown = choice["text"].get<std::string>().substr(begins[i]).starts_with(token);
      const bool special = token.starts_with("<|");
      EXPECT_TRUE(shown || special) << token << " at " << begins[i] << " of " << choice["text"];
    }
    return begins;
  };
  // Of a text all stands in the echo; of ids what is special does not, unless asked for.
  const std::vector<int64_t> ids = tokenizer.encode(text);
  EXPECT_EQ(offsets(Json::object())[1], 8u);
  EXPECT_EQ(offsets({{"prompt", ids}})[1], 0u);
  EXPECT_EQ(offsets({{"prompt", ids}, {"skip_special_tokens", false}})[1], 8u);
  // The first of the new tokens is special: it repeats the prompt's.
  EXPECT_EQ(offsets(Json::object())[ids.size()], text.size());
  EXPECT_EQ(offsets(Json::object())[ids.size() + 1], text.size());
  EXPECT_EQ(offsets({{"skip_special_tokens", false}})[ids.size() + 1], text.size() + 8);
  // A token that the tokenizer set is not in the text.
  TextOffsets set;
  set.echo("Once", 2);
  EXPECT_EQ(set.next(tokenizer, *tokenizer.id_of("<|endoftext|>")), 0);
  EXPECT_EQ(set.next(tokenizer, tokenizer.encode("Once")[0]), 0);
  EXPECT_EQ(set.next(tokenizer, tokenizer.encode(" in")[0]), 4);
}

TEST(Service, TurnsAwayWhatDoesNotFit) {
  Served served({.max_sequences = 3});
  served.backend.pause(true);
  Client first(served.server.port());
  first.send(Client::post_text("/v1/completions", R"({"prompt": "a", "n": 2})"));
  ASSERT_TRUE(eventually([&] { return served.backend.figures().running == 2; }));
  const auto full = served.post("/v1/completions", {{"prompt", "a"}, {"n", 2}});
  EXPECT_EQ(full.status, 429);
  EXPECT_EQ(full.json()["error"]["type"], "rate_limit_error");
  EXPECT_TRUE(full.headers.contains("retry-after"));
  EXPECT_EQ(served.post("/v1/completions", {{"prompt", "a"}, {"n", 4}}).status, 400);
  served.backend.pause(false);
  EXPECT_EQ(first.receive().status, 200);
  EXPECT_TRUE(eventually([&] {
    return served.post("/v1/completions", {{"prompt", "a"}, {"n", 3}}).status == 200;
  }));
}

TEST(Service, SaysWhenTheEngineFails) {
  Served served;
  served.backend.pause(true);
  Client whole(served.server.port()), streaming(served.server.port());
  whole.send(Client::post_text("/v1/completions", R"({"prompt": "a"})"));
  streaming.send(Client::post_text("/v1/completions", R"({"prompt": "a", "stream": true})"));
  ASSERT_TRUE(eventually([&] { return served.backend.figures().running == 2; }));
  served.backend.fail("out of luck");
  const auto failed = whole.receive();
  EXPECT_EQ(failed.status, 503);
  EXPECT_EQ(failed.json()["error"]["type"], "server_error");
  EXPECT_THAT(failed.body, HasSubstr("out of luck"));
  const auto events = streaming.receive().events();
  ASSERT_EQ(events.size(), 1u);
  EXPECT_THAT(events[0]["error"]["message"].get<std::string>(), HasSubstr("out of luck"));
  EXPECT_EQ(served.post("/v1/completions", {{"prompt", "a"}}).status, 503);
  EXPECT_EQ(served.get("/health").status, 503);
}

}  // namespace
}  // namespace farskip::serve
