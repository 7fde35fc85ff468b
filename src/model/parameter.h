// A trainable tensor and the place where its gradient adds up.
#pragma once
#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <string>

#include "model/gradient_queue.h"

namespace farskip::model {

/// `value` is in the model's dtype and, when it is trained, requires a gradient, so that functions
/// of it get autograd nodes. Its gradient does not travel through autograd's AccumulateGrad: the
/// backward of linear, rms_norm, embedding and experts adds it to `gradient`, which is float32 for
/// every value below float64 (bfloat16 micro-batches would lose what they add up) and whose
/// contributions may wait in a queue until there is a gap to fill.
struct Parameter {
  std::string name;     ///< of its tensor in the checkpoint; the first one's, where it is several
  at::Tensor value;     ///< undefined where the model has no such parameter (no bias, for instance)
  at::Tensor gradient;  ///< same shape as value; undefined when the parameter is frozen or the
                        ///< model only infers
  std::shared_ptr<GradientQueue> queue;  ///< null: contributions are computed at once

  bool defined() const { return value.defined(); }
  bool trained() const { return gradient.defined(); }

  /// Makes the parameter a trained one: value requires a gradient, gradient is zero.
  void train();
  /// Adds a contribution (any floating dtype, same shape as value). No-op when frozen.
  void accumulate(const at::Tensor& contribution) const;
  /// Does work that adds a contribution, in its turn. It keeps `bytes` of tensors alive.
  void contribute(int64_t bytes, std::function<void()> work) const;
};

}  // namespace farskip::model
