// The player of the layer program that computes: every part of one layer on tensors.
#pragma once
#include <algorithm>

#include "model/attention_core.h"
#include "model/differentiable.h"
#include "model/moe.h"
#include "model/ops.h"
#include "schedule/forward.h"
#include "schedule/layer_work.h"

namespace farskip::schedule {

/// What a layer leaves besides its output.
struct LayerTrace {
  model::Exchanges exchanges;
  std::optional<model::Routes> routes;  ///< of a MoE layer
};

class TensorLayer {
 public:
  /// `chunks`: of each wave of the layer's combine. `again`: the layer has run, and is recomputed.
  TensorLayer(int64_t index, const model::Model& model, const model::AttentionContext& attention,
              const ForwardOptions& options, int64_t chunks, const LayerTrace* again)
      : index_(index),
        chunks_(chunks),
        hidden_(model.config.hidden),
        again_(again),
        norm_eps_(model.config.norm_eps),
        config_(model.config.layers[index]),
        weights_(model.weights.layers[index]),
        model_(model),
        attention_(attention),
        options_(options) {
    // What the last layer reads of all tokens is then without this layer's routed output.
    const bool partial_next =
        layers_after() == 1 && options.connectivity.layer(index + 1).attention_partial;
    const bool own = !options.ranks.reducer || options.connectivity.layer(index).mlp_outdated;
    const bool told = !options.ranks.courier || options.ranks.gathers();
    if (layers_after() == 0)
      rows_ = options.rows;
    else if (partial_next && own && told && is_moe() && !options.on_residual)
      routed_rows_ = options.rows;
    else
      return;
    routes_asked_ = true;
  }

  const LayerTrace& trace() const { return trace_; }

  bool is_moe() const { return config_.moe.has_value(); }
  bool has_shared() const { return config_.moe->shared_width > 0; }

  /// Whether attention's core runs under the combine and the shared experts under the dispatch: if
  /// that makes the tighter of the two windows wider. A matter of shapes alone, so that every
  /// execution does the same.
  bool attends_late() const {
    if (!is_moe()) return false;
    if (divides_attention()) return true;
    if (!has_shared()) return false;
    const Windows w = windows();
    const double paper = std::min(w.attend / w.dispatch, (w.shared + w.prepare) / w.combine);
    const double late = std::min(w.shared / w.dispatch, (w.attend + w.prepare) / w.combine);
    return late > paper;
  }

  model::PreparedAttention attention_prepare(const at::Tensor& x) {
    auto prepared = model::attention_prepare(attention_norm(x), weights_.attention,
                                             config_.attention, attention_);
    prepared.q = marked(prepared.q, Part::attention_prepare);
    return prepared;
  }
  /// From here on, the layer works on the tokens whose output is asked for: the rest of what the
  /// last layer does is for nobody but them.
  template <class Stream>
  void keep_rows(Stream& stream) const {
    if (rows_.defined()) stream.keep(rows_);
  }
  /// Whether it then has nothing to do. Not where other ranks may want its experts.
  bool idle() const { return rows_.defined() && rows_.numel() == 0 && !options_.ranks.courier; }

  at::Tensor attend(model::PreparedAttention prepared) {
    auto core = attention_core(std::move(prepared));
    return attended(core);
  }
  /// attend() of a layer that attends late: in pieces of its tokens, if it can be divided, which
  /// fill waits for dispatched tokens; what is left of it runs under the combine. When a piece is
  /// computed is a matter of when messages arrive, and no matter for its bits.
  struct LateAttention {
    model::AttentionCore core;
    std::vector<at::Tensor> pieces;  ///< that are done
  };
  LateAttention begin_attend(model::PreparedAttention prepared) const {
    return {attention_core(std::move(prepared)), {}};
  }
  at::Tensor end_attend(LateAttention attention) {
    if (!divides_attention()) return attended(attention.core);
    while (attend_piece(attention)) {
    }
    return at::cat(attention.pieces);
  }
  at::Tensor dense(const at::Tensor& x) {
    enter(Part::dense);
    return marked(model::mlp(mlp_norm(x), weights_.dense), Part::dense);
  }

