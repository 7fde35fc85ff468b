// Layers that keep little of their forward pass and run again in their backward pass.
#pragma once
#include <functional>

#include "model/residual_stream.h"
#include "schedule/tensor_layer.h"

namespace farskip::schedule {

/// Runs a layer on the stream. `again`: what it left when it ran before; null at first.
using RunLayer = std::function<LayerTrace(model::ResidualStream& stream, const LayerTrace* again)>;

/// Runs the layer without a graph and makes one autograd node of it, which runs it again before its
/// backward pass. What is in flight crosses the node as a ticket, in both directions: the previous
/// layer's combine is waited for inside, its own outside, and so are their gradients. Messages are
/// not sent again. The trace's scores have a graph.
LayerTrace run_recomputed(const RunLayer& run, model::ResidualStream& stream);

}  // namespace farskip::schedule
