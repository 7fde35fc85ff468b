// farskip serve, as a user starts it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <future>
#include <iterator>

#include "forms/form.h"
#include "model/model.h"
#include "serve/support.h"
#include "util/error.h"

namespace farskip::serve {
namespace {

using io::Json;
using testing::HasSubstr;
using testing::StartsWith;

/// A random model with the demo's tokenizer, in a folder that goes away with the tests.
class ServeBinary : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    directory_ =
        std::filesystem::temp_directory_path() / ("farskip_serve_" + std::to_string(getpid()));
    const std::filesystem::path demo = FARSKIP_SOURCE_DIR "/data/demo";
    Json config = io::read_json_file(demo / "config.json");
    config["num_hidden_layers"] = 2;
    config["initializer_range"] = 0.1;
    auto model = model::random_model(model::parse_config(config, "config"), at::kFloat, 1);
    model.directory = demo;  // its tokenizer comes with it
    forms::save(model, model.config.connectivity, directory_);
  }
  static void TearDownTestSuite() { std::filesystem::remove_all(directory_); }

  static inline std::filesystem::path directory_;
};

/// The program, serving that model; its lines go to a file.
class Process {
 public:
  Process(const std::filesystem::path& model, std::vector<std::string> options,
          const char* api_key = nullptr, int ranks = 1)
      : log_(model.string() + ".log") {
    std::filesystem::remove(log_);
    pid_ = fork();
    if (pid_ == 0) {
      setenv("OMP_NUM_THREADS", "1", 1);
      if (api_key) setenv("FARSKIP_API_KEY", api_key, 1);
      FILE* file = std::fopen(log_.c_str(), "w");
      dup2(fileno(file), STDOUT_FILENO);
      dup2(fileno(file), STDERR_FILENO);
      std::vector<std::string> words = {FARSKIP_BINARY, "serve", model.string()};
      if (ranks > 1)
        words = {FARSKIP_BINARY, "launch", "--ranks",     std::to_string(ranks),
                 "--",           "serve",  model.string()};
      words.insert(words.end(), options.begin(), options.end());
      std::vector<char*> argv;
      for (std::string& word : words) argv.push_back(word.data());
      argv.push_back(nullptr);
      execv(argv[0], argv.data());
      _exit(127);
    }
  }
  ~Process() {
    if (pid_ > 0) kill(pid_, SIGKILL), waitpid(pid_, nullptr, 0);
    std::filesystem::remove(log_);
  }

