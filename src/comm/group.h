// The ranks that exchange tensors with each other: a value over c10d.
#pragma once
#include <ATen/core/Tensor.h>

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "comm/launch_environment.h"
#include "comm/pending.h"
#include "util/error.h"

namespace farskip::comm {

/// A peer died, timed out or disagrees. One line that names the rank that noticed and the message.
class CommError : public Error {
 public:
  using Error::Error;
};

/// Every rank must launch the collectives of one group in the same order; independent streams of
/// messages (expert traffic, gradient reduction) take groups of their own. A collective is
/// launched at once and gives a Pending that owns input and output; `what` names it in errors
/// ("layer 3 dispatch"). Copies share the group. Not thread-safe.
class Group {
 public:
  /// A group of one: every collective returns its input.
  Group() = default;

  int64_t rank() const { return rank_; }
  int64_t size() const { return size_; }

  /// Rows of x [sum of sent, ...], grouped by the rank that they go to -> rows [sum of received,
  /// ...], grouped by the rank that they come from. sent[r] rows go to rank r.
  Pending all_to_all(const std::string& what, const at::Tensor& x, std::vector<int64_t> sent,
                     std::vector<int64_t> received) const;
  /// The sum over the ranks, in x's dtype. x is not changed.
  Pending all_reduce(const std::string& what, const at::Tensor& x) const;
  /// x of every rank, which all have the same shape -> [size * x.size(0), ...].
  Pending all_gather(const std::string& what, const at::Tensor& x) const;
  /// x of rank `root`, in x's shape and dtype.
  Pending broadcast(const std::string& what, const at::Tensor& x, int64_t root) const;
  /// Returns when every rank has come here.
  void barrier(const std::string& what) const;

 private:
  friend class Rendezvous;
  struct Backend;

  std::shared_ptr<Backend> backend_;
  int64_t rank_ = 0;
  int64_t size_ = 1;
};

/// Where ranks meet to make groups. Every rank makes the same groups in the same order.
class Rendezvous {
 public:
  /// A single process makes groups of one. Others meet at the address of rank 0. `timeout` is how
  /// long a rank waits for the others, here and in every collective. CommError where they do not
  /// come, naming the address.
  explicit Rendezvous(const LaunchEnvironment& environment,
                      std::chrono::milliseconds timeout = std::chrono::seconds(60));
  ~Rendezvous();

  /// Ranks as threads of this process, for tests: runs `rank(rendezvous)` on `size` threads, with
  /// gradients off or on as the caller has them, and rethrows the first failure.
  static void threads(int64_t size, const std::function<void(Rendezvous&)>& rank,
                      std::chrono::milliseconds timeout = std::chrono::seconds(60));

  int64_t rank() const;
  int64_t size() const;

  /// The group of all ranks.
  Group all();
  /// One of the groups that ranks with the same `color` form, ordered by rank.
  Group split(int64_t color);

 private:
  struct State;
  explicit Rendezvous(std::unique_ptr<State> state);

  std::unique_ptr<State> state_;
};

}  // namespace farskip::comm
