#include "schedule/forward.h"

#include <ATen/ATen.h>

#include "model/residual_stream.h"
#include "schedule/layer_program.h"
#include "schedule/pace.h"
#include "schedule/recompute.h"
#include "schedule/replicated_layer.h"
#include "schedule/replicated_program.h"
#include "util/error.h"

namespace farskip::schedule {
namespace {

void check_ranks(const model::Model& model, const ForwardOptions& options) {
  const comm::Reducer* reducer = options.ranks.reducer.get();
  const int64_t parts = reducer ? reducer->group().size() : 1;
  if (model.share.tensor.count != parts)
    throw Error(
        util::concat("a model cut among ", model.share.tensor.count, " ranks ran on ", parts));
  const bool gradients = at::GradMode::is_enabled() && !options.cache;
  if ((reducer || options.ranks.gathers()) && gradients)
    throw Error(util::concat("layout ", reducer ? "all-reduce" : "all-gather",
                             ": found gradients on, expected a pass that only infers"));
  if (options.rows.defined() && gradients)
    throw Error("a pass for some rows only infers: found gradients on");
}

/// Rows of the embedding, of which every rank may have some.
at::Tensor embed(const model::Model& model, const at::Tensor& tokens,
                 const model::ExpertRanks& ranks) {
  const model::Fraction& part = model.share.embedding;
  if (part.count == 1) return model::embedding(tokens, model.weights.embedding);
  const int64_t words = model.config.vocabulary, last = part.size(words) - 1;
  const at::Tensor own = tokens - part.begin(words);
  const at::Tensor missing = own.lt(0).logical_or(own.gt(last));
  const at::Tensor rows = model::embedding(own.clamp(0, last), model.weights.embedding)
                              .masked_fill(missing.unsqueeze(1), 0);
  return ranks.reducer
      ->all_reduce({.part = comm::MessageName::Part::embedding}, rows,
                   ranks.wire.value_or(rows.scalar_type()))
      .wait();
}

void check(const model::Model& model, const model::Batch& batch, const ForwardOptions& options) {
  if (batch.size() == 0) {
    if (!options.ranks.courier) throw InputError("tokens: found none, expected at least one");
  } else {
    const int64_t least = batch.tokens.min().item<int64_t>();
    const int64_t most = batch.tokens.max().item<int64_t>();
    util::require(least >= 0 && most < model.config.vocabulary, "tokens",
                  util::concat("id ", least < 0 ? least : most),
                  util::concat("ids from 0 to ", model.config.vocabulary - 1));
  }
  check_ranks(model, options);
  if (!options.cache) {
    if (!batch.uniform()) throw Error("a batch of unequal or continued sequences needs a KV cache");
    return;
  }
  for (const model::Segment& segment : batch.segments) {
    const int64_t room = std::ssize(segment.pages) * options.cache->page_tokens();
    util::require(segment.past + segment.count <= room, "KV cache",
                  util::concat("a sequence of ", segment.past + segment.count, " tokens"),
                  util::concat("at most ", room));
    for (const int64_t page : segment.pages)
      util::require(page >= 0 && page < options.cache->pages(), "KV cache",
                    util::concat("page ", page),
                    util::concat("pages from 0 to ", options.cache->pages() - 1));
  }
}

/// Where every token is kept: page * page_tokens + place.
at::Tensor cache_rows(const model::Batch& batch, int64_t page_tokens) {
  std::vector<int64_t> rows;
  rows.reserve(batch.size());
  for (const model::Segment& segment : batch.segments)
    for (int64_t i = segment.past; i < segment.past + segment.count; ++i)
      rows.push_back(segment.pages[i / page_tokens] * page_tokens + i % page_tokens);
  return at::tensor(rows, at::kLong).to(batch.tokens.device());
}

/// What the layers of a pass share; a layer that is recomputed keeps it.
struct Pass {
  const model::Model& model;
  model::Batch batch;
  ForwardOptions options;
  model::RopeTable rope;
  at::Tensor cache_rows;
  std::optional<model::Queries> queries;  ///< of the last layer
};

/// The stream after the last layer, each wave of whose combine comes in `chunks`.
model::ResidualStream run_layers(const model::Model& model, const model::Batch& batch,
                                 const ForwardOptions& options, int64_t chunks) {
  check(model, batch, options);
  const model::ModelConfig& config = model.config;
  at::Tensor rows;
  if (options.cache) rows = cache_rows(batch, options.cache->page_tokens());
  // The layers of all families so far share one kind of rotary positions.
  const auto pass = std::make_shared<Pass>(Pass{
      model, batch, options,
      model::rope_table(config.layers.front().attention.rope, batch.positions, model.dtype), rows});
  if (options.rows.defined() && options.cache)
    pass->queries = model::queries_of(pass->batch, pass->rope, options.rows);
  model::ExpertRanks& ranks = pass->options.ranks;
  if (ranks.gathers() && !ranks.counts)
    ranks.counts = std::make_shared<model::TokenCounts>(
        ranks, batch.size(), options.rows.defined() ? options.rows.numel() : batch.size());

  const auto& queue = model.weights.final_norm.queue;  // of a model that is trained
  const auto reads = [&](int64_t layer) {
    if (!queue) return;
    const bool logged = options.parts && queue->provides();
    if (logged) options.parts->enter(Part::optimizer, -1);
    queue->read(layer);
    if (logged) options.parts->leave();  // what follows is the layer's
  };
  reads(-1);
  model::ResidualStream stream(embed(model, batch.tokens, options.ranks));
  const auto observe = [&](int64_t k) {
    if (options.on_residual) options.on_residual(k, stream.full());
  };
  for (int64_t k = 0; k < config.depth(); ++k) {
    observe(k);
    reads(k);
    const RunLayer layer = [pass, k, count = k + 1 == config.depth() ? chunks : 1](
                               model::ResidualStream& stream, const LayerTrace* again) {
      const Pass& p = *pass;
      const model::AttentionContext attention{
          p.batch, p.rope, p.options.cache ? &p.options.cache->layer(k) : nullptr, p.cache_rows,
          p.queries && k + 1 == p.model.config.depth() ? &*p.queries : nullptr};
      const model::Connectivity& reads = p.options.connectivity;
      if (p.options.ranks.reducer) {
        ReplicatedLayer layer(k, p.model, attention, p.options, count, again);
        const bool partial_next =
            k + 1 < p.model.config.depth() && reads.layer(k + 1).attention_partial;
        run_replicated_layer(layer, reads.layer(k), partial_next, stream);
        return layer.trace();
      }
      TensorLayer layer(k, p.model, attention, p.options, count, again);
      run_layer(layer, reads.layer(k), stream);
      return layer.trace();
    };
    const LayerTrace trace = options.recompute && at::GradMode::is_enabled()
                                 ? run_recomputed(layer, stream)
                                 : layer(stream, nullptr);
    if (trace.routes && options.on_routing) options.on_routing(k, *trace.routes);
  }
  if (ranks.gathers()) ranks.counts->tokens();  // which layers without experts have not asked for
  observe(config.depth());
  reads(config.depth());
  return stream;
}

}  // namespace

at::Tensor forward(const model::Model& model, const model::Batch& batch,
                   const ForwardOptions& options) {
  const at::AutoGradMode grad_mode(at::GradMode::is_enabled() && !options.cache);
  model::ResidualStream stream = run_layers(model, batch, options, /*chunks=*/1);
  return model::rms_norm(stream.full(), model.weights.final_norm, model.config.norm_eps);
}

Ending begin_forward(const model::Model& model, const model::Batch& batch,
                     const ForwardOptions& options) {
  const int64_t chunks =
      options.ranks.size() > 1 ? std::max<int64_t>(1, kEndingChunks / options.ranks.waves) : 1;
  return {model,
          run_layers(model, batch, options, chunks).release(),
          {options.ranks.turns, layers_beside_head(model.config, options.ranks),
           /*waits=*/2 * options.ranks.waves}};
}

}  // namespace farskip::schedule
