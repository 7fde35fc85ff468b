// What a checkpoint says comes after some tokens:   logits MODEL 11 12 13
#include <ATen/ops/topk.h>
#include <c10/core/InferenceMode.h>

#include <exception>
#include <iostream>

#include "schedule/forward.h"

int main(int argc, char** argv) try {
  if (argc < 3) {
    std::cerr << "usage: logits MODEL TOKEN...\n";
    return 2;
  }
  std::vector<int64_t> tokens;
  for (int i = 2; i < argc; ++i) tokens.push_back(std::stoll(argv[i]));

  using namespace farskip;
  const c10::InferenceMode inference;
  const model::Model model = model::load_model(argv[1]);
  const auto batch = model::Batch::rows({tokens}, {0}, model.device);
  schedule::ForwardOptions options;
  options.connectivity = model.config.connectivity;  // what config.json says
  const at::Tensor hidden = schedule::forward(model, batch, options);
  const at::Tensor logits = schedule::logits(model, hidden);  // [tokens, vocabulary]

  const auto [values, ids] = at::topk(logits.select(0, -1).to(at::kFloat), 3);
  for (int64_t i = 0; i < 3; ++i)
    std::cout << ids[i].item<int64_t>() << " " << values[i].item<float>() << "\n";
  return 0;
} catch (const std::exception& error) {
  std::cerr << error.what() << "\n";
  return 1;
}
