#include "io/safetensors.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "io/json_file.h"
#include "io/support.h"

namespace farskip::io {
namespace {

using Tensors = std::vector<std::pair<std::string, at::Tensor>>;

TEST(Safetensors, RoundTripOfEveryTypeAndOddShape) {
  const TemporaryFolder folder;
  Tensors tensors;
  for (const auto type :
       {at::kBool, at::kByte, at::kChar, at::kShort, at::kBFloat16, at::kHalf, at::kInt, at::kFloat,
        at::kLong, at::kDouble, at::kComplexFloat, at::ScalarType::UInt16, at::ScalarType::UInt32,
        at::ScalarType::UInt64, at::ScalarType::Float8_e4m3fn, at::ScalarType::Float8_e5m2})
    tensors.emplace_back(c10::toString(type), at::arange(7).to(type));
  tensors.emplace_back("scalar", at::scalar_tensor(2.5));
  tensors.emplace_back("empty", at::empty({0, 3}, at::kHalf));
  tensors.emplace_back("transposed", at::arange(6, at::kFloat).view({2, 3}).t());
  tensors.emplace_back("needs gradient", at::ones({2}).requires_grad_());
  tensors.emplace_back("\u00e9\"\n", at::ones({1}));
  write_safetensors(folder / "t.safetensors", tensors);
  const auto read = read_safetensors(folder / "t.safetensors");
  ASSERT_EQ(read.size(), tensors.size());
  for (const auto& [name, tensor] : tensors) {
    const at::Tensor& got = read.at(name);
    EXPECT_EQ(got.scalar_type(), tensor.scalar_type()) << name;
    EXPECT_EQ(got.sizes(), tensor.sizes()) << name;
    EXPECT_TRUE(at::equal(got.contiguous().view(-1).view(at::kByte),
                          tensor.detach().contiguous().view(-1).view(at::kByte)))
        << name;
  }
}

TEST(Safetensors, AlignedTensorsLieOnTheFilesPagesAndOutliveTheFile) {
  const TemporaryFolder folder;
  write_safetensors(folder / "t", Tensors{{"byte", at::ones({1}, at::kByte)},
                                          {"wide", at::arange(4, at::kDouble)},
                                          {"half", at::arange(3, at::kBFloat16)}});
  at::Tensor wide, half;
  {
    const SafetensorsFile file = SafetensorsFile::open(folder / "t");
    EXPECT_EQ(file.header().metadata.at("format"), "pt");
    wide = file.tensor("wide");
    half = file.tensor("half");
    // The same bytes of one mapping, each time it is asked for: nothing is copied.
    EXPECT_EQ(wide.data_ptr(), file.tensor("wide").data_ptr());
    EXPECT_EQ(static_cast<char*>(half.data_ptr()) - static_cast<char*>(wide.data_ptr()), 32);
  }
  std::filesystem::remove(folder / "t");
  EXPECT_EQ(wide.sum().item<double>(), 6);
  wide.add_(1);  // private pages
  EXPECT_EQ(wide.sum().item<double>(), 10);
}

TEST(Safetensors, UnalignedTensorsAreCopied) {
  const TemporaryFolder folder;
  std::string header = R"({"b":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                       R"("f":{"dtype":"F32","shape":[2],"data_offsets":[1,9]}} )";
  header.resize((header.size() + 7) / 8 * 8, ' ');
  std::string data(9, '\0');
  data[8] = 0x40;  // f[1] = 2.0
  put_file(folder / "t", safetensors_bytes(header, data));
  const SafetensorsFile file = SafetensorsFile::open(folder / "t");
  const at::Tensor f = file.tensor("f");
  EXPECT_NE(f.data_ptr(), file.tensor("f").data_ptr());
  EXPECT_EQ(f[1].item<float>(), 2.0f);
}

TEST(Safetensors, ReadsWhatThePythonLibraryWrote) {
  const auto golden = read_safetensors(FARSKIP_TEST_DATA "/models/qwen3_moe/golden.safetensors");
  EXPECT_TRUE(golden.contains("logits.farskip"));
  const auto model = read_safetensors(FARSKIP_TEST_DATA "/models/qwen3_moe/model.safetensors");
  const Fields config(read_json_file(FARSKIP_TEST_DATA "/models/qwen3_moe/config.json"), "config");
  EXPECT_EQ(model.at("model.embed_tokens.weight").sizes(),
            (std::vector<int64_t>{config.integer("vocab_size"), config.integer("hidden_size")}));
}

TEST(Safetensors, StreamsOneTensorAtATimeAndHoldsItToItsSpec) {
  const TemporaryFolder folder;
  const std::vector<TensorSpec> specs = {
      {"half", at::kHalf, {2}}, {"a", at::kFloat, {3}}, {"b", at::kFloat, {1, 2}}};
  std::string order;
  write_safetensors(folder / "t", specs, [&](const TensorSpec& spec) {
    order += spec.name + ' ';
    return at::ones(spec.shape, spec.dtype);
  });
  EXPECT_EQ(order, "a b half ");
  put_file(folder / "old", "old");
  for (const at::Tensor& wrong : {at::ones({3}, at::kHalf), at::ones({2}), at::Tensor()})
    EXPECT_THROW(write_safetensors(folder / "old", std::span(specs).first(1),
                                   [&](const TensorSpec&) { return wrong; }),
                 Error);
  EXPECT_THROW(write_safetensors(folder / "new", Tensors{{"a", at::ones(1)}, {"a", at::ones(1)}}),
               Error);
  EXPECT_EQ(read_file(folder / "old", 10), "old");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 2)
      << "something was left behind";
}

TEST(Safetensors, AFullDiskIsAnErrorThatNamesTheFileAndLeavesTheOldOne) {
  const TemporaryFolder folder;
  put_file(folder / "t", "old");
  const pid_t child = ::fork();
  if (child == 0) {
    // A limit of the file size stands in for the disk's end.
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{4096, 4096};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    bool named = false;
    try {
      write_safetensors(folder / "t", Tensors{{"a", at::ones({4096})}});
    } catch (const InputError&) {
    } catch (const Error& error) {
      named = std::string(error.what()).find((folder / "t").string()) == 0;
    }
    ::_exit(named ? 0 : 1);
  }
  int status = -1;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(read_file(folder / "t", 10), "old");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 1);
}

TEST(Safetensors, RefusesPlacesThatAreNoFiles) {
  const TemporaryFolder folder;
  const Tensors one = {{"a", at::ones(1)}};
  EXPECT_NE(input_error([&] { write_safetensors(folder / "no" / "t", one); }), "");
  EXPECT_NE(input_error([&] { write_safetensors(folder.path(), one); }), "");
  EXPECT_NE(input_error([&] { write_safetensors("/dev/null", one); }), "");
  EXPECT_NE(input_error([&] { read_safetensors(folder.path()); }), "");
  EXPECT_NE(input_error([&] { read_safetensors("/dev/null"); }), "");
}

}  // namespace
}  // namespace farskip::io
