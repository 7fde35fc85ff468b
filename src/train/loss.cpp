#include "train/loss.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "kernels/product.h"
#include "util/error.h"

namespace farskip::train {
namespace {

// Chunks are small enough that their logits stay near the cache and their memory with the process,
// and have rows enough that reading the head is not what a chunk costs.
constexpr int64_t kChunkBytes = int64_t{16} << 20;  ///< of one chunk's float32 logits
constexpr int64_t kLeastRows = 128;
constexpr int64_t kBlockBytes = int64_t{4} << 20;  ///< of one block of the head's gradient

at::ScalarType wide(at::ScalarType dtype) {
  return dtype == at::kDouble ? at::kDouble : at::kFloat;
}

/// Walks over the selected rows, `chunk` at a time.
class Chunks {
 public:
  Chunks(const at::Tensor& rows, int64_t tokens, int64_t vocabulary, int64_t chunk)
      : rows_(rows), count_(rows.defined() ? rows.numel() : tokens), chunk_(chunk) {
    if (chunk_ <= 0)
      chunk_ =
          std::max(kLeastRows, kChunkBytes / (vocabulary * static_cast<int64_t>(sizeof(float))));
  }
  int64_t count() const { return count_; }
  /// body(take, put): take(tensor) gives the chunk's rows of [N, ...], put(into, values) stores
  /// them.
  template <class Body>
  void each(Body body) const {
    for (int64_t begin = 0; begin < count_; begin += chunk_) {
      const int64_t size = std::min(chunk_, count_ - begin);
      const at::Tensor index = rows_.defined() ? rows_.narrow(0, begin, size) : at::Tensor();
      body(
          [&](const at::Tensor& all) {
            return index.defined() ? all.index_select(0, index) : all.narrow(0, begin, size);
          },
          [&](const at::Tensor& into, const at::Tensor& values) {
            if (index.defined())
              into.index_copy_(0, index, values);
            else
              into.narrow(0, begin, size).copy_(values);
          });
    }
  }

