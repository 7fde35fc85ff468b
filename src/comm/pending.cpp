#include "comm/pending.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace farskip::comm {
namespace {

class Joined : public Work {
 public:
  explicit Joined(std::vector<Pending> columns) : columns_(std::move(columns)) {}
  at::Tensor wait() override {
    std::vector<at::Tensor> parts;
    for (Pending& part : columns_) parts.push_back(part.wait());
    return at::cat(parts, 1);
  }
  bool arrived() const override {
    return std::all_of(columns_.begin(), columns_.end(),
                       [](const Pending& part) { return part.arrived(); });
  }
  void ask() override {
    for (Pending& part : columns_) part.ask();
  }

 private:
  std::vector<Pending> columns_;
};

}  // namespace

Pending joined(std::vector<Pending> columns) {
  if (columns.size() == 1) return std::move(columns.front());
  return Pending(std::make_unique<Joined>(std::move(columns)));
}

}  // namespace farskip::comm
