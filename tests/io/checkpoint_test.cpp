#include "io/checkpoint.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>

#include <set>

#include "io/json_file.h"
#include "io/support.h"

namespace farskip::io {
namespace {

namespace fs = std::filesystem;

const std::string kModels = FARSKIP_TEST_DATA "/models";

std::vector<TensorSpec> specs(int count, at::ScalarType type = at::kFloat) {
  std::vector<TensorSpec> list;
  for (int k = 0; k < count; ++k) list.push_back({util::concat("t", k), type, {8}});
  return list;
}

Producer filled_with(double value) {
  return [value](const TensorSpec& spec) { return at::full(spec.shape, value, spec.dtype); };
}

std::set<std::string> names_in(const fs::path& folder) {
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder))
    names.insert(entry.path().filename().string());
  return names;
}

TEST(Checkpoint, OpensOneFileAndShardsByTheirIndex) {
  for (const std::string model : {"qwen3_moe", "deepseek_v3"}) {
    const Checkpoint checkpoint = Checkpoint::open(kModels + "/" + model);
    const int64_t vocabulary = checkpoint.entry("lm_head.weight").shape[0];
    const int64_t hidden = checkpoint.entry("lm_head.weight").shape[1];
    EXPECT_EQ(checkpoint.require("model.embed_tokens.weight", {vocabulary, hidden}).data_ptr(),
              checkpoint.tensor("model.embed_tokens.weight").data_ptr());
    const std::string label = kModels + "/" + model + ": ";
    EXPECT_EQ(input_error([&] {
                checkpoint.require("model.norm.weight", {hidden, 2});
              }),
              util::concat(label, "model.norm.weight: found shape [", hidden, "], expected [",
                           hidden, ", 2]"));
    EXPECT_EQ(input_error([&] { checkpoint.require("no.weight", {1}); }),
              label + "no.weight: found no such tensor, expected it in the checkpoint");
  }
}

TEST(Checkpoint, WritesShardsIndexAndCompanionsAndReplacesThemWhole) {
  const TemporaryFolder folder;
  const fs::path source = folder / "source";
  fs::create_directory(source);
  put_file(source / "tokenizer.json", "{}");
  put_file(source / "notes.txt", "stay");
  const fs::path out = folder / "deep/out";
  const auto list = specs(5);  // of 32 bytes
  write_checkpoint(out, Json{{"a", 1}}, list, filled_with(1),
                   {.max_shard_bytes = 64, .companions = companions(source, true)});
  EXPECT_EQ(
      names_in(out),
      (std::set<std::string>{"config.json", "model-00001-of-00003.safetensors",
                             "model-00002-of-00003.safetensors", "model-00003-of-00003.safetensors",
                             "model.safetensors.index.json", "tokenizer.json"}));
  const Fields index(read_json_file(out / "model.safetensors.index.json"), "index");
  EXPECT_EQ(index.object("metadata").integer("total_size"), 160);
  const Checkpoint old = Checkpoint::open(out);
  EXPECT_EQ(old.names().size(), 5u);
  EXPECT_TRUE(at::equal(old.tensor("t4"), at::ones({8})));

  // From the old one's own pages into the same directory, as a save of a loaded model does.
  put_file(out / "mine.txt", "stay");
  write_checkpoint(out, Json{{"a", 2}}, list,
                   [&](const TensorSpec& spec) { return old.tensor(spec.name); });
  EXPECT_EQ(names_in(out), (std::set<std::string>{"config.json", "mine.txt", "model.safetensors",
                                                  "tokenizer.json"}));
  EXPECT_TRUE(at::equal(Checkpoint::open(out).tensor("t0"), at::ones({8})));
  EXPECT_EQ(read_json_file(out / "config.json")["a"], 2);
}

TEST(Checkpoint, AFailureLeavesTheOldOneAndNothingElse) {
  const TemporaryFolder folder;
  const auto list = specs(3);
  write_checkpoint(folder.path(), Json{{"a", 1}}, list, filled_with(1));
  const auto before = names_in(folder.path());
  const Producer fails = [&](const TensorSpec& spec) {
    if (spec.name == "t2") throw Error("lost peer");
    return at::zeros(spec.shape, spec.dtype);
  };
  EXPECT_THROW(write_checkpoint(folder.path(), Json{}, list, fails, {.max_shard_bytes = 32}),
               Error);
  EXPECT_EQ(names_in(folder.path()), before);
  EXPECT_TRUE(at::equal(Checkpoint::open(folder.path()).tensor("t1"), at::ones({8})));
}

