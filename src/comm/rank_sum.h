// Sums over ranks that are taken by their receiver.
#pragma once
#include <ATen/core/Tensor.h>

#include <functional>

#include "comm/pending.h"

namespace farskip::comm {

/// The sum [n, ...], of `dtype`, of what arrives: a part [n, ...] of every rank, in their order, in
/// which they are added up in float32 (float64), so that whoever takes the sum has the same bits.
Pending summed(Pending parts, int64_t ranks, at::ScalarType dtype);

/// A Pending whose wait() gives what `finish` makes of the message.
Pending finished(Pending pending, std::function<at::Tensor(const at::Tensor& received)> finish);

}  // namespace farskip::comm
