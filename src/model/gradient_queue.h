// Weight gradients that wait to be computed, and weights that wait to be updated: nothing depends
// on them before the optimizer, and before the next pass reads them, so they are what a rank
// computes while it waits for a message.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <unordered_map>

namespace farskip::model {

/// First in, first out: every weight gets its contributions in the order in which they came up, so
/// that the sums have the same bits whether and whenever the queue is worked on. Used by one
/// thread.
class GradientQueue {
 public:
  /// `most_bytes`: of the tensors that the waiting work keeps; what exceeds it is worked off at
  /// once, the oldest first. 0: nothing waits.
  explicit GradientQueue(int64_t most_bytes) : most_bytes_(most_bytes) {}
  GradientQueue(const GradientQueue&) = delete;
  GradientQueue& operator=(const GradientQueue&) = delete;

  /// `work` adds a contribution to `gradient`, or uses it up, and keeps `bytes` of tensors alive
  /// until it has run.
  void push(const at::Tensor& gradient, int64_t bytes, std::function<void()> work);
  /// Whether work on the gradient is waiting.
  bool holds(const at::Tensor& gradient) const;
  /// Does the oldest piece of work; false if there is none.
  bool run_one();
  void drain();
  /// Forgets what is left, after an error.
  void clear();

  /// The backward pass is through with layer `layer` and all behind it: their contributions have
  /// been pushed.
  void pass(int64_t layer);
  /// Called whenever a layer has been passed or a piece of work is done; empty: nobody.
  void observe(std::function<void()> moved) { moved_ = std::move(moved); }
  /// The first layer that has been passed since the last call of expect(); what was given there
  /// before.
  int64_t passed() const { return passed_; }
  void expect(int64_t layers) { passed_ = layers; }

  /// A forward pass is about to read the parameters of layer `layer`: -1 for the embedding, the
  /// depth for what comes after the layers.
  void read(int64_t layer) const {
    if (ready_) ready_(layer);
  }
  /// Whether somebody is called then.
  bool provides() const { return static_cast<bool>(ready_); }
  /// Called then; empty: nobody.
  void before_read(std::function<void(int64_t layer)> ready) { ready_ = std::move(ready); }

  int64_t bytes() const { return bytes_; }
  /// Most bytes that waited at once, since the last call.
  int64_t take_peak_bytes();

 private:
  struct Item {
    const void* gradient;
    int64_t bytes;
    std::function<void()> work;
  };
  int64_t most_bytes_;
  int64_t bytes_ = 0, peak_ = 0;
  int64_t passed_ = 0;
  std::function<void()> moved_;
  std::function<void(int64_t)> ready_;
  std::deque<Item> items_;
  std::unordered_map<const void*, int64_t> waiting_;  ///< pieces of work by gradient
};

}  // namespace farskip::model
