#include "model/routed_output.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace farskip::model {

int64_t RoutedOutput::chunks() const {
  return static_cast<int64_t>(exchanges_.size()) * exchanges_.front()->chunks();
}

int64_t RoutedOutput::chunk_begin(int64_t chunk) const {
  int64_t tokens = 0;
  for (const auto& exchange : exchanges_) {
    if (chunk <= exchange->chunks()) return tokens + exchange->chunk_begin(chunk);
    tokens += exchange->chunk_begin(exchange->chunks());
    chunk -= exchange->chunks();
  }
  return tokens;
}

at::Tensor RoutedOutput::wait() {
  std::vector<at::Tensor> sums;
  for (comm::Pending& part : parts_) sums.push_back(part.wait());
  if (sums.empty())
    for (int64_t c = 0; c < chunks(); ++c) sums.push_back(wait(c));
  return sums.size() == 1 ? sums.front() : at::cat(sums);
}

int64_t RoutedOutput::parts() const {
  return exchanges_.empty() ? std::ssize(parts_) : chunks();
}

bool RoutedOutput::arrived() const {
  if (!exchanges_.empty()) {
    const int64_t each = exchanges_.front()->chunks();
    return exchanges_[next_ / each]->returned(next_ % each);
  }
  return parts_[next_].arrived();
}

at::Tensor RoutedOutput::next() {
  const int64_t part = next_++;
  return exchanges_.empty() ? parts_[part].wait() : wait(part);
}

at::Tensor RoutedOutput::wait(int64_t chunk) {
  const int64_t each = exchanges_.front()->chunks();
  return exchanges_[chunk / each]->combine(ticket_, chunk % each, accumulate_);
}

void RoutedOutput::launch_gradient(int64_t chunk, const at::Tensor& dy) {
  const int64_t each = exchanges_.front()->chunks();
  exchanges_[chunk / each]->launch_combine_gradient(chunk % each, dy);
}

}  // namespace farskip::model
