#include "train/gradient_sync.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <deque>

#include "comm/recorded_work.h"

namespace farskip::train {
namespace {

constexpr size_t kInFlight = 3;  ///< buckets

using Part = comm::MessageName::Part;

/// Of a bucket's parts, those that are sent.
int64_t to_others(const comm::Group& group, const at::Tensor& parts) {
  return static_cast<int64_t>(parts.nbytes()) / group.size() * (group.size() - 1);
}

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

/// Launches and finishes buckets in order, a few at a time.
class GradientSync::Pipeline {
 public:
  using Finish = std::function<void(const at::Tensor&)>;
  explicit Pipeline(comm::MessageLog* log) : log_(log) {}
  /// `bytes`: sent to other ranks. `launch` gets the name that errors use.
  template <class Launch>
  void add(comm::MessageName name, int64_t bytes, Launch launch, Finish finish) {
    if (waiting_.size() == kInFlight) finish_one();
    auto work = std::make_unique<comm::RecordedWork>(
        launch(name.describe()).release(), name, bytes,
        [log = log_](const comm::Message& done, const at::Tensor&) {
          if (log) log->messages.push_back(done);
        });
    waiting_.emplace_back(comm::Pending(std::move(work)), std::move(finish));
  }
  void finish() {
    while (!waiting_.empty()) finish_one();
  }
  /// Whether one can be added without waiting.
  bool has_room() {
    while (!waiting_.empty() && waiting_.front().first.arrived()) finish_one();
    return waiting_.size() < kInFlight;
  }

