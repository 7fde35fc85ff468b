// AdamW over the trained parameters of a model.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "model/parameter.h"

namespace farskip::train {

struct AdamWOptions {
  double beta1 = 0.9;
  double beta2 = 0.95;
  double eps = 1e-8;
  double weight_decay = 0.1;  ///< of everything but norms and biases: tensors of two or more
                              ///< dimensions
};

/// Keeps two moments a parameter, and a float32 master copy of values below float32, without which
/// small updates would be rounded away. The same gradients give the same bits.
class AdamW {
 public:
  /// Takes the parameters that are trained; those that share a gradient (tied embeddings) count as
  /// one. They must outlive the optimizer, and their values and gradients stay the same tensors.
  AdamW(const std::vector<model::Parameter*>& parameters, const AdamWOptions& options);

  /// L2 norm over all gradients (float64 sum); not finite if any gradient is not.
  double gradient_norm() const;
  /// One update with the gradients times gradient_scale. The gradients are left as they are.
  void step(double learning_rate, double gradient_scale);
  void zero_gradients();

  /// Updates made so far.
  int64_t updates() const { return updates_; }
  /// Elements that are trained.
  int64_t elements() const;

  /// Moments and masters, named "first.NAME", "second.NAME" and "master.NAME": the tensors
  /// themselves, not copies.
  std::vector<std::pair<std::string, at::Tensor>> state() const;
  /// Restores what state() gave and updates() said; `find` returns the tensor of a name. Values
  /// with a master are set from it. InputError if a shape differs.
  void restore(int64_t updates, const std::function<at::Tensor(const std::string&)>& find);

 private:
  struct Entry {
    model::Parameter* parameter;
    at::Tensor master;  ///< undefined where the value is its own
    at::Tensor first, second;
  };
  AdamWOptions options_;
  std::vector<Entry> entries_;
  int64_t updates_ = 0;
};

}  // namespace farskip::train
