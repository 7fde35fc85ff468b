#include "text/hub.h"

// Python's headers come first: they set feature macros.
#include <pybind11/embed.h>
#include <pybind11/stl.h>

#include <cstdlib>
#include <functional>

#include "text/chat_template.h"
#include "text/tables.h"
#include "text/tokenizer.h"
#include "util/error.h"

namespace farskip::text {

// The hub_*.py beside this file (cmake/EmbedText.cmake).
extern const char kHubSettings[], kHubTokenizers[], kHubTemplates[], kHubTables[];

namespace {

namespace py = pybind11;

/// The interpreter whose packages are used: the one of the build, or FARSKIP_PYTHON's.
std::string python_executable() {
  const char* given = std::getenv("FARSKIP_PYTHON");
  const std::string path = given && *given ? given : FARSKIP_PYTHON_EXECUTABLE;
  if (!std::filesystem::exists(path))
    throw InputError("Python: found no interpreter at " + path +
                     ", expected the one that farskip was built with (./test or ./demo makes it; "
                     "FARSKIP_PYTHON names another)");
  return path;
}

/// The message of an exception as one line; the lock is held.
std::string one_line(const py::object& value) {
  std::string line;
  for (const char c : py::str(value).cast<std::string>()) {
    const bool space = c == '\n' || c == '\r' || c == '\t';
    if (!space || !line.ends_with(' ')) line += space ? ' ' : c;
  }
  return line;
}

/// What a Python exception is here.
[[noreturn]] void rethrow(const py::error_already_set& error, const std::string& python) {
  if (error.matches(PyExc_ImportError))
    throw InputError("Python: found that " + one_line(error.value()) +
                     ", expected it for tokenizers, chat templates and tables (install: " + python +
                     " -m pip install " FARSKIP_TEXT_PACKAGES ")");
  if (error.matches(PyExc_ValueError) || error.matches(PyExc_OSError))
    throw InputError(one_line(error.value()));
  throw Error("Python: " + py::str(error.type().attr("__name__")).cast<std::string>() + ": " +
              one_line(error.value()));
}

/// CPython can exist once a process, and its modules hold state that can't be taken down safely:
/// so it is started once and left alone, and its lock is let go of between calls.
class Interpreter {
 public:
  static const Interpreter& get() {
    static const Interpreter* const interpreter = new Interpreter;
    return *interpreter;
  }

  /// Runs `body` with the lock held and with Python's exceptions turned into ours.
  template <class Body>
  auto call(Body body) const {
    const py::gil_scoped_acquire lock;
    try {
      return body();
    } catch (const py::error_already_set& error) {
      rethrow(error, executable_);
    }
  }

 private:
  Interpreter() : executable_(python_executable()) {
    PyConfig config;
    PyConfig_InitIsolatedConfig(&config);
    config.install_signal_handlers = 0;
    PyConfig_SetBytesString(&config, &config.executable, executable_.c_str());
    try {
      py::initialize_interpreter(&config, 0, nullptr, /*add_program_dir_to_path=*/false);
    } catch (const std::exception& error) {
      throw InputError("Python: found that " + executable_ + " does not start (" + error.what() +
                       "), expected Python " + std::to_string(PY_MAJOR_VERSION) + "." +
                       std::to_string(PY_MINOR_VERSION));
    }
    try {
      load("hub_settings", kHubSettings);
      load("hub_tokenizers", kHubTokenizers);
      load("hub_templates", kHubTemplates);
      load("hub_tables", kHubTables);
    } catch (const py::error_already_set& error) {
      rethrow(error, executable_);
    }
    PyEval_SaveThread();
  }

  /// A module that those after it may import.
  static void load(const char* name, const char* source) {
    const auto module = py::module_::import("types").attr("ModuleType")(name);
    py::module_::import("sys").attr("modules")[name] = module;
    py::exec(source, module.attr("__dict__"));
  }

  std::string executable_;
};

/// An object of Python's, let go of under the lock.
class Held {
 public:
  explicit Held(py::object object) : object_(std::move(object)) {}
  ~Held() {
    const py::gil_scoped_acquire lock;
    object_ = py::object();
  }
  Held(const Held&) = delete;
  Held& operator=(const Held&) = delete;

