// Where models are found by their names on the hub.
#include "io/hub_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <map>

#include "io/support.h"

namespace farskip::io {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

/// Variables for as long as it lives; "" takes one away.
class Environment {
 public:
  explicit Environment(const std::map<std::string, std::string>& values) {
    for (const char* name :
         {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME", "HOME"}) {
      const char* old = std::getenv(name);
      if (old) before_[name] = old;
      ::unsetenv(name);
      if (const auto found = values.find(name); found != values.end())
        ::setenv(name, found->second.c_str(), 1);
      names_.push_back(name);
    }
  }
  ~Environment() {
    for (const std::string& name : names_) {
      ::unsetenv(name.c_str());
      if (before_.contains(name)) ::setenv(name.c_str(), before_[name].c_str(), 1);
    }
  }

 private:
  std::vector<std::string> names_;
  std::map<std::string, std::string> before_;
};

TEST(HubCache, IsWhereTheHubsToolsHaveIt) {
  const struct {
    std::map<std::string, std::string> variables;
    const char* expected;
  } cases[] = {
      {{{"HF_HUB_CACHE", "/a"}, {"HF_HOME", "/b"}, {"HOME", "/h"}}, "/a"},
      {{{"HUGGINGFACE_HUB_CACHE", "/a"}, {"HOME", "/h"}}, "/a"},
      {{{"HF_HUB_CACHE", ""}, {"HF_HOME", "/b"}, {"XDG_CACHE_HOME", "/c"}}, "/b/hub"},
      {{{"HF_HOME", "~/b"}, {"HOME", "/h"}}, "/h/b/hub"},
      {{{"XDG_CACHE_HOME", "/c"}, {"HOME", "/h"}}, "/c/huggingface/hub"},
      {{{"HOME", "/h"}}, "/h/.cache/huggingface/hub"},
  };
  for (const auto& c : cases) {
    const Environment environment(c.variables);
    EXPECT_EQ(hub_cache(), c.expected);
  }
}

TEST(HubCache, FindsModelsByName) {
  const TemporaryFolder folder;
  const fs::path cache = folder / "hub";
  const Environment environment({{"HF_HUB_CACHE", cache.string()}});
  const auto repository = [&](const std::string& name) {
    const fs::path path = cache / name;
    fs::create_directories(path / "refs/pr");
    fs::create_directories(path / "snapshots/abc");
    fs::create_directories(path / "snapshots/def");
    put_file(path / "refs/main", "abc\n");
    put_file(path / "refs/v1", "def");
    put_file(path / "refs/pr/2", "def");
    return path / "snapshots";
  };
  const fs::path both = repository("models--org--some.Model-1"), old = repository("models--gpt2");
  const std::pair<std::string, fs::path> cases[] = {
      {"org/some.Model-1", both / "abc"},
      {"org/some.Model-1@main", both / "abc"},
      {"org/some.Model-1@v1", both / "def"},
      {"org/some.Model-1@pr/2", both / "def"},
      {"org/some.Model-1@def", both / "def"},
      {"gpt2", old / "abc"},
      {"gpt2@v1", old / "def"},
  };
  for (const auto& [name, expected] : cases) EXPECT_EQ(find_model(name), expected) << name;
  EXPECT_EQ(hub_name(both / "abc"), "org/some.Model-1");
  EXPECT_EQ(hub_name(both / "abc/"), "org/some.Model-1");
  EXPECT_EQ(hub_name(old / "def"), "gpt2");
  EXPECT_EQ(hub_name("/models/snapshots/abc"), std::nullopt);

  // What is no name on the hub, or is there, stays what it is.
  for (const std::string& name :
       {folder.path().string(), std::string("."), std::string("/no/such"), std::string("./no/such"),
        std::string("no/such/folder"), std::string("model"), std::string("")})
    EXPECT_EQ(find_model(name), name);
  const fs::path here = fs::current_path();
  fs::current_path(folder.path());
  fs::create_directories("org/some.Model-1");
  EXPECT_EQ(find_model("org/some.Model-1"), "org/some.Model-1");
  fs::current_path(here);

  EXPECT_THAT(input_error([] { find_model("org/other"); }),
              testing::AllOf(HasSubstr("org/other: found no such directory, and nothing of it in " +
                                       cache.string()),
                             HasSubstr("(hf download org/other)")));
  EXPECT_THAT(input_error([] { find_model("org/some.Model-1@v2"); }),
              testing::AllOf(HasSubstr("no v2 of it"), HasSubstr("abc"), HasSubstr("def"),
                             HasSubstr("hf download org/some.Model-1 --revision v2")));
  fs::remove(cache / "models--org--some.Model-1/refs/main");
  EXPECT_THAT(input_error([] { find_model("org/some.Model-1"); }), HasSubstr("no main of it"));
}

}  // namespace
}  // namespace farskip::io
