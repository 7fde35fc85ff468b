// All tokens on every rank: long messages, and the last layers of a pass whose hidden states are
// asked for some tokens alone.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "comm/rendezvous.h"
#include "comm/substitutes.h"
#include "schedule/forward.h"
#include "support/shared_model.h"

namespace farskip::schedule {
namespace {

using namespace farskip::test;
using comm::Rendezvous;
using MessagePart = comm::MessageName::Part;

TEST(ReplicatedPrefill, LongSumsGoInParts) {
  constexpr int64_t kRows = 80, kLength = 24;
  const SharedModel shared("deepseek_v2");
  auto batch = model::Batch::whole(some_tokens(kRows, kLength));
  for (int64_t row = 0; row < kRows; ++row) batch.segments[row].pages = {row};
  const auto load = [&](const model::Share& share) {
    return model::load_model(shared.directory(), at::kFloat, at::kCPU, model::Residence::copied,
                             share);
  };
  const at::NoGradGuard no_grad;
  const at::Tensor expected = forward(load({}), batch, {.connectivity = variant("farskip", 4)});
  Rendezvous::threads(2, [&](Rendezvous& rendezvous) {
    const at::NoGradGuard no_grad;
    const model::Model model = load(replicated_share(rendezvous.rank(), 2, 2));
    const auto reducer = std::make_shared<comm::Reducer>(
        comm::delayed(rendezvous.all(), 3 + rendezvous.rank(), std::chrono::microseconds(500)));
    comm::MessageLog log;
    reducer->record(&log);
    std::vector<at::Tensor> found;
    for (const auto execution : {Execution::overlapped, Execution::blocking})
      found.push_back(forward(model, batch,
                              {.connectivity = variant("farskip", 4),
                               .ranks = {.execution = execution, .waves = 2, .reducer = reducer}}));
    reducer->record(nullptr);
    EXPECT_LT(relative_error(found[0], expected), 1e-4);
    EXPECT_TRUE(found[0].equal(found[1]));
    int64_t pieces = 0;
    for (const comm::Message& message : log.messages)
      if (message.name.part == MessagePart::routed && message.name.layer < 3) {
        EXPECT_EQ(message.bytes, kRows * kLength * 9 * 4);
        ++pieces;
      }
    EXPECT_EQ(pieces, 2 * 2 * 4);  // executions, layers that another one follows, pieces

    // A prefill: the last layers work on some tokens, which come to them in waves.
    model::KvCache cache(model.config, kRows, kLength, model.dtype);
    const at::Tensor rows =
        at::tensor({int64_t{23}, int64_t{47}, kRows * kLength - 1, int64_t{100}});
    found.clear();
    log.messages.clear();
    reducer->record(&log);
    for (const auto execution : {Execution::overlapped, Execution::blocking})
      found.push_back(forward(
          model, batch,
          {.connectivity = variant("farskip", 4),
           .ranks = {.execution = execution, .waves = 2, .wave_tokens = 32, .reducer = reducer},
           .cache = &cache,
           .rows = rows}));
    reducer->record(nullptr);
    pieces = 0;
    for (const comm::Message& message : log.messages)  // those tokens beside half of all
      if (message.name.part == MessagePart::routed && message.name.layer == 1) {
        EXPECT_EQ(message.bytes, (kRows * kLength / 2 + 4) * 18 * 4);
        ++pieces;
      }
    EXPECT_EQ(pieces, 2 * 2);
    EXPECT_LT(relative_error(found[0], expected.index_select(0, rows)), 1e-4);
    EXPECT_TRUE(found[0].equal(found[1]));
  });
}

/// Of prompts that come in two chunks, of the first of which nothing is asked for: hidden states of
/// their last tokens, and of a token after each, which attends to all that the caches have.
struct Prefill {
  at::Tensor asked, next;
  std::vector<comm::MessageLog> chunks;
};

Prefill prefill(const model::Model& model, const std::string& connectivity,
                model::ExpertRanks ranks) {
  constexpr int64_t kPrompts = 3, kLength = 21;
  const at::NoGradGuard no_grad;
  model::KvCache cache(model.config, kPrompts, kLength + 1, model.dtype);
  ForwardOptions options{.connectivity = variant(connectivity, model.config.depth()),
                         .ranks = std::move(ranks),
                         .cache = &cache};
  const at::Tensor tokens = some_tokens(kPrompts, kLength + 1);
  Prefill found;
  const auto pass = [&](int64_t begin, int64_t end, const at::Tensor& rows) {
    std::vector<std::vector<int64_t>> prompts;
    for (const at::Tensor& prompt : tokens.narrow(1, begin, end - begin).contiguous().unbind(0))
      prompts.emplace_back(prompt.data_ptr<int64_t>(), prompt.data_ptr<int64_t>() + end - begin);
    auto batch = model::Batch::rows(prompts, std::vector<int64_t>(kPrompts, begin), at::kCPU);
    for (int64_t row = 0; row < kPrompts; ++row) batch.segments[row].pages = {row};
    options.rows = rows;
    found.chunks.emplace_back();
    if (options.ranks.reducer) options.ranks.reducer->record(&found.chunks.back());
    const at::Tensor hidden = forward(model, batch, options);
    if (options.ranks.reducer) options.ranks.reducer->record(nullptr);
    return hidden;
  };
  EXPECT_EQ(pass(0, 11, at::empty({0}, at::kLong)).size(0), 0);
  found.asked = pass(11, kLength, at::tensor({9, 19, 29}, at::kLong));
  found.next = pass(kLength, kLength + 1, {});
  return found;
}

bool has_keys(const comm::MessageLog& log) {
  return std::any_of(log.messages.begin(), log.messages.end(), [](const comm::Message& message) {
    return message.name.part == MessagePart::keys;
  });
}

int64_t routed_bytes(const comm::MessageLog& log, int64_t layer) {
  int64_t bytes = 0;
  for (const comm::Message& message : log.messages)
    if (message.name.part == MessagePart::routed && message.name.layer == layer)
      bytes += message.bytes;
  return bytes;
}

/// A model, and whether ranks need only their slices to divide its tokens.
struct DividedModel {
  std::string name;
  std::function<void(io::Json&)> change = [](io::Json&) {};
  bool makes_keys = true, needs_no_more = false;
};

const std::vector<DividedModel>& divided_models() {
  static const std::vector<DividedModel> models = {
      {.name = "deepseek_v2"},
      {.name = "deepseek_v2_qlora_groups"},
      {.name = "moonlight"},
      {.name = "moonlight",
       .change = [](io::Json& json) { json["n_shared_experts"] = nullptr; },
       .needs_no_more = true},
      {.name = "qwen3_moe",
       .change = [](io::Json& json) { json["head_dim"] = 6; },
       .makes_keys = false},
      {.name = "qwen3_moe_dense_middle",
       .change = [](io::Json& json) { json["num_key_value_heads"] = 1; },
       .makes_keys = false},
  };
  return models;
}

TEST(ReplicatedPrefill, TheLastLayerGetsKeysAndTheRowsThatAreAskedFor) {
  for (const DividedModel& tried : divided_models())
    for (const std::string connectivity : {"regular", "farskip", "attention", "moe",
                                           "farskip.last2", "farskip.:-1", "farskip.:-2"}) {
      SCOPED_TRACE(tried.name + ", " + connectivity);
      const SharedModel shared(tried.name, tried.change);
      const auto config = model::read_config(shared.directory() / "config.json");
      const auto& moe = config.layers[config.depth() - 2].moe;
      const auto load = [&](const model::Share& share) {
        return model::load_model(shared.directory(), at::kDouble, at::kCPU,
                                 model::Residence::copied, share);
      };
      const Prefill one = prefill(load({}), connectivity, {});
      const int64_t size = connectivity == "farskip" || connectivity == "regular" ? 4 : 2;
      Rendezvous::threads(size, [&](Rendezvous& rendezvous) {
        std::vector<int64_t> bytes;  // of the last sum of experts that all tokens have
        for (const bool divided : {false, true}) {
          const model::Model model = load(replicated_share(rendezvous.rank(), size, size, divided));
          const auto run = [&](Execution execution, int64_t waves) {
            model::ExpertRanks ranks{.execution = execution, .waves = waves, .wave_tokens = 8};
            ranks.reducer = std::make_shared<comm::Reducer>(comm::delayed(
                rendezvous.all(), 5 + rendezvous.rank(), std::chrono::microseconds(500)));
            return prefill(model, connectivity, ranks);
          };
          const std::vector<Prefill> found = {run(Execution::overlapped, 1),
                                              run(Execution::blocking, 2),
                                              run(Execution::overlapped, 2)};
          EXPECT_TRUE(found[2].asked.equal(found[1].asked));
          EXPECT_TRUE(found[2].next.equal(found[1].next));
          for (const Prefill& many : found) {
            EXPECT_LT(relative_error(many.asked, one.asked), 1e-9);
            EXPECT_LT(relative_error(many.next, one.next), 1e-9);
            // With attention alone, more than one sum of experts is left for the last layer.
            const bool keys =
                (divided || tried.makes_keys) && (connectivity != "attention" || !moe);
            EXPECT_EQ(has_keys(many.chunks[0]), keys);
            EXPECT_EQ(has_keys(many.chunks[1]), keys);
            EXPECT_FALSE(has_keys(many.chunks[2]));
          }
          bytes.push_back(routed_bytes(found.back().chunks[0], config.depth() - 3));
        }
        // Of 33 tokens a quarter of each of eight waves, rounded up.
        const int64_t whole = 3 * 33 * config.hidden * 8, part = 3 * 9 * config.hidden * 8;
        if (connectivity == "farskip" && moe)
          EXPECT_THAT(bytes, testing::ElementsAre(tried.needs_no_more ? part : whole, part));
        else
          EXPECT_EQ(bytes[0], bytes[1]);
      });
    }
}

TEST(ReplicatedPrefill, OfTheLastLayerOnlyTheRowsThatAreAskedFor) {
  const SharedModel shared("qwen3_moe");
  Rendezvous::threads(2, [&](Rendezvous& rendezvous) {
    const at::NoGradGuard no_grad;
    const model::Model model =
        model::load_model(shared.directory(), at::kFloat, at::kCPU, model::Residence::mapped,
                          replicated_share(rendezvous.rank(), 2, 2));
    const auto reducer = std::make_shared<comm::Reducer>(rendezvous.all());
    comm::MessageLog log;
    reducer->record(&log);
    forward(model, model::Batch::whole(some_tokens(4, 24)),
            {.connectivity = variant("farskip", 4),
             .ranks = {.reducer = reducer},
             .rows = at::tensor({95, 4}, at::kLong)});
    for (const comm::Message& message : log.messages)
      // The last layer reads the stream without the routed output before it, but for these rows.
      EXPECT_EQ(message.bytes,
                (message.name.layer == 3 ||
                         (message.name.layer == 2 && message.name.part == MessagePart::routed)
                     ? 2
                     : 96) *
                    36 * 4)
          << message.name.describe();
    reducer->record(nullptr);
    const at::Tensor none = forward(model, model::Batch::whole(some_tokens(4, 24)),
                                    {.connectivity = variant("farskip", 4),
                                     .ranks = {.reducer = reducer},
                                     .rows = at::empty({0}, at::kLong)});
    EXPECT_EQ(logits(model, none, {.reducer = reducer}).size(0), 0);
  });
}

}  // namespace
}  // namespace farskip::schedule