  std::string text() const {
    std::ifstream in(log_);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  /// Of its line; 0 if it does not come to serve.
  int port() const {
    for (int i = 0; i < 600; ++i) {
      const std::string line = text();
      const size_t end = line.find('\n'), colon = line.rfind(':', end);
      if (end != line.npos)
        return line.find("Serving") < end ? std::stoi(line.substr(colon + 1)) : 0;
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    return 0;
  }
  void send(int signal) const { kill(pid_, signal); }
  pid_t id() const { return pid_; }
  int wait() {
    int status = 0;
    waitpid(pid_, &status, 0);
    pid_ = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }

 private:
  std::filesystem::path log_;
  pid_t pid_ = 0;
};

TEST_F(ServeBinary, ServesAlikeWhoeverElseAsks) {
  Process process(directory_,
                  {"--port", "0", "--threads", "1", "--served-model-name", "small",
                   "--max-sequences", "6", "--max-batch-tokens", "16", "--cache-memory", "8MiB"});
  const int port = process.port();
  ASSERT_GT(port, 0) << process.text();
  EXPECT_THAT(process.text(), StartsWith("Serving small at http://127.0.0.1:"));

  // What each prompt gives by itself; then all at once, from 16 clients, whole and streamed.
  const int kPrompts = 12;
  const auto body = [](int i) {
    return Json{{"prompt", {100 + i, 200 + 3 * i, 300 + 7 * i}},
                {"max_tokens", 5 + 3 * i},
                {"temperature", i % 2},
                {"seed", 5}};
  };
  std::vector<std::string> expected;
  for (int i = 0; i < kPrompts; ++i) {
    const auto response = Client(port).post("/v1/completions", body(i).dump());
    ASSERT_EQ(response.status, 200) << response.body;
    expected.push_back(response.json()["choices"][0]["text"]);
  }
  std::atomic<int> right = 0;
  const auto work = [&](int who) {
    Client client(port, 120);
    for (int k = 0; k < kPrompts; ++k) {
      const int i = (who + k) % kPrompts;
      Json request = body(i);
      request["stream"] = (who + k) % 3 == 0;
      const auto response = client.post("/v1/completions", request.dump());
      std::string text;
      if (request["stream"] == true)
        for (const Json& event : response.events()) text += event["choices"][0]["text"];
      else
        text = response.json()["choices"][0]["text"];
      right += text == expected[i];
    }
  };
  std::vector<std::future<void>> clients;
  for (int who = 0; who < 16; ++who) clients.push_back(std::async(std::launch::async, work, who));
  for (auto& client : clients) client.get();
  EXPECT_EQ(right, 16 * kPrompts);
  std::string metrics;  // an answer is there a moment before its sequence has ended
  for (int i = 0; i < 100 && metrics.find("farskip_sequences_running 0\n") == std::string::npos;
       ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    metrics = Client(port).get("/metrics").body;
  }
  EXPECT_THAT(metrics, HasSubstr("farskip_sequences_running 0\n"));
  EXPECT_THAT(metrics, HasSubstr("farskip_sequences_total{finish=\"failed\"} 0\n"));

  // A running request is answered before the end.
  Client last(port);
  last.send(Client::post_text("/v1/completions",
                              R"({"prompt": "Once", "max_tokens": 200, "stream": true,
                                  "ignore_eos": true})"));
  EXPECT_EQ(last.receive(/*to_head=*/true).status, 200);
  process.send(SIGTERM);
  std::string rest;
  while (const auto piece = last.receive_chunk()) rest += *piece;
  EXPECT_TRUE(rest.ends_with("data: [DONE]\n\n"));
  EXPECT_EQ(process.wait(), 0);
}

TEST_F(ServeBinary, StopsAtOnceWhenAskedTwice) {
  Process process(directory_, {"--port", "0", "--threads", "1"});
  const int port = process.port();
  ASSERT_GT(port, 0) << process.text();
  Client client(port);
  client.send(Client::post_text("/v1/completions",
                                R"({"prompt": "Once", "max_tokens": 1000, "ignore_eos": true,
                                    "n": 64, "stream": true})"));
  EXPECT_EQ(client.receive(/*to_head=*/true).status, 200);
  process.send(SIGINT);
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  process.send(SIGINT);
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(process.wait(), 0);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(5));
}

/// Ranks that a launcher has started, in the order of their starts.
std::vector<pid_t> children(pid_t launcher) {
  std::ifstream in(util::concat("/proc/", launcher, "/task/", launcher, "/children"));
  return {std::istream_iterator<pid_t>(in), {}};
}

class ServeOnRanks : public ServeBinary, public testing::WithParamInterface<const char*> {};

TEST_P(ServeOnRanks, AnswersAsOneRankUntilOneIsLost) {
  const std::vector<std::string> options = {"--port",          "0", "--threads",      "1",
                                            "--max-sequences", "4", "--cache-memory", "8MiB"};
  auto on_ranks = options;
  on_ranks.insert(on_ranks.end(), {"--transport", GetParam(), "--timeout", "5"});
  Process alone(directory_, options), two(directory_, on_ranks, nullptr, 2);
  ASSERT_GT(alone.port(), 0) << alone.text();
  ASSERT_GT(two.port(), 0) << two.text();
  std::this_thread::sleep_for(std::chrono::seconds(6));  // longer than the ranks wait for a message
  const auto answer = [](int port, int i) {
    const Json body = {{"prompt", {100 + i, 200 + 3 * i, 300 + 7 * i}},
                       {"max_tokens", 4 + 2 * i},
                       {"temperature", i % 2},
                       {"top_p", 0.9},
                       {"n", 1 + i % 3},
                       {"stop", {"e", "zz"}},
                       {"logprobs", i % 4 == 0 ? Json(2) : Json()},
                       {"seed", 5}};
    const auto response = Client(port).post("/v1/completions", body.dump());
    EXPECT_EQ(response.status, 200) << response.body;
    std::vector<std::string> texts;
    const Json answered = response.json();
    for (const Json& choice : answered["choices"]) texts.push_back(choice["text"]);
    return texts;
  };
  std::vector<std::future<std::vector<std::string>>> found;
  for (int i = 0; i < 10; ++i)
    found.push_back(std::async(std::launch::async, answer, two.port(), i));
  for (int i = 0; i < 10; ++i) EXPECT_EQ(found[i].get(), answer(alone.port(), i)) << i;

  Client last(two.port());
  last.send(Client::post_text("/v1/completions", R"({"prompt": "Once", "max_tokens": 900,
                                                     "ignore_eos": true})"));
  const auto ranks = children(two.id());
  ASSERT_EQ(ranks.size(), 2u);
  kill(ranks[1], SIGKILL);
  const auto response = last.receive();
  EXPECT_EQ(response.status, 503) << response.body;
  EXPECT_THAT(response.body, HasSubstr("rank 0 of 2"));
  EXPECT_NE(two.wait(), 0);
}

INSTANTIATE_TEST_SUITE_P(Layouts, ServeOnRanks, testing::Values("all-reduce", "all-to-all"),
                         [](const auto& info) {
                           return std::string(info.param) == "all-reduce" ? "replicated" : "own";
                         });

TEST_F(ServeBinary, TakesItsKeyFromTheEnvironment) {
  Process process(directory_, {"--port", "0", "--threads", "1"}, "secret");
  const int port = process.port();
  ASSERT_GT(port, 0) << process.text();
  EXPECT_EQ(Client(port).get("/v1/models").status, 401);
  EXPECT_EQ(Client(port).get("/v1/models", "Authorization: Bearer secret\r\n").status, 200);
  Process second(directory_, {"--port", std::to_string(port), "--threads", "1"});
  EXPECT_EQ(second.wait(), 2);
}

TEST_F(ServeBinary, RefusesInOneLine) {
  const std::pair<std::vector<std::string>, const char*> cases[] = {
      {{"--port", "70000"}, "--port"},
      {{"--host", "no.such.host.invalid", "--port", "0"}, "--host"},
      {{"--api-key", ""}, "--api-key"},
      {{"--max-sequences", "0"}, "--max-sequences"},
      {{"--cache-memory", "many"}, "--cache-memory"},
      {{"--cache-memory", "1"}, "cache"},
      {{"--ep", "2"}, "--ep"},
  };
  for (const auto& [options, word] : cases) {
    Process process(directory_, options);
    EXPECT_EQ(process.wait(), 2) << word;
    const std::string text = process.text();
    EXPECT_THAT(text, StartsWith("farskip: error: ")) << word;
    EXPECT_THAT(text, HasSubstr(word));
    EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1) << text;
  }
  Process no_model(directory_ / "nowhere", {});
  EXPECT_EQ(no_model.wait(), 2);
}

}  // namespace
}  // namespace farskip::serve
