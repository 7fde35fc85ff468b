// What goes to the other ranks in one message: gradients, or updated values, of several parameters.
#pragma once
#include <ATen/core/Tensor.h>

#include <deque>
#include <functional>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "comm/group.h"
#include "comm/message_log.h"
#include "model/parameter.h"

namespace farskip::train {

/// Elements of a parameter that each of `ranks` owns, the last one perhaps fewer: whole rows of a
/// matrix.
int64_t part_size(const model::Parameter& parameter, int64_t ranks);

/// Rows that can be told from each other by a float32, of an embedding that goes by rows.
constexpr int64_t kMostNamedRows = int64_t{1} << 24;

/// Parameters of one dtype that the same ranks hold, the last ones first. Each rank has a part of
/// every parameter, filled up so that parts are equally large.
struct Bucket {
  comm::Group group;
  /// It is an embedding's, alone: of its gradient only the rows that are not zero travel, those of
  /// tokens that there were.
  bool by_rows = false;
  /// The first that it has something of (see model::Binding).
  int64_t layer = std::numeric_limits<int64_t>::max();
  std::vector<size_t> members;  ///< what the rank owns of `parameters`, as the optimizer counts
  std::vector<model::Parameter*> parameters;
  int64_t part = 0;  ///< elements of a rank

  /// Whether it is for parameters like this one, which the ranks of `of` hold.
  bool suits(const model::Parameter& parameter, const comm::Group& of) const;
  /// Of the gradients.
  int64_t bytes() const;
  void add(size_t member, model::Parameter* parameter, int64_t layer_of_it);

  /// Rows, grouped by the rank that gets them, and how many each gets: [ranks * part], of every
  /// gradient; by rows [rows, 1 + width], each behind its place in the rank's part.
  struct Parts {
    at::Tensor rows;
    std::vector<int64_t> sent;
  };
  Parts gradients() const;
  /// How many rows each rank will send of its gradients. Asks them where that is not known.
  std::vector<int64_t> expected(const Parts& own, const std::string& what) const;
  /// Adds up what came of this rank's parts, in the order of the ranks, so that the sum has the
  /// same bits wherever it is taken.
  void add_up(const at::Tensor& received, const std::vector<int64_t>& expected) const;
  /// -> [part]: this rank's values.
  at::Tensor own_values() const;
  /// Takes over the others'. `received` [ranks * part].
  void take_values(const at::Tensor& received) const;

 private:
  /// f(parameter, rank, place) for each rank's part of each parameter, in order.
  template <class F>
  void each_part(F f) const;
};

/// Messages of buckets, launched and finished in order.
class BucketPipeline {
 public:
  using Launch = std::function<comm::Pending(const std::string& what)>;
  using Finish = std::function<void(const at::Tensor& received)>;
  /// Where finished messages are written down; null: nowhere. Must outlive it.
  explicit BucketPipeline(comm::MessageLog* log) : log_(log) {}

  /// `bytes`: sent to other ranks. `launch` gets the name that errors use.
  void add(comm::MessageName name, int64_t bytes, const Launch& launch, Finish finish);
  void finish_arrived();
  /// The same; whether fewer than kBucketsInFlight are left.
  bool has_room();
  /// Waits for the oldest; there is one.
  void finish_one();
  size_t finished() const { return finished_; }
  size_t added() const { return finished_ + waiting_.size(); }

 private:
  comm::MessageLog* log_;
  std::deque<std::pair<comm::Pending, Finish>> waiting_;
  size_t finished_ = 0;
};

/// Of the gradients of a bucket, unless one parameter has more.
constexpr int64_t kBucketBytes = int64_t{8} << 20;

/// Enough that the link is busy while one is added up or copied.
constexpr size_t kBucketsInFlight = 3;

}  // namespace farskip::train
