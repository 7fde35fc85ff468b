// The ranks that exchange tensors with each other: a value over c10d.
#pragma once
#include <ATen/core/Tensor.h>

#include <memory>
#include <string>
#include <vector>

#include "comm/pending.h"
#include "util/error.h"

namespace farskip::comm {

class Backend;

/// A peer died, timed out or disagrees. One line that names the rank that noticed and the message.
class CommError : public Error {
 public:
  using Error::Error;
};

/// Every rank must launch the collectives of one group in the same order; independent streams of
/// messages (expert traffic, gradient reduction) take groups of their own. A collective is
/// launched at once and gives a Pending that owns input and output; `what` names it in errors
/// ("layer 3 dispatch"). Copies share the group. Launches must not run at the same time.
class Group {
 public:
  /// A group of one: every collective returns its input.
  Group() = default;
  Group(std::shared_ptr<Backend> backend, int64_t rank, int64_t size);

  int64_t rank() const { return rank_; }
  int64_t size() const { return size_; }
  /// Nothing is ever on the wire: a group of one, or one without a network (substitutes.h).
  bool local() const;

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

  const std::shared_ptr<Backend>& backend() const { return backend_; }

 private:
  std::shared_ptr<Backend> backend_;
  int64_t rank_ = 0;
  int64_t size_ = 1;
};

/// Rows of all ranks together.
int64_t total(const std::vector<int64_t>& rows);

/// The words of a failure that `rank` of `size` noticed in `what`: one line, whatever was thrown.
CommError comm_error(const std::string& what, int64_t rank, int64_t size,
                     const std::exception& error);

}  // namespace farskip::comm
