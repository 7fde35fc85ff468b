// Speed of the CPU kernels as bytes they must move in a second of the main thread's processor time
// (which on an idle machine is time), and relative to what one thread reads of memory in the same
// run ("of_read"). Decode kernels cycle through copies of their weights
// that together exceed the last-level cache, as the layers of a model do.
//
//   kernels_bench [--benchmark_filter=...]       (threads: OMP_NUM_THREADS)
#include <ATen/ATen.h>
#include <benchmark/benchmark.h>

#include <time.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "kernels/adamw.h"
#include "kernels/decode_attention.h"
#include "kernels/dispatch.h"
#include "kernels/grouped_linear.h"
#include "kernels/rms_norm.h"
#include "kernels/rope.h"
#include "kernels/small_experts.h"
#include "kernels/small_linear.h"
#include "kernels/swiglu.h"

namespace farskip::kernels {
namespace {

constexpr int64_t kBeyondCache = 256 << 20;

at::Tensor bf16(at::IntArrayRef shape) {
  return at::randn(shape, at::TensorOptions(at::kFloat)).to(at::kBFloat16);
}

/// A buffer larger than the cache, without the byte that `read` looks for.
const std::vector<char>& large_buffer() {
  static const std::vector<char> buffer(kBeyondCache, 1);
  return buffer;
}
void read(const std::vector<char>& buffer) {
  benchmark::DoNotOptimize(std::memchr(buffer.data(), 2, buffer.size()));
}

/// Bytes that one thread reads in a second of its processor time: the best of some runs.
double read_speed() {
  static const double speed = [] {
    double best = 0;
    for (int i = 0; i < 10; ++i) {
      timespec start, end;
      clock_gettime(CLOCK_THREAD_CPUTIME_ID, &start);
      read(large_buffer());
      clock_gettime(CLOCK_THREAD_CPUTIME_ID, &end);
      const double seconds = static_cast<double>(end.tv_sec - start.tv_sec) +
                             1e-9 * static_cast<double>(end.tv_nsec - start.tv_nsec);
      best = std::max(best, static_cast<double>(kBeyondCache) / seconds);
    }
    return best;
  }();
  return speed;
}

/// Runs f(i) for i = 0, 1, ... and reports `bytes` a call.
template <class F>
void measure(benchmark::State& state, double bytes, F f) {
  const double read = read_speed();
  int64_t i = 0;
  for (int64_t warm = 0; warm < 3; ++warm) f(warm);
  for (auto _ : state) f(i++);
  using benchmark::Counter;
  state.counters["bytes/s"] = Counter(bytes, Counter::kIsIterationInvariantRate, Counter::kIs1000);
  state.counters["of_read"] = Counter(bytes / read, Counter::kIsIterationInvariantRate);
}

double size_of(const at::Tensor& tensor) {
  return static_cast<double>(tensor.nbytes());
}

void plain_read(benchmark::State& state) {
  measure(state, kBeyondCache, [](int64_t) { read(large_buffer()); });
}
BENCHMARK(plain_read);

void small_linear_rows(benchmark::State& state) {
  const auto rows = state.range(0), outputs = state.range(1), depth = state.range(2);
  const int64_t copies = std::max<int64_t>(1, kBeyondCache / (outputs * depth * 2));
  const at::Tensor weights = bf16({copies, outputs, depth});
  const at::Tensor x = bf16({rows, depth});
  measure(state, size_of(weights) / copies,
          [&](int64_t i) { benchmark::DoNotOptimize(small_linear(x, weights[i % copies])); });
}
BENCHMARK(small_linear_rows)
    ->ArgNames({"rows", "outputs", "depth"})
    ->ArgsProduct({{1, 2, 4, 8, 16}, {512, 32000}, {512}})
    ->ArgsProduct({{1, 8}, {2048}, {2048}});

/// The same map through ATen, for comparison.
void at_linear_rows(benchmark::State& state) {
  const auto rows = state.range(0), outputs = state.range(1), depth = state.range(2);
  const int64_t copies = std::max<int64_t>(1, kBeyondCache / (outputs * depth * 2));
  const at::Tensor weights = bf16({copies, outputs, depth});
  const at::Tensor x = bf16({rows, depth});
  measure(state, size_of(weights) / copies,
          [&](int64_t i) { benchmark::DoNotOptimize(at::linear(x, weights[i % copies])); });
}
BENCHMARK(at_linear_rows)
    ->ArgNames({"rows", "outputs", "depth"})
    ->ArgsProduct({{1, 8}, {512, 32000}, {512}});

void small_experts_rows(benchmark::State& state) {
  const int64_t rows = state.range(0), size = state.range(1), width = 512, count = 32, top_k = 4;
  const int64_t layers = std::max<int64_t>(1, kBeyondCache / (count * 3 * width * size * 2));
  const at::Tensor gate_up = bf16({layers, count, 2 * width, size});
  const at::Tensor down = bf16({layers, count, size, width});
  const at::Tensor x = bf16({rows, size});
  const at::Tensor experts =
      at::rand({rows, count}).argsort(int64_t{-1}).slice(1, 0, top_k).contiguous();
  const at::Tensor weights = at::rand({rows, top_k});
  const int64_t active = std::get<0>(at::_unique(experts)).numel();
  measure(state, static_cast<double>(active * 3 * width * size * 2), [&](int64_t i) {
    benchmark::DoNotOptimize(small_experts(x, gate_up[i % layers], down[i % layers], experts,
                                           weights, Accumulate::kOpmath));
  });
}
BENCHMARK(small_experts_rows)->ArgNames({"rows", "hidden"})->ArgsProduct({{1, 4, 8}, {512, 2048}});

constexpr int64_t kPageTokens = 64;

/// More sequences than the processor's caches hold, taken in turn.
class Pages {
 public:
  Pages(int64_t sequences, int64_t length) : length_(length), of_(sequences) {
    for (std::vector<int64_t>& pages : of_)
      for (int64_t begin = 0; begin < length; begin += kPageTokens) pages.push_back(count_++);
  }
  int64_t count() const { return count_; }
  std::vector<CachedSequence> sequences(int64_t turn, int64_t batch) const {
    std::vector<CachedSequence> found;
    for (int64_t b = 0; b < batch; ++b)
      found.push_back({of_[(turn * batch + b) % of_.size()], length_});
    return found;
  }

