// How two micro-batches that take turns share out a step.
#pragma once
#include "model/config.h"
#include "model/expert_ranks.h"

namespace farskip::schedule {

/// How many layers with experts a forward pass goes through while the micro-batch before it is in
/// the head and the loss. There no layer has messages on its way: if the forward pass only took
/// turns at waits, the link would be idle there, and too busy beside the backward pass. As much of
/// the forward pass is beside the head as computes no more than the head does, but at least a layer
/// is left for the beginning of the backward pass, which has little else to compute while it waits
/// (docs/benchmarks/2026-11-27-updates.md). A matter of shapes that all ranks know, because turns
/// are the order in which messages are launched. 0 on one rank.
int64_t layers_beside_head(const model::ModelConfig& config, const model::ExpertRanks& ranks);

}  // namespace farskip::schedule
