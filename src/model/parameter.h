// A trainable tensor and the place where its gradient adds up.
#pragma once
#include <ATen/core/Tensor.h>

#include <string>

namespace farskip::model {

/// `value` is in the model's dtype and, when it is trained, requires a gradient, so that functions
/// of it get autograd nodes. Its gradient does not travel through autograd's AccumulateGrad: the
/// backward of linear, rms_norm, embedding and experts adds it to `gradient`, which is float32 for
/// every value below float64 (bfloat16 micro-batches would lose what they add up) and which is the
/// seam where the weight gradients can be queued as fillers of communication gaps.
struct Parameter {
  std::string name;     ///< of its tensor in the checkpoint; the first one's, where it is several
  at::Tensor value;     ///< undefined where the model has no such parameter (no bias, for instance)
  at::Tensor gradient;  ///< same shape as value; undefined when the parameter is frozen or the
                        ///< model only infers

  bool defined() const { return value.defined(); }
  bool trained() const { return gradient.defined(); }

  /// Makes the parameter a trained one: value requires a gradient, gradient is zero.
  void train();
  /// Adds a contribution (any floating dtype, same shape as value). No-op when frozen.
  void accumulate(const at::Tensor& contribution) const;
};

}  // namespace farskip::model