 private:
  int64_t length_, count_ = 0;
  std::vector<std::vector<int64_t>> of_;
};

void decode_attention_mla(benchmark::State& state) {
  const int64_t batch = state.range(0), length = state.range(1);
  const Pages pages(64, length);
  const at::Tensor cache = bf16({pages.count(), kPageTokens, 1, 160});
  const at::Tensor q = bf16({batch, 8, 160});
  measure(state, static_cast<double>(batch * length * 160 * 2), [&](int64_t i) {
    benchmark::DoNotOptimize(
        decode_attention(q, cache, cache.slice(3, 0, 128), pages.sequences(i, batch), 0.1));
  });
}
BENCHMARK(decode_attention_mla)->ArgNames({"batch", "length"})->ArgsProduct({{1, 8}, {512, 8192}});

void decode_attention_grouped(benchmark::State& state) {
  const int64_t batch = state.range(0), length = state.range(1);
  const Pages pages(32, length);
  const at::Tensor keys = bf16({pages.count(), kPageTokens, 2, 64});
  const at::Tensor values = bf16({pages.count(), kPageTokens, 2, 64});
  const at::Tensor q = bf16({batch, 8, 64});
  measure(state, static_cast<double>(batch * length * 2 * 64 * 2 * 2), [&](int64_t i) {
    benchmark::DoNotOptimize(decode_attention(q, keys, values, pages.sequences(i, batch), 0.1));
  });
}
BENCHMARK(decode_attention_grouped)
    ->ArgNames({"batch", "length"})
    ->ArgsProduct({{1, 8}, {512, 8192}});

// The row kernels on a large micro-batch; bytes read and written.
constexpr int64_t kRows = 6144,
                  kSize = 1024;  // below 32 MB, where malloc starts to map fresh pages

void rms_norm_forward(benchmark::State& state) {
  const at::Tensor x = bf16({kRows, kSize}), weight = bf16({kSize});
  measure(state, 2 * size_of(x),
          [&](int64_t) { benchmark::DoNotOptimize(rms_norm(x, weight, 1e-6)); });
}
BENCHMARK(rms_norm_forward);

void rms_norm_backward_both(benchmark::State& state) {
  const at::Tensor x = bf16({kRows, kSize}), weight = bf16({kSize}), grad = bf16({kRows, kSize});
  const at::Tensor rstd = rms_norm(x, weight, 1e-6).rstd;
  const at::Tensor sum = at::zeros({kSize}, at::kFloat);
  measure(state, 3 * size_of(x), [&](int64_t) {
    benchmark::DoNotOptimize(rms_norm_backward(grad, x, weight, rstd, sum, true));
  });
}
BENCHMARK(rms_norm_backward_both);

void swiglu_forward(benchmark::State& state) {
  const at::Tensor gate_up = bf16({kRows, 2 * kSize});
  measure(state, 1.5 * size_of(gate_up),
          [&](int64_t) { benchmark::DoNotOptimize(swiglu(gate_up)); });
}
BENCHMARK(swiglu_forward);

void swiglu_backward_both(benchmark::State& state) {
  const at::Tensor gate_up = bf16({kRows, 2 * kSize}), grad = bf16({kRows, kSize});
  measure(state, 2.5 * size_of(gate_up),
          [&](int64_t) { benchmark::DoNotOptimize(swiglu_backward(grad, gate_up)); });
}
BENCHMARK(swiglu_backward_both);

void rope_rows(benchmark::State& state) {
  const at::Tensor x = bf16({kRows, 8, 128}), angle = at::rand({kRows, 64});
  const bool interleaved = state.range(0) != 0;
  measure(state, 2 * size_of(x) + 2 * size_of(angle),
          [&](int64_t) { benchmark::DoNotOptimize(rope(x, angle, angle, interleaved)); });
}
BENCHMARK(rope_rows)->ArgName("interleaved")->Arg(0)->Arg(1);

void gather_and_combine(benchmark::State& state) {
  const int64_t tokens = 3072, top_k = 4, count = 32;
  const at::Tensor experts =
      at::rand({tokens, count}).argsort(int64_t{-1}).slice(1, 0, top_k).contiguous();
  const Plan order = plan(experts, count);
  const at::Tensor x = bf16({tokens, kSize}), weights = at::rand({tokens, top_k});
  const at::Tensor rows = gather_rows(x, order.tokens);
  switch (state.range(0)) {
    case 0:
      return measure(state, size_of(x) + size_of(rows),
                     [&](int64_t) { benchmark::DoNotOptimize(gather_rows(x, order.tokens)); });
    case 1:
      return measure(state, size_of(x) + size_of(rows), [&](int64_t) {
        benchmark::DoNotOptimize(combine(rows, weights, order, Accumulate::kOpmath));
      });
    case 2:
      return measure(state, size_of(x) + size_of(rows),
                     [&](int64_t) { benchmark::DoNotOptimize(scatter_rows(rows, order, tokens)); });
    default:
      return measure(state, size_of(x) + 2 * size_of(rows), [&](int64_t) {
        benchmark::DoNotOptimize(combine_backward(x, rows, weights, order));
      });
  }
}
BENCHMARK(gather_and_combine)->ArgName("gather_combine_scatter_backward")->DenseRange(0, 3);

void adamw_step(benchmark::State& state) {
  const int64_t size = 16 << 20;
  const at::Tensor master = at::randn({size}), gradient = at::randn({size});
  const at::Tensor m = at::zeros({size}), v = at::zeros({size});
  const at::Tensor value = master.to(at::kBFloat16);
  measure(state, static_cast<double>(size) * (4 * 4 + 3 * 4 + 2),
          [&](int64_t) { adamw(value, master, gradient, m, v, {.lr = 1e-3, .step = 10}); });
}
BENCHMARK(adamw_step);

/// Prefill experts: even row counts (multiples of 32) against ragged ones that change every call.
void grouped_linear_rows(benchmark::State& state) {
  const int64_t count = 32, width = 1024, size = 512, mean = state.range(0);
  const bool ragged = state.range(1) != 0;
  const at::Tensor weight = bf16({count, width, size});
  const at::Tensor x = bf16({count * mean * 2, size});
  std::vector<std::vector<int64_t>> offsets(64, std::vector<int64_t>(count + 1, 0));
  for (size_t call = 0; call < offsets.size(); ++call) {
    const at::Tensor noise = at::randint(-mean / 2, mean / 2, {count / 2}, at::kLong);
    for (int64_t e = 0; e < count; ++e) {  // pairs of experts share 2 * mean rows
      const int64_t shift = ragged ? noise[e / 2].item<int64_t>() : 0;
      offsets[call][e + 1] = offsets[call][e] + mean + (e % 2 == 0 ? shift : -shift);
    }
  }
  const double flops = 2.0 * count * mean * width * size;
  int64_t i = 0;
  for (auto _ : state) {
    const auto& own = offsets[i++ % offsets.size()];
    benchmark::DoNotOptimize(grouped_linear(x.slice(0, 0, own.back()), own, weight));
  }
  state.counters["flop/s"] =
      benchmark::Counter(flops, benchmark::Counter::kIsIterationInvariantRate);
}
BENCHMARK(grouped_linear_rows)->ArgNames({"rows", "ragged"})->ArgsProduct({{16, 64, 256}, {0, 1}});

}  // namespace
}  // namespace farskip::kernels

BENCHMARK_MAIN();