/// Starts a writer that says through a pipe when tensor t2 is asked for, and waits there; kills it.
void kill_in_the_middle(const fs::path& directory) {
  int pipe[2];
  ASSERT_EQ(::pipe(pipe), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    write_checkpoint(directory, Json{}, specs(4),
                     [&](const TensorSpec& spec) {
                       if (spec.name == "t2" && ::write(pipe[1], "x", 1) == 1) ::pause();
                       return at::zeros(spec.shape, spec.dtype);
                     },
                     {.max_shard_bytes = 64});
    ::_exit(0);
  }
  char byte;
  EXPECT_EQ(::read(pipe[0], &byte, 1), 1);
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  ::close(pipe[0]);
  ::close(pipe[1]);
}

TEST(Checkpoint, AKilledWriterLeavesTheOldOneAndTheNextOneCleansUp) {
  const TemporaryFolder folder;
  write_checkpoint(folder.path(), Json{{"a", 1}}, specs(4), filled_with(1));
  const auto before = names_in(folder.path());
  kill_in_the_middle(folder.path());
  EXPECT_GT(names_in(folder.path()).size(), before.size()) << "was nothing being written?";
  EXPECT_TRUE(at::equal(Checkpoint::open(folder.path()).tensor("t0"), at::ones({8})));
  EXPECT_EQ(read_json_file(folder / "config.json")["a"], 1);
  write_checkpoint(folder.path(), Json{{"a", 1}}, specs(4), filled_with(2));
  EXPECT_EQ(names_in(folder.path()), before);
  EXPECT_TRUE(at::equal(Checkpoint::open(folder.path()).tensor("t3"), at::full({8}, 2.0)));
}

TEST(Checkpoint, AKilledFirstWriteDoesNotOpen) {
  const TemporaryFolder folder;
  kill_in_the_middle(folder / "new");
  EXPECT_NE(input_error([&] { Checkpoint::open(folder / "new"); }).find("no config.json"),
            std::string::npos);
}

/// Kills a writer `microseconds` after its last tensor is asked for, so around the swap.
void kill_in_the_swap(const fs::path& directory, int microseconds) {
  int pipe[2];
  ASSERT_EQ(::pipe(pipe), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    write_checkpoint(directory, Json{{"a", 2}}, specs(6),
                     [&](const TensorSpec& spec) {
                       if (spec.name == "t5" && ::write(pipe[1], "x", 1) != 1) ::_exit(1);
                       return at::full(spec.shape, 2, spec.dtype);
                     },
                     {.max_shard_bytes = 32});
    ::_exit(0);
  }
  char byte;
  EXPECT_EQ(::read(pipe[0], &byte, 1), 1);
  ::usleep(microseconds);
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  ::close(pipe[0]);
  ::close(pipe[1]);
}

TEST(Checkpoint, KilledAtAnyMomentTheDirectoryIsOldNewOrRefused) {
  const TemporaryFolder folder;
  std::map<std::string, int> outcomes;
  for (int run = 0; run < 30; ++run) {
    write_checkpoint(folder.path(), Json{{"a", 1}}, specs(6), filled_with(1),
                     {.max_shard_bytes = 64});
    kill_in_the_swap(folder.path(), run * 100);
    try {
      const Checkpoint checkpoint = Checkpoint::open(folder.path());
      const int version = read_json_file(folder / "config.json")["a"].get<int>();
      EXPECT_EQ(checkpoint.names().size(), 6u);
      for (const std::string& name : checkpoint.names())
        EXPECT_EQ(checkpoint.tensor(name).sum().item<double>(), 8 * version) << name;
      ++outcomes[version == 1 ? "old" : "new"];
    } catch (const InputError& error) {
      EXPECT_NE(std::string(error.what()).find("no config.json"), std::string::npos)
          << error.what();
      ++outcomes["refused"];
    }
  }
  for (const auto& [outcome, count] : outcomes) RecordProperty(outcome, count);
}