  model::Dispatched dispatch(const at::Tensor& x) { return dispatch(x, dispatch_options()); }
  /// dispatch() of a layer that attends late. If attention can be divided, waves leave one after
  /// the other, as what comes back to their tokens from the layer before arrives: those for which
  /// it is there before attention is prepared; the waits for the others are filled with attention.
  struct Dispatching {
    model::Dispatched sent;
    std::vector<at::Tensor> all;  ///< Dispatched::all, by wave
  };
  template <class Stream>
  Dispatching begin_dispatch(Stream& stream) {
    Dispatching begun;
    // The first layer's tokens are still being counted.
    if (index_ == 0 || !divides_attention() || routed_rows_.defined()) return begun;
    const int64_t waves = dispatch_options().waves();
    while (std::ssize(begun.all) < waves && stream.arrived()) dispatch_next(begun, stream);
    return begun;
  }
  template <class Stream>
  model::Dispatched end_dispatch(Dispatching begun, Stream& stream, LateAttention& attention) {
    if (!divides_attention()) return dispatch(stream.full());
    const auto attend_meanwhile = [&] {
      while (!stream.arrived() && attend_piece(attention)) {
      }
    };
    if (routed_rows_.defined()) {
      for (int64_t wave = 0; wave < options_.ranks.waves; ++wave) {
        attend_meanwhile();
        stream.full(0, model::Fraction{wave, options_.ranks.waves}.end(tokens()));
      }
      return dispatch(stream.full());
    }
    const int64_t waves = dispatch_options().waves();
    while (std::ssize(begun.all) < waves) {
      attend_meanwhile();
      dispatch_next(begun, stream);
    }
    begun.sent.all = waves == 1 ? begun.all.front() : at::cat(begun.all);
    return std::move(begun.sent);
  }
  model::Dispatched dispatch(const at::Tensor& x, model::DispatchOptions options) {
    enter(Part::route);
    const at::Tensor all = mlp_norm(x);
    const at::Tensor h = routed_rows_.defined() ? all.index_select(0, routed_rows_) : all;
    options.chosen = chosen(h.size(0));
    auto sent = model::dispatch(h, weights_.moe, *config_.moe, options);
    sent.all = all;
    keep_trace(sent);
    for (at::Tensor& ticket : sent.tickets) ticket = marked(ticket, Part::route);
    return sent;
  }
  /// `late`, if any: what fills the waits.
  model::RoutedOutput experts(const model::Dispatched& sent, LateAttention* late = nullptr) {
    std::vector<at::Tensor> back;
    for (int64_t wave = 0; wave < sent.waves(); ++wave) {
      while (late && divides_attention() && !sent.arrived(wave) && attend_piece(*late)) {
      }
      if (!sent.gathers.empty()) {
        experts_of_gathered(sent, wave);
        continue;
      }
      enter(Part::experts);
      const at::Tensor outputs =
          marked(model::experts(sent, wave, weights_.moe, *config_.moe), Part::experts);
      enter(Part::combine);
      back.push_back(model::send_back(sent, wave, outputs, *config_.moe));
    }
    return model::combine(sent, back, *config_.moe);
  }
  /// The weighted sums of experts' outputs [N, hidden], without gradients and where all tokens are
  /// here: launch(some columns, pieces) is called for one piece after the other. Where anything
  /// goes in waves, a long message goes in pieces: the first travel while the experts compute the
  /// next, at no cost to their products, which have all the tokens, and little is left when they
  /// are done.
  template <class Launch>
  void expert_columns(const model::Dispatched& here, int64_t bytes, const Launch& launch) {
    constexpr int64_t kMost = 8, kLeastBytes = 64 << 10;
    enter(Part::experts);
    if (!here.plan) return launch(model::experts(here, 0, weights_.moe, *config_.moe), 1);
    const at::Tensor inner = model::experts_inner(here, weights_.moe);
    const int64_t pieces =
        options_.ranks.waves == 1 ? 1 : std::clamp<int64_t>(bytes / kLeastBytes, 1, kMost);
    for (int64_t piece = 0; piece < pieces; ++piece) {
      enter(Part::experts);
      const int64_t begin = hidden() * piece / pieces, end = hidden() * (piece + 1) / pieces;
      launch(model::combined_columns(here, inner, begin, end - begin, weights_.moe, *config_.moe),
             pieces);
    }
  }
  at::Tensor shared(const model::Dispatched& sent) { return shared(sent.all); }
  at::Tensor shared(const at::Tensor& h) { return shared(h, weights_.moe.shared); }
  at::Tensor shared(const at::Tensor& h, const model::MlpWeights& weights) {
    enter(Part::shared);
    return marked(model::mlp(h, weights), Part::shared);
  }
  /// The tokens that have routed experts; undefined: all.
  const at::Tensor& routed_rows() const { return routed_rows_; }

