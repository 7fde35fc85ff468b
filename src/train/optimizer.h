// AdamW over the trained parameters of a model, or over a rank's part of them.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <limits>
#include <string>
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

/// Elements begin .. end of a parameter, flat: what one rank updates.
struct Owned {
  model::Parameter* parameter = nullptr;
  int64_t begin = 0, end = 0;
  /// Index of the parameter's first element in the parameter that one rank would have: not 0 where
  /// this rank has only some of the experts.
  int64_t offset = 0;
};

/// All of the trained ones; those that share a gradient (tied embeddings) count as one.
std::vector<Owned> whole(const std::vector<model::Parameter*>& parameters);

/// Keeps two moments an element, and a float32 master copy of values below float32, without which
/// small updates would be rounded away. The same gradients give the same bits, however the elements
/// are shared out.
class AdamW {
 public:
  /// The parameters must outlive the optimizer, and their values and gradients stay the same
  /// tensors.
  AdamW(std::vector<Owned> owned, const AdamWOptions& options);

  /// Sum of the squared gradients in float64; not finite if any gradient is not.
  double squared_norm() const;
  /// One update with the gradients times gradient_scale. The gradients are left as they are.
  void step(double learning_rate, double gradient_scale);
  /// The same of one parameter, or of elements [begin, end) of what this rank has of it: step() is
  /// begin_step() and this for all.
  void begin_step() { ++updates_; }
  void update(size_t index, double learning_rate, double gradient_scale, int64_t begin = 0,
              int64_t end = std::numeric_limits<int64_t>::max());
  const std::vector<Owned>& owned() const { return owned_; }

  /// Updates made so far.
  int64_t updates() const { return updates_; }
  /// Bytes of moments and masters.
  int64_t state_bytes() const;

  /// Moments and masters, flat, of the elements from `begin` on of what one rank would have: the
  /// tensors themselves, not copies. Named "first.NAME", "second.NAME" and "master.NAME".
  struct State {
    std::string name;
    int64_t begin = 0;
    at::Tensor tensor;
  };
  std::vector<State> state() const;
  /// Restores what state() gave and updates() said; `find` returns so many elements of a name from
  /// `begin` on. Values with a master are set from it.
  using Find = std::function<at::Tensor(const std::string& name, int64_t begin, int64_t count)>;
  void restore(int64_t updates, const Find& find);

 private:
  struct Moments {
    at::Tensor master;  ///< undefined where the value is its own
    at::Tensor first, second;
  };
  AdamWOptions options_;
  std::vector<Owned> owned_;
  std::vector<Moments> moments_;
  int64_t updates_ = 0;
};

}  // namespace farskip::train
