#include "model/batch.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace farskip::model {

bool Batch::uniform() const {
  return std::all_of(segments.begin(), segments.end(), [&](const Segment& segment) {
    return segment.past == 0 && segment.count == segments.front().count;
  });
}

Batch Batch::whole(const at::Tensor& tokens) {
  const int64_t rows = tokens.size(0), length = tokens.size(1);
  Batch batch;
  batch.tokens = tokens.reshape({rows * length});
  batch.positions = at::arange(length, tokens.options()).repeat({rows});
  for (int64_t row = 0; row < rows; ++row) batch.segments.push_back({0, length});
  return batch;
}

Batch Batch::rows(const std::vector<std::vector<int64_t>>& rows, const std::vector<int64_t>& past,
                  at::Device device) {
  Batch batch;
  std::vector<int64_t> tokens, positions;
  for (size_t row = 0; row < rows.size(); ++row) {
    const auto count = static_cast<int64_t>(rows[row].size());
    tokens.insert(tokens.end(), rows[row].begin(), rows[row].end());
    for (int64_t i = 0; i < count; ++i) positions.push_back(past[row] + i);
    batch.segments.push_back({past[row], count, {static_cast<int64_t>(row)}});
  }
  batch.tokens = at::tensor(tokens, at::kLong).to(device);
  batch.positions = at::tensor(positions, at::kLong).to(device);
  return batch;
}

}  // namespace farskip::model
