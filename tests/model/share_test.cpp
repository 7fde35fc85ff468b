// What a rank reads and holds of a model.
#include "model/share.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <map>

#include "io/checkpoint.h"
#include "model/parameter_count.h"
#include "support/shared_model.h"
#include "util/error.h"

namespace farskip::model {
namespace {

using namespace farskip::test;

TEST(Share, FractionsCoverEverythingOnce) {
  for (const int64_t count : {1, 2, 3, 4, 7})
    for (const int64_t n : {7, 8, 99, 1408}) {
      int64_t next = 0;
      for (int64_t index = 0; index < count; ++index) {
        const Fraction part{index, count};
        EXPECT_EQ(part.begin(n), next);
        EXPECT_LE(std::abs(part.size(n) * count - n), count);
        next = part.end(n);
      }
      EXPECT_EQ(next, n);
    }
}

TEST(Share, SaysWhatRanksCannotShare) {
  struct Case {
    std::string model;
    Share share;
    std::string says;
  };
  const Fraction half{0, 2}, third{0, 3}, quarter{0, 4}, hundredth{0, 100};
  const std::vector<Case> cases = {
      {"deepseek_v2",
       {.tensor = half},
       "--tp: found 2, expected a divisor of the model's 3 attention heads"},
      {"qwen3_moe", {.tensor = third}, "--tp: found 3, expected a divisor of the model's 4 att"},
      {"deepseek_v3", {.experts = third}, "--ep: found 3, expected a divisor of the model's 8 exp"},
      {"deepseek_v3",
       {.expert_width = hundredth},
       "--tp: found 100, expected at most the 9 hidden"},
      {"deepseek_v3", {.head = hundredth}, "--tp: found 100, expected at most the vocabulary's 99"},
  };
  for (const Case& c : cases) {
    const ModelConfig config = read_config(golden_directory(c.model) / "config.json");
    for (const auto& refuse : std::initializer_list<std::function<void()>>{
             [&] { local_config(config, c.share); }, [&] { count_parameters(config, c.share); },
             [&] {
               load_model(golden_directory(c.model), at::kFloat, at::kCPU, Residence::mapped,
                          c.share);
             }})
      EXPECT_THAT(refuse, testing::ThrowsMessage<InputError>(testing::StartsWith(c.says)));
  }
  ModelConfig config = read_config(golden_directory("qwen3_moe") / "config.json");
  for (LayerConfig& layer : config.layers) {
    layer.attention.heads = 12;
    layer.attention.kv_heads = 3;
  }
  EXPECT_THAT([&] { local_config(config, {.tensor = quarter}); },
              testing::ThrowsMessage<InputError>(testing::HasSubstr(
                  "expected a divisor or a multiple of the model's 3 key-value heads")));
}

class SharedModels : public testing::TestWithParam<std::string> {};

/// Elements that every rank has: norms, routers, the latent projections of MLA.
int64_t held_by_all(const ModelConfig& config, const Share& share) {
  int64_t count = 0;
  Weights names;
  for (const Binding& binding : bind(names, config, share)) {
    const bool cut = binding.experts || binding.pieces.front().cut.part.count > 1;
    // The bias of a sum is the first rank's alone.
    const bool alone = binding.name.find("o_proj.bias") != std::string::npos;
    if (!cut && !alone) count += c10::multiply_integers(binding.shape);
  }
  return count;
}

/// What every rank has whole beside its slices: for the end of a prefill.
int64_t held_whole(const ModelConfig& config, const Share& share) {
  const AttentionConfig& attention = config.layers.back().attention;
  const auto& moe = config.layers[config.depth() - 2].moe;
  if (attention.cache_width() >= config.hidden) return 0;
  int64_t count = 0;
  if (share.whole_shared && moe) count += 3 * config.hidden * moe->shared_width;
  if (share.all_keys && attention.kind == AttentionKind::gqa)
    count += attention.cache_width() * (config.hidden + attention.qkv_bias);
  return count;
}

/// Every rank loads from a checkpoint in which all that is not its own is NaN.
TEST_P(SharedModels, ReadOnlyTheirPartAndHoldEverythingTogether) {
  const SharedModel shared(GetParam());
  const auto checkpoint = io::Checkpoint::open(shared.directory());
  const ModelConfig config = read_config(shared.directory() / "config.json");
  const std::filesystem::path poisoned = shared.directory() / "poisoned";
  for (const int64_t size : {2, 4})
    for (const int64_t ep : {int64_t{1}, size}) {
      int64_t together = 0, everywhere = 0, whole = 0;
      for (int64_t rank = 0; rank < size; ++rank) {
        const Share share = replicated_share(rank, size, ep, /*divided=*/size == ep);
        std::map<std::string, at::Tensor> own;
        for (const std::string& name : checkpoint.names())
          own[name] = at::full_like(checkpoint.tensor(name), NAN);
        Weights names;
        for (const Binding& binding : bind(names, config, share))
          for (const Piece& piece : binding.pieces)
            piece.held(own.at(piece.name)).copy_(piece.held(checkpoint.tensor(piece.name)));
        std::vector<io::TensorSpec> specs;
        for (const auto& [name, tensor] : own)
          specs.push_back({name, tensor.scalar_type(), tensor.sizes().vec()});
        io::write_checkpoint(poisoned, config.source, specs,
                             [&](const io::TensorSpec& spec) { return own.at(spec.name); });
        for (const auto residence : {Residence::mapped, Residence::copied}) {
          const Model model = load_model(poisoned, at::kDouble, at::kCPU, residence, share);
          int64_t held = 0;
          for (const Parameter* parameter : model.parameters()) {
            EXPECT_TRUE(parameter->value.isfinite().all().item<bool>()) << parameter->name;
            EXPECT_TRUE(parameter->value.is_contiguous()) << parameter->name;
            held += parameter->value.numel();
          }
          EXPECT_EQ(held, count_parameters(config, share).total());
        }
        everywhere = held_by_all(config, share);
        whole = held_whole(config, share);
        together += count_parameters(config, share).total() - everywhere;
      }
      const int64_t all = count_parameters(config).total();
      if (config.layers[0].attention.kv_heads % size == 0)
        EXPECT_EQ(together + everywhere, all + whole);
      else  // KV heads are held twice
        EXPECT_GT(together + everywhere, all + whole);
    }
}

/// Tensors under the names that transformers 5 has in memory: one for all experts.
std::map<std::string, at::Tensor> with_stacked_experts(const io::Checkpoint& checkpoint) {
  std::map<std::string, at::Tensor> tensors;
  std::map<std::string, std::vector<at::Tensor>> gate_up, down;
  for (const std::string& name : checkpoint.names()) {
    const size_t end = name.find(".mlp.experts.");
    if (end == std::string::npos) {
      tensors[name] = checkpoint.tensor(name);
      continue;
    }
    const std::string stack = name.substr(0, end) + ".mlp.experts.";
    if (!name.ends_with(".0.gate_proj.weight")) continue;
    for (int64_t e = 0; checkpoint.contains(util::concat(stack, e, ".up_proj.weight")); ++e) {
      const auto of = [&](const char* part) {
        return checkpoint.tensor(util::concat(stack, e, part, "_proj.weight"));
      };
      gate_up[stack + "gate_up_proj"].push_back(at::cat({of(".gate"), of(".up")}));
      down[stack + "down_proj"].push_back(of(".down"));
    }
  }
  for (const auto& stacks : {gate_up, down})
    for (const auto& [name, experts] : stacks) tensors[name] = at::stack(experts);
  return tensors;
}

TEST_P(SharedModels, ReadExpertsThatAreOneTensor) {
  const SharedModel shared(GetParam());
  const auto tensors = with_stacked_experts(io::Checkpoint::open(shared.directory()));
  const ModelConfig config = read_config(shared.directory() / "config.json");
  std::vector<io::TensorSpec> specs;
  for (const auto& [name, tensor] : tensors)
    specs.push_back({name, tensor.scalar_type(), tensor.sizes().vec()});
  const std::filesystem::path stacked = shared.directory() / "stacked";
  io::write_checkpoint(stacked, config.source, specs,
                       [&](const io::TensorSpec& spec) { return tensors.at(spec.name); });
  std::vector<Share> shares = {{}, Share::of_experts(1, 2)};
  for (int64_t rank = 0; rank < 4; ++rank) shares.push_back(replicated_share(rank, 4, 2));
  for (const Share& share : shares)
    for (const auto residence : {Residence::mapped, Residence::copied}) {
      const auto load = [&](const std::filesystem::path& directory) {
        return load_model(directory, at::kDouble, at::kCPU, residence, share);
      };
      const Model expected = load(shared.directory()), found = load(stacked);
      EXPECT_EQ(found.unused, expected.unused);
      const auto wanted = expected.parameters(), got = found.parameters();
      for (size_t i = 0; i < wanted.size(); ++i)
        EXPECT_TRUE(got[i]->value.equal(wanted[i]->value)) << wanted[i]->name;
    }
  // What is written is one tensor an expert again.
  const std::filesystem::path saved = shared.directory() / "saved";
  save_model(load_model(stacked), config.source, saved);
  EXPECT_EQ(io::Checkpoint::open(saved).names(), io::Checkpoint::open(shared.directory()).names());
}

TEST_P(SharedModels, AreRefusedByNameWhereTheStackIsDamaged) {
  const SharedModel shared(GetParam());
  auto tensors = with_stacked_experts(io::Checkpoint::open(shared.directory()));
  const ModelConfig config = read_config(shared.directory() / "config.json");
  const std::filesystem::path stacked = shared.directory() / "stacked";
  const auto load = [&] {
    std::vector<io::TensorSpec> specs;
    for (const auto& [name, tensor] : tensors)
      specs.push_back({name, tensor.scalar_type(), tensor.sizes().vec()});
    io::write_checkpoint(stacked, config.source, specs,
                         [&](const io::TensorSpec& spec) { return tensors.at(spec.name); });
    load_model(stacked);
  };
  const auto stack = std::find_if(tensors.begin(), tensors.end(), [](const auto& tensor) {
    return tensor.first.ends_with("experts.down_proj");
  });
  const std::string name = stack->first;
  stack->second = stack->second.transpose(1, 2).contiguous();
  EXPECT_THAT(load, testing::ThrowsMessage<InputError>(testing::HasSubstr(name + ": found shape")));
  tensors.erase(name);
  EXPECT_THAT(load, testing::ThrowsMessage<InputError>(testing::HasSubstr("found no such tensor")));
}

TEST(Share, OfAReleasedModelIsAnNth) {
  for (const char* name : {"DeepSeek-V2-Lite", "Moonlight-16B-A3B-Instruct", "Qwen3-30B-A3B"})
    for (const int64_t size : {2, 4, 8})
      for (const int64_t ep : {int64_t{1}, size}) {
        const ModelConfig config = read_config(std::filesystem::path(FARSKIP_TEST_DATA) /
                                               "configs" / (std::string(name) + ".json"));
        const Share share = replicated_share(size - 1, size, ep);
        const auto all = static_cast<double>(count_parameters(config).total());
        const auto held = static_cast<double>(count_parameters(config, share).total());
        const auto everywhere = static_cast<double>(held_by_all(config, share));
        EXPECT_NEAR(held - everywhere, (all - everywhere) / static_cast<double>(size), 2e-3 * all)
            << name << " on " << size;
        EXPECT_LT(everywhere, 0.01 * all) << name;
      }
}

TEST_P(SharedModels, DrawTheSameRandomWeights) {
  const SharedModel shared(GetParam());
  const ModelConfig config = read_config(shared.directory() / "config.json");
  Model all = random_model(config, at::kFloat, 7);
  std::map<std::string, at::Tensor> whole;
  for (const Binding& binding : bind(all.weights, config))
    for (const Piece& piece : binding.pieces)
      whole[piece.name] = binding.view(binding.parameter->value, piece);
  for (int64_t rank = 0; rank < 4; ++rank) {
    const Share share = replicated_share(rank, 4, 2);
    Model own = random_model(config, at::kFloat, 7, share);
    for (const Binding& binding : bind(own.weights, config, share))
      for (const Piece& piece : binding.pieces)
        EXPECT_TRUE(
            binding.view(binding.parameter->value, piece).equal(piece.held(whole.at(piece.name))))
            << piece.name;
  }
}

INSTANTIATE_TEST_SUITE_P(Models, SharedModels, testing::ValuesIn(golden_models()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace farskip::model
