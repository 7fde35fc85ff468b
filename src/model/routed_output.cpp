#include "model/routed_output.h"

#include <ATen/ATen.h>

namespace farskip::model {

at::Tensor RoutedOutput::wait() {
  if (whole_) return whole_->wait();
  if (exchange_->chunks() == 1) return wait(0);
  std::vector<at::Tensor> chunks;
  for (int64_t c = 0; c < exchange_->chunks(); ++c) chunks.push_back(wait(c));
  return at::cat(chunks);
}

}  // namespace farskip::model