 private:
  void finish_one() {
    auto [pending, finish] = std::move(waiting_.front());
    waiting_.pop_front();
    finish(pending.wait());
  }
  comm::MessageLog* log_;
  std::deque<std::pair<comm::Pending, Finish>> waiting_;
};

GradientSync::~GradientSync() = default;

GradientSync::GradientSync(model::Model& model, const comm::Grid& grid, int64_t bucket_bytes)
    : world_(grid.world), depth_(model.config.depth()) {
  const auto bindings = model::bind(model.weights, model.config, model.share);
  std::vector<bool> experts;
  std::vector<int64_t> layers;
  for (const model::Binding& binding : bindings) {
    if (!binding.parameter->trained()) continue;
    const comm::Group& group = binding.experts ? grid.expert_replicas : grid.replicas;
    const int64_t size = binding.parameter->value.numel();
    const int64_t each = (size + group.size() - 1) / group.size();
    owned_.push_back({binding.parameter, std::min(group.rank() * each, size),
                      std::min((group.rank() + 1) * each, size),
                      binding.experts ? model.share.experts.index * size : 0});
    experts.push_back(binding.experts);
    layers.push_back(binding.layer);
  }
  // The last parameters' gradients are whole first.
  for (size_t i = owned_.size(); i-- > 0;) {
    const comm::Group& group = experts[i] ? grid.expert_replicas : grid.replicas;
    if (group.size() == 1) {
      alone_.push_back(i);
      continue;
    }
    const model::Parameter& parameter = *owned_[i].parameter;
    const auto bytes = static_cast<int64_t>(parameter.gradient.element_size());
    auto bucket = std::find_if(buckets_.rbegin(), buckets_.rend(), [&](const Bucket& one) {
      const model::Parameter& first = *owned_[one.members.front()].parameter;
      return one.group.backend() == group.backend() &&
             first.value.scalar_type() == parameter.value.scalar_type();
    });
    if (bucket == buckets_.rend() || bucket->part * group.size() * bytes >= bucket_bytes) {
      buckets_.push_back({group, {}, 0});
      bucket = buckets_.rbegin();
    }
    bucket->members.push_back(i);
    bucket->layer = layers[i];
    bucket->part += part_size(owned_[i], *bucket);
  }
}

int64_t GradientSync::part_size(const Owned& one, const Bucket& bucket) {
  return (one.parameter->value.numel() + bucket.group.size() - 1) / bucket.group.size();
}

template <class F>
void GradientSync::each_part(const Bucket& bucket, F f) const {
  int64_t at = 0;
  for (const size_t i : bucket.members) {
    const int64_t size = owned_[i].parameter->value.numel(), each = part_size(owned_[i], bucket);
    for (int64_t rank = 0; rank < bucket.group.size(); ++rank) {
      const int64_t begin = std::min(rank * each, size);
      f(*owned_[i].parameter, rank, Place{at, begin, std::min(each, size - begin)});
    }
    at += each;
  }
}

/// [ranks * part]: what each rank gets of every member.
at::Tensor GradientSync::parts_of_gradients(const Bucket& bucket) const {
  const at::Tensor& gradient = owned_[bucket.members.front()].parameter->gradient;
  const at::Tensor parts = at::zeros({bucket.group.size(), bucket.part}, gradient.options());
  each_part(bucket, [&](const model::Parameter& parameter, int64_t rank, Place place) {
    place.of_part(parts[rank]).copy_(place.of_parameter(parameter.gradient));
  });
  return parts.view({-1});
}

/// In the order of the ranks, so that the sum has the same bits wherever it is taken.
void GradientSync::add_up(const Bucket& bucket, const at::Tensor& received) {
  const at::Tensor parts = received.view({bucket.group.size(), bucket.part});
  each_part(bucket, [&](const model::Parameter& parameter, int64_t rank, Place place) {
    if (rank != bucket.group.rank()) return;
    const at::Tensor sum = place.of_parameter(parameter.gradient);
    sum.copy_(place.of_part(parts[0]));
    for (int64_t r = 1; r < bucket.group.size(); ++r) sum.add_(place.of_part(parts[r]));
  });
}

at::Tensor GradientSync::own_values(const Bucket& bucket) const {
  const at::Tensor& value = owned_[bucket.members.front()].parameter->value;
  const at::Tensor values = at::zeros({bucket.part}, value.detach().options());
  each_part(bucket, [&](const model::Parameter& parameter, int64_t rank, Place place) {
    if (rank == bucket.group.rank())
      place.of_part(values).copy_(place.of_parameter(parameter.value));
  });
  return values;
}

void GradientSync::spread(const Bucket& bucket, const at::Tensor& received) {
  const at::Tensor parts = received.view({bucket.group.size(), bucket.part});
  each_part(bucket, [&](const model::Parameter& parameter, int64_t rank, Place place) {
    if (rank != bucket.group.rank())
      place.of_parameter(parameter.value).copy_(place.of_part(parts[rank]));
  });
}

bool GradientSync::waits(const Bucket& bucket, const model::GradientQueue* queue) const {
  return queue && std::any_of(bucket.members.begin(), bucket.members.end(), [&](size_t i) {
           return queue->holds(owned_[i].parameter->gradient);
         });
}

void GradientSync::launch_next() {
  const Bucket& bucket = buckets_[next_];
  const at::Tensor parts = parts_of_gradients(bucket);
  const std::vector<int64_t> splits(bucket.group.size(), bucket.part);
  reduction_->add(
      {static_cast<int64_t>(next_++), Part::gradients}, to_others(bucket.group, parts),
      [&](const std::string& what) { return bucket.group.all_to_all(what, parts, splits, splits); },
      [this, &bucket](const at::Tensor& received) { add_up(bucket, received); });
  peak_bytes_ = std::max(peak_bytes_, static_cast<int64_t>(2 * kInFlight * parts.nbytes()));
}

void GradientSync::begin(model::GradientQueue& queue) {
  reduction_ = std::make_unique<Pipeline>(log_);
  queue.expect(depth_ + 1);
  queue.observe([this, &queue] {
    const at::NoGradGuard no_grad;
    while (next_ < buckets_.size() && buckets_[next_].layer >= queue.passed() &&
           !waits(buckets_[next_], &queue) && reduction_->has_room())
      launch_next();
  });
}

void GradientSync::reduce(model::GradientQueue* queue) {
  const at::NoGradGuard no_grad;
  if (queue) queue->observe({});
  if (!reduction_) reduction_ = std::make_unique<Pipeline>(log_);
  early_ = static_cast<int64_t>(next_);
  while (next_ < buckets_.size()) {
    while (waits(buckets_[next_], queue)) queue->run_one();
    launch_next();
  }
  if (queue) queue->drain();
  reduction_->finish();
  reduction_.reset();
  next_ = 0;
}

double GradientSync::norm(const AdamW& optimizer) const {
  const at::Tensor own = at::full({1}, optimizer.squared_norm(), at::kDouble);
  return std::sqrt(world_.all_reduce("gradient norm", own).wait().item<double>());
}

void GradientSync::update(AdamW& optimizer, double learning_rate, double gradient_scale) {
  at::NoGradGuard no_grad;
  Pipeline pipeline(log_);
  int64_t number = 0;
  auto alone = alone_.begin();  // what fills the waits
  const auto update = [&](size_t i) { optimizer.update(i, learning_rate, gradient_scale); };
  optimizer.begin_step();
  for (const Bucket& bucket : buckets_) {
    std::for_each(bucket.members.begin(), bucket.members.end(), update);
    const at::Tensor values = own_values(bucket);
    while (alone != alone_.end() && !pipeline.has_room()) update(*alone++);
    pipeline.add(
        {number++, Part::weights},
        (bucket.group.size() - 1) * static_cast<int64_t>(values.nbytes()),
        [&](const std::string& what) { return bucket.group.all_gather(what, values); },
        [&](const at::Tensor& received) { spread(bucket, received); });
  }
  std::for_each(alone, alone_.end(), update);
  pipeline.finish();
}

void GradientSync::spread_values() {
  at::NoGradGuard no_grad;
  for (const Bucket& bucket : buckets_)
    spread(bucket, bucket.group.all_gather("weights", own_values(bucket)).wait());
}

void GradientSync::zero_gradients() {
  for (const Owned& one : owned_) one.parameter->gradient.detach().zero_();
}

}  // namespace farskip::train
