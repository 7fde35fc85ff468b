#include "schedule/forward.h"

#include <ATen/ATen.h>

#include "model/residual_stream.h"
#include "schedule/layer_program.h"
#include "schedule/recompute.h"
#include "schedule/tensor_layer.h"
#include "util/error.h"

namespace farskip::schedule {
namespace {

void check(const model::Model& model, const model::Batch& batch, const ForwardOptions& options) {
  if (batch.size() == 0) throw InputError("tokens: found none, expected at least one");
  const int64_t least = batch.tokens.min().item<int64_t>();
  const int64_t most = batch.tokens.max().item<int64_t>();
  util::require(least >= 0 && most < model.config.vocabulary, "tokens",
                util::concat("id ", least < 0 ? least : most),
                util::concat("ids from 0 to ", model.config.vocabulary - 1));
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
};

/// The stream after the last layer, each wave of whose combine comes in `chunks`.
model::ResidualStream run_layers(const model::Model& model, const model::Batch& batch,
                                 const ForwardOptions& options, int64_t chunks) {
  check(model, batch, options);
  const model::ModelConfig& config = model.config;
  at::Tensor rows;
  if (options.cache) rows = cache_rows(batch, options.cache->page_tokens());
  // The layers of all families so far share one kind of rotary positions.
  const auto pass = std::make_shared<const Pass>(Pass{
      model, batch, options,
      model::rope_table(config.layers.front().attention.rope, batch.positions, model.dtype), rows});

  model::ResidualStream stream(model::embedding(batch.tokens, model.weights.embedding));
  const auto observe = [&](int64_t k) {
    if (options.on_residual) options.on_residual(k, stream.full());
  };
  for (int64_t k = 0; k < config.depth(); ++k) {
    observe(k);
    const RunLayer layer = [pass, k, count = k + 1 == config.depth() ? chunks : 1](
                               model::ResidualStream& stream, const LayerTrace* again) {
      const Pass& p = *pass;
      const model::AttentionContext attention{
          p.batch, p.rope, p.options.cache ? &p.options.cache->layer(k) : nullptr, p.cache_rows};
      TensorLayer layer(k, p.model.config, p.model.weights.layers[k], attention, p.options, count,
                        again);
      run_layer(layer, p.options.connectivity.layer(k), stream);
      return layer.trace();
    };
    const LayerTrace trace = options.recompute && at::GradMode::is_enabled()
                                 ? run_recomputed(layer, stream)
                                 : layer(stream, nullptr);
    if (trace.routes && options.on_routing) options.on_routing(k, *trace.routes);
  }
  observe(config.depth());
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
  return {model, run_layers(model, batch, options, chunks).release()};
}

at::Tensor logits(const model::Model& model, const at::Tensor& hidden) {
  return model::linear(hidden, model.weights.head, {});
}

}  // namespace farskip::schedule