  /// The steps of attention_prepare(), for some of its tokens.
  at::Tensor attention_norm(const at::Tensor& x) {
    enter(Part::attention_prepare);
    return model::rms_norm(told_by_gradient(x), weights_.attention_norm, norm_eps_);
  }
  model::PreparedAttention attention_keys(const at::Tensor& h, int64_t begin) const {
    model::PreparedAttention prepared;
    model::prepare_keys(prepared, h, weights_.attention, config_.attention, attention_, begin);
    return prepared;
  }
  at::Tensor keys_of(const at::Tensor& h, const at::Tensor& tokens) const {
    return model::keys_of(h, tokens, weights_.attention, config_.attention, attention_);
  }
  void attention_queries(model::PreparedAttention& prepared, const at::Tensor& h,
                         int64_t begin = 0) const {
    model::prepare_queries(prepared, h, weights_.attention, config_.attention, attention_, begin);
  }

  /// Whether attention gives more tokens than the layer goes on with.
  bool drops_rows() const { return rows_.defined() && !attention_.queries; }
  /// attend() in two steps, for some of its tokens at a time.
  model::AttentionCore attention_core(model::PreparedAttention prepared) const {
    return {std::move(prepared), weights_.attention, config_.attention, attention_};
  }
  at::Tensor attend(model::AttentionCore& core, int64_t begin, int64_t count) {
    enter(Part::attend);
    return marked(core.rows(begin, count), Part::attend);
  }

  const model::AttentionContext& attention() const { return attention_; }
  const ForwardOptions& options() const { return options_; }
  int64_t index() const { return index_; }
  int64_t hidden() const { return hidden_; }
  /// Of a message of so many rows and columns.
  int64_t message_bytes(const at::Tensor& x) const {
    return x.numel() *
           static_cast<int64_t>(c10::elementSize(options_.ranks.wire.value_or(x.scalar_type())));
  }
  const model::Model& model() const { return model_; }
  int64_t layers_after() const { return model_.config.depth() - 1 - index_; }
  /// Tokens that the layer works on after attention.
  int64_t tokens() const { return rows_.defined() ? rows_.numel() : attention_.batch.size(); }

