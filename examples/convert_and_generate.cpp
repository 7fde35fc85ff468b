// Stamps a checkpoint with FarSkip connectivity in its last half, and continues a prompt with what
// was written:   convert_and_generate MODEL OUT 11 12 13
#include <c10/core/InferenceMode.h>

#include <exception>
#include <iostream>

#include "engine/generate.h"
#include "forms/form.h"

int main(int argc, char** argv) try {
  if (argc < 4) {
    std::cerr << "usage: convert_and_generate MODEL OUT TOKEN...\n";
    return 2;
  }
  std::vector<int64_t> prompt;
  for (int i = 3; i < argc; ++i) prompt.push_back(std::stoll(argv[i]));

  using namespace farskip;
  const c10::InferenceMode inference;
  const model::Model original = model::load_model(argv[1]);
  const int64_t depth = original.config.depth();
  const model::Connectivity connectivity(model::ConnectivityKind::farskip,
                                         model::parse_layer_range("last:50%", depth), depth);
  forms::save(original, connectivity, argv[2]);

  const model::Model converted = model::load_model(argv[2]);
  engine::GenerateOptions options;
  options.connectivity = converted.config.connectivity;  // as stamped
  options.max_new_tokens = 8;
  std::cout << converted.config.connectivity.describe() << "\n";
  const auto generated = engine::generate(converted, {prompt}, options);
  for (const int64_t token : generated.front().tokens) std::cout << token << " ";
  std::cout << "\n";
  return 0;
} catch (const std::exception& error) {
  std::cerr << error.what() << "\n";
  return 1;
}