/// A checkpoint as the hub's cache has it: links to blobs that are named by their hashes.
void link_into_cache(const fs::path& from, const fs::path& repository) {
  fs::create_directories(repository / "blobs");
  fs::create_directories(repository / "snapshots/0123");
  int blob = 0;
  for (const auto& entry : fs::directory_iterator(from)) {
    const std::string hash = util::concat("sha", blob++);
    fs::copy_file(entry.path(), repository / "blobs" / hash);
    fs::create_symlink("../../blobs/" + hash,
                       repository / "snapshots/0123" / entry.path().filename());
  }
}

TEST(Checkpoint, PassesOverWhatIsNotOfTheModelAndSaysSo) {
  const TemporaryFolder folder;
  const fs::path directory = folder / "model";
  write_checkpoint(directory, Json{}, specs(3), filled_with(1), {.max_shard_bytes = 64});
  EXPECT_TRUE(Checkpoint::open(directory).notes().empty());

  // Entries of the index without a tensor, files of other programs, an adapter.
  Json index = read_json_file(directory / "model.safetensors.index.json");
  index["weight_map"]["mtp.b"] = index["weight_map"]["t0"];
  index["weight_map"]["mtp.a"] = index["weight_map"]["t2"];
  write_json_file(directory / "model.safetensors.index.json", index);
  write_safetensors(directory / "consolidated.safetensors", specs(9), filled_with(2));
  write_safetensors(directory / "adapter_model.safetensors", specs(9), filled_with(3));
  put_file(directory / "adapter_config.json", "{}");
  link_into_cache(directory, folder / "cache");
  for (const fs::path& place : {directory, folder / "cache/snapshots/0123"}) {
    const Checkpoint checkpoint = Checkpoint::open(place);
    EXPECT_EQ(checkpoint.names(), (std::vector<std::string>{"t0", "t1", "t2"}));
    EXPECT_TRUE(at::equal(checkpoint.tensor("t2"), at::ones({8})));
    const std::string name = place.string();
    EXPECT_EQ(checkpoint.notes(),
              (std::vector<std::string>{
                  name + "/model.safetensors.index.json: 2 tensors are not in the files that it "
                         "names (first: mtp.a)",
                  name + ": the adapter beside the model is not applied (merge it first)"}));
    EXPECT_EQ(input_error([&] { checkpoint.require("mtp.a", {8}); }),
              name + ": mtp.a: found no such tensor, expected it in the checkpoint");
  }
  fs::remove_all(folder / "cache/blobs");  // a download that was broken off
  EXPECT_NE(input_error([&] { Checkpoint::open(folder / "cache/snapshots/0123"); }).find("no "),
            std::string::npos);
  fs::remove(directory / "config.json");
  EXPECT_NE(input_error([&] { Checkpoint::open(directory); }).find("an adapter"),
            std::string::npos);
}

TEST(Checkpoint, ReadsMixedTypesAndOtherNames) {
  const TemporaryFolder folder;
  write_checkpoint(folder.path(), Json{},
                   std::vector<TensorSpec>{{"text.a", at::kBFloat16, {8}},
                                           {"text.router", at::kFloat, {8}},
                                           {"sight.b", at::kHalf, {8}}},
                   filled_with(1));
  const Checkpoint renamed = Checkpoint::open(folder.path()).renamed("text.", "model.");
  EXPECT_EQ(renamed.names(), (std::vector<std::string>{"model.a", "model.router", "sight.b"}));
  EXPECT_EQ(renamed.require("model.a", {8}).scalar_type(), at::kBFloat16);
  EXPECT_EQ(renamed.require("model.router", {8}).scalar_type(), at::kFloat);
  EXPECT_FALSE(renamed.contains("text.a"));
}

TEST(Checkpoint, RefusesADirectoryThatIsNoFloatingPointCheckpoint) {
  const TemporaryFolder folder;
  write_checkpoint(folder.path(), Json{}, specs(1, at::kLong), filled_with(1));
  EXPECT_NE(input_error([&] { Checkpoint::open(folder.path()).require("t0", {8}); }).find("I64"),
            std::string::npos);
}

}  // namespace
}  // namespace farskip::io
