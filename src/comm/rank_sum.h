// Sums over ranks that are taken by their receiver.
#pragma once
#include <ATen/core/Tensor.h>

#include <functional>
#include <vector>

#include "comm/pending.h"

namespace farskip::comm {

/// The sum of parts of one shape and dtype, one a rank, in their order, in float32 (float64):
/// whoever takes it has the same bits.
at::Tensor sum_in_order(const std::vector<at::Tensor>& parts);

/// A Pending whose wait() gives what `finish` makes of the message.
Pending finished(Pending pending, std::function<at::Tensor(const at::Tensor& received)> finish);

}  // namespace farskip::comm
