// Gradients and weights of what several ranks hold alike: every rank adds up and updates a part
// of them (ZeRO stage 1, Rajbhandari et al. 2020), and the parts come together again.
#pragma once
#include <vector>

#include "comm/grid.h"
#include "model/gradient_queue.h"
#include "model/model.h"
#include "train/optimizer.h"

namespace farskip::train {

/// On one rank there is nothing to exchange. Messages go in buckets over groups of their own, in
/// the background (comm::Urgency): expert messages go first.
class GradientSync {
 public:
  /// `model` must outlive it; its trained parameters stay the same tensors. A bucket has so many
  /// bytes of gradients, or those of one parameter that has more.
  GradientSync(model::Model& model, const comm::Grid& grid, int64_t bucket_bytes = 8 << 20);
  ~GradientSync();

  /// What this rank updates: a part of each parameter that others hold too, all of the rest.
  const std::vector<Owned>& owned() const { return owned_; }
  /// Before the last backward pass of a step: from now on, a bucket is launched as soon as that
  /// pass is through with its layers and nothing for it is waiting in the queue, a few at a time.
  void begin(model::GradientQueue& queue);
  /// Afterwards the gradients of what this rank owns are the sums over the ranks. Works off the
  /// queue on the way, and launches a bucket as soon as nothing for it is waiting there.
  void reduce(model::GradientQueue* queue);
  /// L2 norm of the gradients of the whole model.
  double norm(const AdamW& optimizer) const;
  /// One step of the optimizer, after which every rank has all values.
  void update(AdamW& optimizer, double learning_rate, double gradient_scale);
  /// Gives every rank the values that their owners have.
  void spread_values();
  void zero_gradients();

  /// Where messages are recorded as they are waited for; null: nowhere. Must outlive its use.
  void record(comm::MessageLog* log) { log_ = log; }
  /// Buckets of the last reduction that were launched during the backward pass.
  int64_t early() const { return early_; }
  /// Most bytes of buckets in flight at once, sent and received.
  int64_t peak_bytes() const { return peak_bytes_; }

 private:
  /// Parameters of one dtype that are held by the same ranks.
  struct Bucket {
    comm::Group group;
    std::vector<size_t> members;  ///< of owned_, the last parameters first
    int64_t part = 0;             ///< elements of one rank's part, filled up to be equally many
    int64_t layer = 0;            ///< the first that it has something of
  };
  class Pipeline;
  bool waits(const Bucket& bucket, const model::GradientQueue* queue) const;
  void launch_next();
  /// Elements of a rank's part of a parameter, filled up.
  static int64_t part_size(const Owned& one, const Bucket& bucket);
  /// f(parameter, rank, place) for each rank's part of each member, in order.
  template <class F>
  void each_part(const Bucket& bucket, F f) const;
  at::Tensor parts_of_gradients(const Bucket& bucket) const;
  void add_up(const Bucket& bucket, const at::Tensor& received);
  at::Tensor own_values(const Bucket& bucket) const;
  void spread(const Bucket& bucket, const at::Tensor& received);

  comm::Group world_;
  std::vector<Owned> owned_;
  std::vector<Bucket> buckets_;
  std::vector<size_t> alone_;  ///< of owned_: no other rank has them
  int64_t depth_;
  std::unique_ptr<Pipeline> reduction_;  ///< from begin() or reduce() on
  size_t next_ = 0;                      ///< bucket of it
  int64_t early_ = 0;
  comm::MessageLog* log_ = nullptr;
  int64_t peak_bytes_ = 0;
};

}  // namespace farskip::train