 private:
  void experts_of_gathered(const model::Dispatched& sent, int64_t wave) {
    enter(Part::experts);
    const auto here = model::gathered(sent, wave, weights_.moe, *config_.moe);
    // What a rank sends to another one, on average: every rank sends as many pieces.
    expert_columns(here, message_bytes(here.h) / options_.ranks.size(),
                   [&](const at::Tensor& columns, int64_t pieces) {
                     enter(Part::combine);
                     sent.gathers[wave]->send_back(columns, pieces);
                   });
  }
  model::DispatchOptions dispatch_options() const {
    model::DispatchOptions options{options_.ranks, index_, chunks_};
    options.kept = options_.recompute;
    if (again_) options.again = again_->exchanges;
    options.own = model_.share.experts;
    if (options_.ranks.gathers())
      options.counts =
          routes_asked_ ? options_.ranks.counts->asked() : options_.ranks.counts->tokens();
    return options;
  }
  /// Experts in place of the router's choice of the `count` tokens that are routed next: chosen for
  /// all of the layer's at once, so that in how many parts they go makes no difference.
  at::Tensor chosen(int64_t count) {
    if (!options_.choose) return {};
    if (!chosen_.defined())
      chosen_ = options_.choose(index_, routed_rows_.defined() ? routed_rows_.numel() : tokens(),
                                config_.moe->router);
    return chosen_.narrow(0, std::exchange(routed_, routed_ + count), count);
  }
  template <class Stream>
  void dispatch_next(Dispatching& begun, Stream& stream) {
    model::DispatchOptions options = dispatch_options();
    options.wave = std::ssize(begun.all);
    const model::Fraction wave{options.wave, options.waves()};
    auto next = dispatch(stream.full(wave.begin(tokens()), wave.size(tokens())), options);
    begun.all.push_back(std::exchange(next.all, at::Tensor()));
    begun.sent.append(std::move(next));
  }
  /// What runs under a layer's messages, in multiplications a token, and rows of these. In several
  /// waves most of a message runs under experts, and the windows' length alone counts, against
  /// ranks that are late; so it does where tokens are gathered, and as many rows come back.
  struct Windows {
    double prepare, attend, shared;
    double dispatch, combine;
  };
  Windows windows() const {
    const model::ExpertRanks& ranks = options_.ranks;
    LayerWork work = layer_work(config_, hidden_, attention_.batch, ranks.size());
    if (ranks.combine == model::Combine::rank) work.combine_rows = work.dispatch_rows;
    if (ranks.waves > 1 || ranks.gathers()) work.dispatch_rows = work.combine_rows = 1;
    return {work.prepare, work.attend, work.shared, work.dispatch_rows, work.combine_rows};
  }
  /// Whether attention can be divided between the windows: where it has no backward, which would
  /// read keys and values twice, and is long enough.
  bool divides_attention() const {
    const model::ExpertRanks& ranks = options_.ranks;
    return options_.cache && ranks.size() > 1 && !attention_.queries && !drops_rows() &&
           attention_.batch.size() >= ranks.wave_tokens;
  }
  /// Whether a piece was left to do.
  bool attend_piece(LateAttention& attention) {
    const int64_t tokens = attention.core.size(), piece = std::ssize(attention.pieces);
    const int64_t pieces = options_.ranks.waves_of(2 * tokens, 8);  // products of half a wave
    if (piece == pieces) return false;
    const int64_t begin = tokens * piece / pieces, end = tokens * (piece + 1) / pieces;
    attention.pieces.push_back(attend(attention.core, begin, end - begin));
    return true;
  }
  at::Tensor attended(model::AttentionCore& core) {
    const at::Tensor y = attend(core, 0, core.size());
    return drops_rows() ? y.index_select(0, rows_) : y;
  }
  void keep_trace(const model::Dispatched& sent) {
    trace_.exchanges = sent.exchanges;
    if (!trace_.routes) {
      trace_.routes = sent.routes;
    } else {  // a layer may send its tokens in several parts
      trace_.routes->experts = at::cat({trace_.routes->experts, sent.routes.experts});
      trace_.routes->weights = at::cat({trace_.routes->weights, sent.routes.weights});
      trace_.routes->scores = at::cat({trace_.routes->scores, sent.routes.scores});
    }
  }
  void enter(Part part) {
    if (options_.parts) options_.parts->enter(part, index_);
  }
  /// x, whose gradient begins the part's backward.
  at::Tensor marked(const at::Tensor& x, Part part) {
    return options_.parts && x.defined() ? options_.parts->entered_by_gradient(x, part, index_) : x;
  }
  /// x, which the layer begins with. Autograd runs nodes in the reverse order of their making, so
  /// that when x has its gradient all weights of the layer have theirs.
  at::Tensor told_by_gradient(const at::Tensor& x) const {
    const auto& queue = options_.ranks.queue;
    if (!queue || !model::needs_graph(x)) return x;
    return model::differentiable(
        [&] { return x.detach(); },
        [queue, layer = index_](const at::Tensor& dx) -> model::InputGradients {
          queue->pass(layer);
          return {dx};
        },
        x);
  }
  at::Tensor mlp_norm(const at::Tensor& x) {
    return model::rms_norm(x, weights_.mlp_norm, norm_eps_);
  }

  int64_t index_, chunks_, hidden_;
  const LayerTrace* again_;
  double norm_eps_;
  const model::LayerConfig& config_;
  const model::LayerWeights& weights_;
  const model::Model& model_;
  const model::AttentionContext& attention_;
  const ForwardOptions& options_;
  at::Tensor rows_;            ///< int64, those asked for; undefined: all
  at::Tensor routed_rows_;     ///< int64, those that are routed; undefined: all
  bool routes_asked_ = false;  ///< tokens that are asked for alone are routed, on every rank
  at::Tensor chosen_;          ///< ForwardOptions::choose's choice of all that are routed ...
  int64_t routed_ = 0;         ///< ... of which so many have been
  LayerTrace trace_;
};

}  // namespace farskip::schedule
