// Peak memory and time of the fused head and loss beside the plain one, each in a process of its
// own (the resident set's high-water mark only ever rises).
//
//   loss_memory [--vocabulary V] [--hidden H] [--tokens N ...] [--dtype float32|bfloat16]
//
// "extra" is the high-water mark above what the inputs and the head's gradient take.
#include <ATen/ATen.h>
#include <sys/wait.h>
#include <torch/csrc/autograd/autograd.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <fstream>
#include <iostream>

#include "train/loss.h"
#include "util/table.h"

namespace {

using namespace farskip;

struct Figures {
  double seconds = 0;
  double extra_mib = 0;
  double loss = 0;
};

/// A field of /proc/self/status in MiB.
double status_mib(const std::string& field) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.rfind(field, 0) == 0) return std::stod(line.substr(field.size() + 1)) / 1024;
  return 0;
}

/// KL of all rows and its gradients; `fused` is what training uses, plain the textbook's.
Figures measure(bool fused, int64_t tokens, int64_t hidden, int64_t vocabulary,
                at::ScalarType dtype) {
  const auto options = at::TensorOptions(dtype);
  model::Parameter head{"head", at::randn({vocabulary, hidden}, options).mul_(0.02), {}};
  at::Tensor student = at::randn({tokens, hidden}, options),
             teacher = at::randn({tokens, hidden}, options);
  // The head's gradient is there before, in either way of keeping it.
  if (fused)
    head.train();
  else
    head.value.requires_grad_().mutable_grad() = at::zeros_like(head.value.detach());
  (fused ? head.gradient : head.value.mutable_grad()).fill_(0);
  std::ofstream("/proc/self/clear_refs") << "5";  // the high-water mark starts here
  const double before = status_mib("VmRSS:");
  const auto start = std::chrono::steady_clock::now();
  Figures figures;
  if (fused) {
    const train::HeadInput input{.hidden = student,
                                 .head = head.value,
                                 .teacher_hidden = teacher,
                                 .teacher_head = head.value};
    figures.loss =
        train::head_loss(input, head, train::Objective::kl, 1.0 / static_cast<double>(tokens)).loss;
  } else {
    student.requires_grad_();
    const at::Tensor log_s = at::mm(student, head.value.t()).to(at::kFloat).log_softmax(1);
    const at::Tensor log_t = at::mm(teacher, head.value.detach().t()).to(at::kFloat).log_softmax(1);
    const at::Tensor loss = (log_t.exp() * (log_t - log_s)).sum(1).mean();
    torch::autograd::backward({loss}, {at::ones_like(loss)});
    figures.loss = loss.item<double>();
  }
  figures.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  figures.extra_mib = status_mib("VmHWM:") - before;
  return figures;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Peak memory and time of the fused head and loss beside the plain one");
  int64_t vocabulary = 129280, hidden = 2048;
  std::vector<int64_t> tokens{1024, 2048, 4096};
  std::string dtype = "bfloat16";
  app.add_option("--vocabulary", vocabulary)->capture_default_str();
  app.add_option("--hidden", hidden)->capture_default_str();
  app.add_option("--tokens", tokens)->capture_default_str();
  app.add_option("--dtype", dtype)->check(CLI::IsMember({"float32", "bfloat16"}));
  CLI11_PARSE(app, argc, argv);
  const auto type = dtype == "float32" ? at::kFloat : at::kBFloat16;

  util::Table table({"tokens", "loss", "extra MiB", "seconds", "KL"});
  nlohmann::json rows = nlohmann::json::array();
  for (const int64_t count : tokens)
    for (const bool fused : {true, false}) {
      int channel[2];
      if (pipe(channel) != 0) return 1;
      const pid_t child = fork();
      if (child == 0) {
        const Figures figures = measure(fused, count, hidden, vocabulary, type);
        const auto written = write(channel[1], &figures, sizeof figures);
        _exit(written == sizeof figures ? 0 : 1);
      }
      close(channel[1]);
      Figures figures;
      const bool came = read(channel[0], &figures, sizeof figures) == sizeof figures;
      close(channel[0]);
      waitpid(child, nullptr, 0);
      const std::string name = fused ? "fused" : "plain";
      if (!came) {  // the plain one may be killed for its memory
        table.add({std::to_string(count), name, "-", "-", "did not finish"});
        continue;
      }
      table.add({std::to_string(count), name, util::fixed(figures.extra_mib, 0),
                 util::fixed(figures.seconds, 2), util::fixed(figures.loss, 5)});
      rows.push_back({{"tokens", count},
                      {"loss", name},
                      {"extra_mib", figures.extra_mib},
                      {"seconds", figures.seconds},
                      {"kl", figures.loss}});
    }
  std::cout << dtype << ", vocabulary " << vocabulary << ", hidden " << hidden << "\n"
            << table.text() << nlohmann::json{{"rows", rows}}.dump() << "\n";
}
