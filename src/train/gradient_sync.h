// Gradients and weights of what several ranks hold alike: every rank adds up and updates a part
// of them (ZeRO stage 1, Rajbhandari et al. 2020), and the parts come together again.
#pragma once
#include <memory>
#include <optional>
#include <vector>

#include "comm/grid.h"
#include "model/gradient_queue.h"
#include "model/model.h"
#include "train/bucket.h"
#include "train/optimizer.h"

namespace farskip::train {

/// On one rank there is nothing to exchange. Messages go in buckets over groups of their own, in
/// the background (comm::Urgency): expert messages go first.
class GradientSync {
 public:
  /// `model` must outlive it; its trained parameters stay the same tensors. `queue`: where its
  /// weight gradients wait, and then its updates; null: nowhere. A bucket has so many bytes of
  /// gradients, or those of one parameter that has more. Without `messages`, for measuring, each
  /// rank updates its part by its own gradients, and nothing comes of the others'.
  GradientSync(model::Model& model, const comm::Grid& grid,
               std::shared_ptr<model::GradientQueue> queue = nullptr,
               int64_t bucket_bytes = kBucketBytes, bool messages = true);
  ~GradientSync();
  GradientSync(const GradientSync&) = delete;
  GradientSync& operator=(const GradientSync&) = delete;

  /// What this rank updates: a part of each parameter that others hold too, all of the rest.
  const std::vector<Owned>& owned() const { return owned_; }
  /// Before the last backward pass of a step, where there is a queue: from now on, a bucket is
  /// launched as soon as that pass is through with its layers and nothing for it is waiting in the
  /// queue, a few at a time.
  void begin();
  /// Afterwards the gradients of what this rank owns are the sums over the ranks. Works off the
  /// queue on the way, and launches a bucket as soon as nothing for it is waiting there.
  void reduce();
  /// L2 norm of the gradients of the whole model.
  double norm(const AdamW& optimizer) const;
  /// One step of the optimizer, after which every rank has all values and gradients are zero. With
  /// a queue this only begins: updates wait there, those of the first layers first, a bucket of
  /// values leaves as soon as it is up to date, and the next forward pass waits before a layer for
  /// what it reads of it. `optimizer` must last until then.
  void update(AdamW& optimizer, double learning_rate, double gradient_scale);
  /// Waits for all of an update that has begun: before anything but a forward pass of the model
  /// reads weights, moments or gradients.
  void settle();
  /// Gives every rank the values that their owners have.
  void spread_values();
  void zero_gradients();

  /// Where messages are recorded as they are waited for; null: nowhere. Must outlive its use.
  void record(comm::MessageLog* log) { log_ = log; }
  /// Buckets of the last reduction that were launched during the backward pass.
  int64_t early() const { return early_; }
  /// Most bytes of gradients in flight at once, sent and received.
  int64_t peak_bytes() const { return peak_bytes_; }

 private:
  /// A parameter to be updated before `layer` is read.
  struct Due {
    int64_t layer;
    size_t member;  ///< of owned_
  };
  bool waits(const Bucket& bucket) const;
  void launch_gradients();
  void launch_values();
  /// Values that are up to date, as long as few are in flight.
  void launch_what_is_ready();
  /// Updates all that layers up to this one have, and launches its values.
  void launch_up_to(int64_t layer);
  /// Buckets that layers up to this one have something of.
  size_t needed(int64_t layer) const;
  /// Waits until layers up to this one can be read.
  void provide(int64_t layer);

  comm::Group world_;
  std::vector<Owned> owned_;
  std::vector<Bucket> buckets_;  ///< the last layers first
  std::vector<Due> updates_;     ///< of all that is owned, the first layers first
  int64_t depth_;
  bool defers_;  ///< an update may go on into the next pass
  std::shared_ptr<model::GradientQueue> queue_;
  std::optional<BucketPipeline> reduction_;  ///< from begin() or reduce() on
  std::optional<BucketPipeline> spreading_;  ///< of values, while an update goes on
  size_t updated_ = 0;                       ///< of updates_
  int64_t early_ = 0;
  comm::MessageLog* log_ = nullptr;
  int64_t peak_bytes_ = 0;
};

}  // namespace farskip::train
