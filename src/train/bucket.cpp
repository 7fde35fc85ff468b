#include "train/bucket.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "comm/recorded_work.h"

namespace farskip::train {
namespace {

/// Where one rank's part of a parameter lies.
struct Place {
  int64_t at;            ///< in what the rank has of its bucket
  int64_t begin, count;  ///< in the parameter
  at::Tensor of_part(const at::Tensor& part) const { return part.narrow(0, at, count); }
  at::Tensor of_parameter(const at::Tensor& tensor) const {
    return tensor.detach().view({-1}).narrow(0, begin, count);
  }
};

}  // namespace

int64_t part_size(const model::Parameter& parameter, int64_t ranks) {
  const at::Tensor& value = parameter.value;
  const int64_t unit = value.dim() == 2 ? value.size(1) : 1, units = value.numel() / unit;
  return (units + ranks - 1) / ranks * unit;
}

bool Bucket::suits(const model::Parameter& parameter, const comm::Group& of) const {
  return !by_rows && group.backend() == of.backend() &&
         parameters.front()->value.scalar_type() == parameter.value.scalar_type();
}

int64_t Bucket::bytes() const {
  const auto element = static_cast<int64_t>(parameters.front()->gradient.element_size());
  return part * group.size() * element;
}

void Bucket::add(size_t member, model::Parameter* parameter, int64_t layer_of_it) {
  members.push_back(member);
  parameters.push_back(parameter);
  layer = std::min(layer, layer_of_it);
  part += part_size(*parameter, group.size());
}

template <class F>
void Bucket::each_part(F f) const {
  int64_t at = 0;
  for (const model::Parameter* parameter : parameters) {
    const int64_t size = parameter->value.numel(), each = part_size(*parameter, group.size());
    for (int64_t rank = 0; rank < group.size(); ++rank) {
      const int64_t begin = std::min(rank * each, size);
      f(*parameter, rank, Place{at, begin, std::min(each, size - begin)});
    }
    at += each;
  }
}

Bucket::Parts Bucket::gradients() const {
  const at::Tensor gradient = parameters.front()->gradient.detach();
  if (!by_rows) {
    const at::Tensor parts = at::zeros({group.size(), part}, gradient.options());
    each_part([&](const model::Parameter& parameter, int64_t rank, Place place) {
      place.of_part(parts[rank]).copy_(place.of_parameter(parameter.gradient));
    });
    return {parts.view({-1}), std::vector<int64_t>(group.size(), part)};
  }
  Parts parts;
  std::vector<at::Tensor> of_ranks;
  each_part([&](const model::Parameter& parameter, int64_t, Place place) {
    const at::Tensor own = place.of_parameter(parameter.gradient).view({-1, gradient.size(1)});
    const at::Tensor places = own.ne(0).any(1).nonzero().squeeze(1);
    of_ranks.push_back(
        at::cat({places.to(own.scalar_type()).unsqueeze(1), own.index_select(0, places)}, 1));
    parts.sent.push_back(places.numel());
  });
  parts.rows = at::cat(of_ranks);
  return parts;
}

std::vector<int64_t> Bucket::expected(const Parts& own, const std::string& what) const {
  if (!by_rows) return own.sent;
  const std::vector<int64_t> ones(group.size(), 1);
  const at::Tensor counts =
      group.all_to_all(what + " (counts)", at::tensor(own.sent, at::kLong), ones, ones).wait();
  const int64_t* first = counts.const_data_ptr<int64_t>();
  return {first, first + group.size()};
}

void Bucket::add_up(const at::Tensor& received, const std::vector<int64_t>& expected) const {
  const std::vector<at::Tensor> parts = received.split_with_sizes(expected);
  each_part([&](const model::Parameter& parameter, int64_t rank, Place place) {
    if (rank != group.rank()) return;
    const at::Tensor sum = place.of_parameter(parameter.gradient);
    if (by_rows) {
      const int64_t width = parameter.value.size(1);
      sum.zero_();
      for (const at::Tensor& rows : parts)
        sum.view({-1, width})
            .index_add_(0, rows.select(1, 0).to(at::kLong), rows.narrow(1, 1, width));
      return;
    }
    sum.copy_(place.of_part(parts[0]));
    for (int64_t r = 1; r < group.size(); ++r) sum.add_(place.of_part(parts[r]));
  });
}

at::Tensor Bucket::own_values() const {
  const at::Tensor values = at::zeros({part}, parameters.front()->value.detach().options());
  each_part([&](const model::Parameter& parameter, int64_t rank, Place place) {
    if (rank == group.rank()) place.of_part(values).copy_(place.of_parameter(parameter.value));
  });
  return values;
}

void Bucket::take_values(const at::Tensor& received) const {
  const at::Tensor parts = received.view({group.size(), part});
  each_part([&](const model::Parameter& parameter, int64_t rank, Place place) {
    if (rank != group.rank()) place.of_parameter(parameter.value).copy_(place.of_part(parts[rank]));
  });
}

void BucketPipeline::add(comm::MessageName name, int64_t bytes, const Launch& launch,
                         Finish finish) {
  auto work = std::make_unique<comm::RecordedWork>(
      launch(name.describe()).release(), name, bytes,
      [log = log_](const comm::Message& done, const at::Tensor&) {
        if (log) log->messages.push_back(done);
      });
  waiting_.emplace_back(comm::Pending(std::move(work)), std::move(finish));
}

void BucketPipeline::finish_arrived() {
  while (!waiting_.empty() && waiting_.front().first.arrived()) finish_one();
}

bool BucketPipeline::has_room() {
  finish_arrived();
  return waiting_.size() < kBucketsInFlight;
}

void BucketPipeline::finish_one() {
  auto [pending, finish] = std::move(waiting_.front());
  waiting_.pop_front();
  ++finished_;
  finish(pending.wait());
}

}  // namespace farskip::train