  /// attribute(arguments...) as a `Result`. Arguments are plain values.
  template <class Result, class... Arguments>
  Result call(const char* name, const Arguments&... arguments) const {
    return Interpreter::get().call(
        [&] { return object_.attr(name)(arguments...).template cast<Result>(); });
  }
  template <class Result>
  Result value(const char* name) const {
    return Interpreter::get().call([&] { return object_.attr(name).template cast<Result>(); });
  }

 private:
  py::object object_;
};

/// An object of class `name` of a module.
template <class... Arguments>
std::unique_ptr<Held> make(const char* module, const char* name, const Arguments&... arguments) {
  return Interpreter::get().call(
      [&] { return std::make_unique<Held>(py::module_::import(module).attr(name)(arguments...)); });
}

class PythonTokenizer final : public HubTokenizer {
 public:
  explicit PythonTokenizer(const std::string& directory)
      : python_(make("hub_tokenizers", "Tokenizer", directory)) {}

  std::vector<int64_t> encode(std::string_view text, bool add_special_tokens) const override {
    return python_->call<std::vector<int64_t>>("encode", text, add_special_tokens);
  }
  std::string decode(std::span<const int64_t> ids, bool skip_special_tokens,
                     bool clean_up) const override {
    return python_->call<std::string>("decode", std::vector<int64_t>(ids.begin(), ids.end()),
                                      skip_special_tokens, clean_up);
  }
  std::optional<int64_t> id_of(std::string_view token) const override {
    return python_->call<std::optional<int64_t>>("id_of", token);
  }
  std::vector<std::string> tokens() const override {
    return python_->call<std::vector<std::string>>("tokens");
  }
  Spelling spelling() const override {
    const auto name = python_->call<std::string>("spelling");
    return name == "bytes"        ? Spelling::bytes
           : name == "byte_level" ? Spelling::byte_level
                                  : Spelling::pieces;
  }
  std::vector<int64_t> special_ids() const override {
    return python_->value<std::vector<int64_t>>("special_ids");
  }
  std::map<std::string, std::string> special_tokens() const override {
    return python_->value<std::map<std::string, std::string>>("special_tokens");
  }

 private:
  std::unique_ptr<Held> python_;
};

class PythonTemplates final : public HubTemplates {
 public:
  PythonTemplates(const std::string& directory, const std::optional<std::string>& source,
                  const std::string& name)
      : python_(make("hub_templates", "Templates", directory, source, name)) {}

  std::optional<std::string> source() const {
    return python_->call<std::optional<std::string>>("choose", /*tools=*/false);
  }
  Rendered render(const Conversation& talk) const override {
    auto [text, generated] =
        python_->call<std::pair<std::string, std::vector<std::pair<size_t, size_t>>>>(
            "render", talk.messages.dump(), talk.tools.dump(), talk.documents.dump(),
            talk.variables.dump(), talk.add_generation_prompt, talk.continue_final_message);
    return {std::move(text), std::move(generated)};
  }

 private:
  std::unique_ptr<Held> python_;
};

}  // namespace

Tokenizer Tokenizer::open(const std::filesystem::path& model_directory) {
  return Tokenizer(std::make_shared<const PythonTokenizer>(model_directory.string()));
}

std::optional<ChatTemplate> ChatTemplate::open(const std::filesystem::path& model_directory) {
  const auto templates =
      std::make_shared<const PythonTemplates>(model_directory.string(), std::nullopt, "");
  auto source = templates->source();
  if (!source) return std::nullopt;
  return ChatTemplate(templates, std::move(*source));
}

void read_table(const std::filesystem::path& path, const train::Write& write) {
  const auto table = make("hub_tables", "Table", path.string());
  for (;;) {
    const auto lines = table->call<std::string>("read");
    if (lines.empty()) return;
    write(lines);
  }
}

ChatTemplate ChatTemplate::with_source(const std::filesystem::path& model_directory,
                                       std::string source, std::string name) {
  return ChatTemplate(
      std::make_shared<const PythonTemplates>(model_directory.string(), source, name), source);
}

}  // namespace farskip::text
