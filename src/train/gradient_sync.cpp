#include "train/gradient_sync.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <numeric>

namespace farskip::train {
namespace {

using Part = comm::MessageName::Part;

/// Elements that are updated at a time: some milliseconds, for which a message may have to wait.
constexpr int64_t kPiece = int64_t{1} << 20;

}  // namespace

GradientSync::GradientSync(model::Model& model, const comm::Grid& grid,
                           std::shared_ptr<model::GradientQueue> queue, int64_t bucket_bytes,
                           bool messages)
    : world_(messages ? grid.world : comm::Group()),
      depth_(model.config.depth()),
      defers_(queue != nullptr),
      queue_(queue ? std::move(queue) : std::make_shared<model::GradientQueue>(0)) {
  const auto bindings = model::bind(model.weights, model.config, model.share);
  std::vector<bool> experts;
  std::vector<int64_t> layers;
  for (const model::Binding& binding : bindings) {
    if (!binding.parameter->trained()) continue;
    const comm::Group& group = binding.experts ? grid.expert_replicas : grid.replicas;
    const int64_t size = binding.parameter->value.numel();
    const int64_t each = part_size(*binding.parameter, group.size());
    owned_.push_back({binding.parameter, std::min(group.rank() * each, size),
                      std::min((group.rank() + 1) * each, size),
                      binding.experts ? model.share.experts.index * size : 0});
    experts.push_back(binding.experts);
    layers.push_back(binding.layer);
  }
  std::vector<Due> alone;
  // The last parameters' gradients are whole first.
  for (size_t i = owned_.size(); i-- > 0;) {
    const comm::Group& group = experts[i] ? grid.expert_replicas : grid.replicas;
    if (group.size() == 1 || !messages) {
      alone.push_back({layers[i], i});
      continue;
    }
    model::Parameter* parameter = owned_[i].parameter;
    const bool by_rows = layers[i] == -1 && !model.config.tied_embeddings &&
                         model.config.vocabulary <= kMostNamedRows;
    auto bucket = std::find_if(buckets_.rbegin(), buckets_.rend(),
                               [&](const Bucket& one) { return one.suits(*parameter, group); });
    if (by_rows || bucket == buckets_.rend() || bucket->bytes() >= bucket_bytes) {
      buckets_.push_back({group, by_rows});
      bucket = buckets_.rbegin();
    }
    bucket->add(i, parameter, layers[i]);
  }
  std::stable_sort(buckets_.begin(), buckets_.end(),
                   [](const Bucket& a, const Bucket& b) { return a.layer > b.layer; });
  // What others wait for comes first.
  for (auto bucket = buckets_.rbegin(); bucket != buckets_.rend(); ++bucket)
    for (const size_t member : bucket->members) updates_.push_back({bucket->layer, member});
  updates_.insert(updates_.end(), alone.rbegin(), alone.rend());
  std::stable_sort(updates_.begin(), updates_.end(),
                   [](const Due& a, const Due& b) { return a.layer < b.layer; });
  queue_->before_read([this](int64_t layer) { provide(layer); });
}

GradientSync::~GradientSync() {
  queue_->observe({});
  queue_->before_read({});
}

bool GradientSync::waits(const Bucket& bucket) const {
  return std::any_of(bucket.members.begin(), bucket.members.end(),
                     [&](size_t i) { return queue_->holds(owned_[i].parameter->gradient); });
}

void GradientSync::launch_gradients() {
  const auto number = static_cast<int64_t>(reduction_->added());
  const Bucket& bucket = buckets_[number];
  const comm::MessageName name{number, Part::gradients};
  const Bucket::Parts parts = bucket.gradients();
  const std::vector<int64_t> expected = bucket.expected(parts, name.describe());
  const auto sum = [](const std::vector<int64_t>& rows) {
    return std::accumulate(rows.begin(), rows.end(), int64_t{0});
  };
  const int64_t row_bytes =
      static_cast<int64_t>(parts.rows.nbytes()) / std::max<int64_t>(1, parts.rows.size(0));
  reduction_->add(
      name, (sum(parts.sent) - parts.sent[bucket.group.rank()]) * row_bytes,
      [&](const std::string& what) {
        return bucket.group.all_to_all(what, parts.rows, parts.sent, expected);
      },
      [&bucket, expected](const at::Tensor& received) { bucket.add_up(received, expected); });
  peak_bytes_ = std::max(peak_bytes_, static_cast<int64_t>(kBucketsInFlight) * row_bytes *
                                          (sum(parts.sent) + sum(expected)));
}

void GradientSync::begin() {
  if (!defers_) return;
  settle();
  reduction_.emplace(log_);
  queue_->expect(depth_ + 1);
  queue_->observe([this] {
    const at::NoGradGuard no_grad;
    const auto ready = [&](const Bucket& bucket) {
      return bucket.layer >= queue_->passed() && !waits(bucket);
    };
    while (reduction_->added() < buckets_.size() && ready(buckets_[reduction_->added()]) &&
           reduction_->has_room())
      launch_gradients();
  });
}

void GradientSync::reduce() {
  const at::NoGradGuard no_grad;
  settle();
  queue_->observe({});
  if (!reduction_) reduction_.emplace(log_);
  early_ = static_cast<int64_t>(reduction_->added());
  while (reduction_->added() < buckets_.size()) {
    while (waits(buckets_[reduction_->added()])) queue_->run_one();
    if (!reduction_->has_room()) reduction_->finish_one();
    launch_gradients();
  }
  queue_->drain();
  while (reduction_->finished() < buckets_.size()) reduction_->finish_one();
  reduction_.reset();
}

double GradientSync::norm(const AdamW& optimizer) const {
  const at::Tensor own = at::full({1}, optimizer.squared_norm(), at::kDouble);
  return std::sqrt(world_.all_reduce("gradient norm", own).wait().item<double>());
}

void GradientSync::launch_values() {
  const auto number = static_cast<int64_t>(spreading_->added());
  const Bucket& bucket = buckets_[buckets_.size() - 1 - number];
  const at::Tensor values = bucket.own_values();
  spreading_->add(
      {number, Part::weights}, (bucket.group.size() - 1) * static_cast<int64_t>(values.nbytes()),
      [&](const std::string& what) { return bucket.group.all_gather(what, values); },
      [&bucket](const at::Tensor& received) { bucket.take_values(received); });
}

void GradientSync::update(AdamW& optimizer, double learning_rate, double gradient_scale) {
  settle();
  optimizer.begin_step();
  spreading_.emplace(log_);
  updated_ = 0;
  for (const Due& due : updates_) {
    const Owned& one = owned_[due.member];
    const auto add = [&](int64_t begin, int64_t end, bool last) {
      queue_->push(one.parameter->gradient, 0, [=, this, &optimizer] {
        optimizer.update(due.member, learning_rate, gradient_scale, begin, end);
        if (!last) return;
        owned_[due.member].parameter->gradient.detach().zero_();
        ++updated_;
      });
    };
    const int64_t size = one.end - one.begin;
    for (int64_t begin = 0; begin == 0 || begin < size; begin += kPiece)
      add(begin, begin + kPiece, begin + kPiece >= size);
  }
  queue_->observe([this] { launch_what_is_ready(); });
  if (!defers_) settle();
}

void GradientSync::launch_what_is_ready() {
  const at::NoGradGuard no_grad;
  while (spreading_ && spreading_->added() < buckets_.size() &&
         !waits(buckets_[buckets_.size() - 1 - spreading_->added()]) && spreading_->has_room())
    launch_values();
}

void GradientSync::launch_up_to(int64_t layer) {
  while (updated_ < updates_.size() && updates_[updated_].layer <= layer) queue_->run_one();
  while (spreading_->added() < needed(layer)) launch_values();
}

size_t GradientSync::needed(int64_t layer) const {
  return std::count_if(buckets_.begin(), buckets_.end(),
                       [&](const Bucket& bucket) { return bucket.layer <= layer; });
}

// Waits for messages in the background while expert messages, which hold them back, are on their
// way. Those were launched before, on all ranks, so that nobody has to come by here for them to
// arrive; and who has gone by has sent its values.
void GradientSync::provide(int64_t layer) {
  if (!spreading_) return;
  const at::NoGradGuard no_grad;
  launch_up_to(layer);
  launch_up_to(layer + 1);  // on its way while this one computes
  launch_what_is_ready();
  for (;;) {
    spreading_->finish_arrived();
    if (spreading_->finished() >= needed(layer)) break;
    if (!queue_->run_one()) spreading_->finish_one();
  }
  if (updated_ == updates_.size() && needed(layer) == buckets_.size()) spreading_.reset();
}

void GradientSync::settle() {
  provide(depth_);
}

void GradientSync::spread_values() {
  const at::NoGradGuard no_grad;
  for (const Bucket& bucket : buckets_)
    bucket.take_values(bucket.group.all_gather("weights", bucket.own_values()).wait());
}

void GradientSync::zero_gradients() {
  for (const Owned& one : owned_) one.parameter->gradient.detach().zero_();
}

}  // namespace farskip::train