 private:
  at::Tensor rows_;
  int64_t count_;
  int64_t chunk_;
};

/// Logits / tau in the wide type, as a tensor that may be overwritten.
at::Tensor scaled_logits(const at::Tensor& hidden, const at::Tensor& head, double temperature) {
  at::Tensor logits = kernels::product(hidden, head.t());
  logits = logits.to(wide(logits.scalar_type()));
  if (temperature != 1) logits.div_(temperature);
  return logits;
}

/// Log-probabilities in the wide type; the logits are gone when it returns.
at::Tensor log_probabilities(const at::Tensor& hidden, const at::Tensor& head, double temperature) {
  return scaled_logits(hidden, head, temperature).log_softmax(1);
}

double total(const at::Tensor& values) {
  return values.sum(at::kDouble).item<double>();
}

/// gradient += d^T hidden, a block of the vocabulary at a time: the products have the model's
/// dtype, the sum that of the gradient, and no second [V, H] comes into being.
void add_head_gradient(const at::Tensor& gradient, const at::Tensor& d, const at::Tensor& hidden) {
  if (gradient.scalar_type() == d.scalar_type()) {
    gradient.addmm_(d.t(), hidden);
    return;
  }
  const int64_t vocabulary = gradient.size(0);
  const int64_t row_bytes = gradient.size(1) * static_cast<int64_t>(d.element_size());
  const int64_t block = std::max<int64_t>(1, kBlockBytes / row_bytes);
  for (int64_t begin = 0; begin < vocabulary; begin += block) {
    const int64_t size = std::min(block, vocabulary - begin);
    kernels::add_product(gradient.narrow(0, begin, size), d.narrow(1, begin, size).t(), hidden);
  }
}

void check(const HeadInput& input, const at::Tensor& head) {
  const auto rows_match = [&](const at::Tensor& other) {
    return !other.defined() || other.size(0) == input.hidden.size(0);
  };
  if (!rows_match(input.teacher_hidden) || !rows_match(input.targets))
    throw Error("loss: hidden, teacher_hidden and targets differ in their number of rows");
  if (input.teacher_head.defined() && input.teacher_head.size(0) != head.size(0))
    throw InputError(util::concat("teacher: vocabulary: found ", input.teacher_head.size(0),
                                  ", expected the student's ", head.size(0)));
}

}  // namespace

HeadSums& HeadSums::operator+=(const HeadSums& other) {
  rows += other.rows;
  kl += other.kl;
  cross_entropy += other.cross_entropy;
  agree += other.agree;
  correct += other.correct;
  return *this;
}

HeadLoss head_loss(const HeadInput& input, const model::Parameter& head_parameter,
                   Objective objective, double weight) {
  at::NoGradGuard no_grad;
  const at::Tensor hidden = input.hidden.detach(), head = head_parameter.value.detach();
  check(input, head);
  const double tau = input.temperature;
  HeadLoss result;
  result.grad_hidden = at::zeros_like(hidden);
  const Chunks chunks(input.rows, hidden.size(0), head.size(0), input.chunk);
  bool passed = !input.halfway;
  const auto halfway = [&] {
    if (!std::exchange(passed, true)) input.halfway();
  };
  int64_t done = 0;
  chunks.each([&](auto take, auto put) {
    const at::Tensor rows = take(hidden);
    at::Tensor student = log_probabilities(rows, head, tau);
    done += rows.size(0);
    if (2 * done >= chunks.count()) halfway();
    at::Tensor d;  // of the logits, divided by `scale`
    double scale = 0;
    if (objective == Objective::kl) {
      at::Tensor teacher =
          log_probabilities(take(input.teacher_hidden), input.teacher_head.detach(), tau);
      const at::Tensor p = teacher.exp();
      result.loss += weight * tau * tau * total(teacher.sub_(student).mul_(p).sum(1));
      teacher.reset();
      d = student.exp_().sub_(p);
      scale = weight * tau;
    } else {
      const at::Tensor target = take(input.targets).unsqueeze(1);
      result.loss -= weight * total(student.gather(1, target));
      d = student.exp_();
      d.scatter_add_(1, target, at::full_like(target, -1, d.options()));
      scale = weight / tau;
    }
    student.reset();
    d = d.mul_(scale).to(hidden.scalar_type());
    put(result.grad_hidden, kernels::product(d, head));
    if (head_parameter.trained())
      head_parameter.contribute(static_cast<int64_t>(d.nbytes() + rows.nbytes()),
                                [gradient = head_parameter.gradient.detach(), d, rows] {
                                  add_head_gradient(gradient, d, rows);
                                });
  });
  halfway();  // of no rows
  result.finite = std::isfinite(result.loss);
  return result;
}

HeadSums head_statistics(const HeadInput& input) {
  at::NoGradGuard no_grad;
  const at::Tensor hidden = input.hidden.detach(), head = input.head.detach();
  check(input, head);
  HeadSums sums;
  const Chunks chunks(input.rows, hidden.size(0), head.size(0), input.chunk);
  sums.rows = chunks.count();
  chunks.each([&](auto take, auto) {
    const at::Tensor student = log_probabilities(take(hidden), head, input.temperature);
    const at::Tensor best = student.argmax(1);
    if (input.targets.defined()) {
      const at::Tensor target = take(input.targets);
      sums.cross_entropy -= total(student.gather(1, target.unsqueeze(1)));
      sums.correct += best.eq(target).sum().item<int64_t>();
    }
    if (input.teacher_hidden.defined()) {
      at::Tensor teacher = log_probabilities(take(input.teacher_hidden),
                                             input.teacher_head.detach(), input.temperature);
      sums.agree += best.eq(teacher.argmax(1)).sum().item<int64_t>();
      const at::Tensor p = teacher.exp();
      sums.kl +=
          input.temperature * input.temperature * total(teacher.sub_(student).mul_(p).sum(1));
    }
  });
  return sums;
}

HiddenLoss hidden_l2(const std::vector<at::Tensor>& student, const std::vector<at::Tensor>& teacher,
                     const at::Tensor& rows, double weight) {
  at::NoGradGuard no_grad;
  if (student.size() != teacher.size())
    throw Error(util::concat("hidden_l2: found ", student.size(), " student layers, expected ",
                             teacher.size()));
  HiddenLoss result;
  for (size_t k = 0; k < student.size(); ++k) {
    const at::Tensor x = student[k].detach();
    at::Tensor difference = x.to(wide(x.scalar_type())) - teacher[k].detach();
    if (rows.defined()) {
      const at::Tensor selected = at::zeros_like(difference);
      difference = selected.index_copy_(0, rows, difference.index_select(0, rows));
    }
    result.loss += weight * total(difference.square().sum(1));
    result.grads.push_back(difference.mul_(2 * weight).to(x.scalar_type()));
  }
  return result;
}

}  // namespace farskip::train
