#include "comm/group.h"

#include <ATen/ATen.h>

#include <numeric>

#include "comm/backend.h"
#include "util/one_line.h"

namespace farskip::comm {
namespace {

/// A backend's work whose failure says which message of which rank it was.
class NamedWork : public Work {
 public:
  NamedWork(std::unique_ptr<Work> work, std::string what, int64_t rank, int64_t size)
      : work_(std::move(work)), what_(std::move(what)), rank_(rank), size_(size) {}

  at::Tensor wait() override {
    try {
      return work_->wait();
    } catch (const std::exception& error) {
      throw comm_error(what_, rank_, size_, error);
    }
  }
  bool arrived() const override { return work_->arrived(); }
  Clock::time_point arrival() const override { return work_->arrival(); }

 private:
  std::unique_ptr<Work> work_;
  std::string what_;
  int64_t rank_, size_;
};

template <class Launch>
Pending launched(const std::string& what, const Group& group, Launch launch) {
  try {
    return Pending(std::make_unique<NamedWork>(launch(), what, group.rank(), group.size()));
  } catch (const std::exception& error) {
    throw comm_error(what, group.rank(), group.size(), error);
  }
}

at::Tensor copy(const at::Tensor& x) {
  return x.detach().clone(at::MemoryFormat::Contiguous);
}

}  // namespace

int64_t total(const std::vector<int64_t>& rows) {
  return std::accumulate(rows.begin(), rows.end(), int64_t{0});
}

CommError comm_error(const std::string& what, int64_t rank, int64_t size,
                     const std::exception& error) {
  if (const auto* named = dynamic_cast<const CommError*>(&error)) return *named;
  return CommError(
      util::concat("rank ", rank, " of ", size, ": ", what, ": ", util::one_line(error)));
}

Group::Group(std::shared_ptr<Backend> backend, int64_t rank, int64_t size)
    : backend_(std::move(backend)), rank_(rank), size_(size) {}

bool Group::local() const {
  return !backend_ || backend_->local();
}

Pending Group::all_to_all(const std::string& what, const at::Tensor& x, std::vector<int64_t> sent,
                          std::vector<int64_t> received) const {
  const auto count = static_cast<size_t>(size_);
  if (sent.size() != count || received.size() != count || total(sent) != x.size(0))
    throw Error(util::concat(what, ": found splits of ", sent.size(), " and ", received.size(),
                             " ranks over ", total(sent), " rows, expected ", size_, " ranks and ",
                             x.size(0), " rows"));
  if (!backend_) return Pending(x);
  std::vector<int64_t> shape = x.sizes().vec();
  shape.front() = total(received);
  return launched(what, *this, [&] {
    return backend_->all_to_all(x.detach().contiguous(), at::empty(shape, x.options()),
                                std::move(sent), std::move(received));
  });
}

Pending Group::all_reduce(const std::string& what, const at::Tensor& x) const {
  if (!backend_) return Pending(x);
  return launched(what, *this, [&] { return backend_->all_reduce(copy(x)); });
}

Pending Group::all_gather(const std::string& what, const at::Tensor& x) const {
  if (!backend_) return Pending(x);
  std::vector<int64_t> shape = x.sizes().vec();
  shape.front() *= size_;
  return launched(what, *this, [&] {
    return backend_->all_gather(x.detach().contiguous(), at::empty(shape, x.options()));
  });
}

Pending Group::broadcast(const std::string& what, const at::Tensor& x, int64_t root) const {
  if (!backend_) return Pending(x);
  return launched(what, *this, [&] { return backend_->broadcast(copy(x), root); });
}

void Group::barrier(const std::string& what) const {
  all_reduce(what, at::zeros({1})).wait();
}

}  // namespace farskip::comm
