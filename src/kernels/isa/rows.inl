// Kernels that pass over rows: bound by memory.

template <class T>
void rms_norm(const T* x, int64_t stride, const T* weight, T* y, float* rstd, int64_t begin,
              int64_t end, int64_t size, float eps) {
  for (int64_t row = begin; row < end; ++row) {
    const T* in = x + row * stride;
    T* out = y + row * size;
    Vec squares = {};
    for_vectors(size, [&](int64_t i, auto lanes) FARSKIP_LAMBDA {
      const Vec v = load(in + i, lanes);
      squares = multiply_add(v, v, squares);
    });
    const float scale = 1.0f / __builtin_sqrtf(sum(squares) / static_cast<float>(size) + eps);
    if (rstd != nullptr) rstd[row] = scale;
    for_vectors(size, [&](int64_t i, auto lanes) FARSKIP_LAMBDA {
      store(out + i, rounded<T>(load(in + i, lanes) * scale) * load(weight + i, lanes), lanes);
    });
  }
}

template <class T>
void rms_norm_backward(const T* grad_y, const T* x, int64_t stride, const T* weight,
                       const float* rstd, T* grad_x, float* grad_weight, int64_t begin, int64_t end,
                       int64_t size) {
  for (int64_t row = begin; row < end; ++row) {
    const T* in = x + row * stride;
    const T* grad = grad_y + row * size;
    const float scale = rstd[row];
    Vec dots = {};
    for_vectors(size, [&](int64_t i, auto lanes) FARSKIP_LAMBDA {
      const Vec product = load(grad + i, lanes) * load(in + i, lanes);
      dots = multiply_add(product, load(weight + i, lanes), dots);
      if (grad_weight != nullptr) {
        store(grad_weight + i, load(grad_weight + i, lanes) + product * scale, lanes);
      }
    });
    if (grad_x == nullptr) continue;
    T* out = grad_x + row * size;
    const float pull = sum(dots) * scale * scale / static_cast<float>(size);
    for_vectors(size, [&](int64_t i, auto lanes) FARSKIP_LAMBDA {
      const Vec scaled = load(grad + i, lanes) * load(weight + i, lanes);
      store(out + i, (scaled - load(in + i, lanes) * pull) * scale, lanes);
    });
  }
}

/// Each lane keeps its own first maximum; a value that is not finite makes `bad` NaN.
template <class T>
int64_t argmax(const T* x, int64_t size) {
  Vec most = broadcast(-__builtin_inff());
  Vec bad = {};
  Bits where = {};
  const auto take = [&](int64_t i, Vec v) FARSKIP_LAMBDA {
    const auto greater = v > most;
    most = greater ? v : most;
    where = greater ? Bits{} + static_cast<uint32_t>(i / kLanes) : where;
    bad += v - v;
  };
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) take(i, load(x + i, All{}));
  if (i < size) {
    float end[kLanes];
    store(end, load(x + i, First{static_cast<int>(size - i)}), All{});
    for (int64_t j = size - i; j < kLanes; ++j) end[j] = end[0];
    take(i, load(end, All{}));
  }
  float value = most[0];
  int64_t index = where[0] * int64_t{kLanes};
  for (int64_t j = 1; j < kLanes; ++j) {
    const int64_t found = where[j] * int64_t{kLanes} + j;
    if (most[j] > value || (most[j] == value && found < index)) value = most[j], index = found;
  }
  return sum(bad) == 0 ? index : -1;
}

/// silu(gate) rounded, times up.
template <class T>
FARSKIP_INLINE Vec gated(Vec gate, Vec up) {
  return rounded<T>(gate / (exponential(-gate) + 1.0f)) * up;
}

template <class T>
void swiglu(const T* gate_up, T* y, int64_t begin, int64_t end, int64_t width) {
  for (int64_t row = begin; row < end; ++row) {
    const T* gate = gate_up + row * 2 * width;
    T* out = y + row * width;
    for_vectors(width, [&](int64_t i, auto lanes) FARSKIP_LAMBDA {
      store(out + i, gated<T>(load(gate + i, lanes), load(gate + width + i, lanes)), lanes);
    });
  }
}

template <class T>
void swiglu_backward(const T* grad, const T* gate_up, T* grad_gate_up, int64_t begin, int64_t end,
                     int64_t width) {
  for (int64_t row = begin; row < end; ++row) {
    const T* gates = gate_up + row * 2 * width;
    T* out = grad_gate_up + row * 2 * width;
    for_vectors(width, [&](int64_t i, auto lanes) FARSKIP_LAMBDA {
      const Vec gate = load(gates + i, lanes);
      const Vec g = load(grad + row * width + i, lanes);
      const Vec sigmoid = 1.0f / (exponential(-gate) + 1.0f);
      const Vec slope = sigmoid * (gate * (1.0f - sigmoid) + 1.0f);
      store(out + i, g * load(gates + width + i, lanes) * slope, lanes);
      store(out + width + i, g * rounded<T>(gate * sigmoid), lanes);
    });
  }
}

FARSKIP_INLINE float lift(float value) {
  return value;
}
FARSKIP_INLINE float lift(bf16 value) {
  return __builtin_bit_cast(float, static_cast<uint32_t>(value.bits) << 16);
}

template <class T>
FARSKIP_INLINE void rotate_halves(const T* x, const float* cos, const float* sin, float sign, T* y,
                                  int64_t half) {
  for_vectors(half, [&](int64_t i, auto lanes) FARSKIP_LAMBDA {
    const Vec c = load(cos + i, lanes);
    const Vec s = load(sin + i, lanes) * sign;
    const Vec a = load(x + i, lanes);
    const Vec b = load(x + half + i, lanes);
    store(y + i, a * c - b * s, lanes);
    store(y + half + i, b * c + a * s, lanes);
  });
}

FARSKIP_INLINE void rotate_pair(const float* x, float c, float s, float* y) {
  const float a = x[0];
  const float b = x[1];
  y[0] = a * c - b * s;
  y[1] = b * c + a * s;
}
FARSKIP_INLINE void rotate_pair(const bf16* x, float c, float s, bf16* y) {
  const float a = lift(x[0]);
  const float b = lift(x[1]);
  store(y, broadcast(a * c - b * s), First{1});
  store(y + 1, broadcast(b * c + a * s), First{1});
}

FARSKIP_INLINE void rotate_pairs(const float* x, const float* cos, const float* sin, float sign,
                                 float* y, int64_t half) {
  for (int64_t i = 0; i < half; ++i) rotate_pair(x + 2 * i, cos[i], sin[i] * sign, y + 2 * i);
}
/// Two neighbouring bfloat16 values are the halves of one lane.
FARSKIP_INLINE void rotate_pairs(const bf16* x, const float* cos, const float* sin, float sign,
                                 bf16* y, int64_t half) {
  int64_t i = 0;
  for (; i + kLanes <= half; i += kLanes) {
    const Bits pairs = *reinterpret_cast<const LooseBits*>(x + 2 * i);
    const Vec a = (Vec)(pairs << 16);
    const Vec b = (Vec)(pairs & 0xffff0000u);
    const Vec c = load(cos + i, All{});
    const Vec s = load(sin + i, All{}) * sign;
    *reinterpret_cast<LooseBits*>(y + 2 * i) =
        nearest_bf16(a * c - b * s) | (nearest_bf16(b * c + a * s) << 16);
  }
  for (; i < half; ++i) rotate_pair(x + 2 * i, cos[i], sin[i] * sign, y + 2 * i);
}

template <class T>
void rope(const T* x, int64_t token_stride, int64_t head_stride, const float* cos, const float* sin,
          T* y, int64_t begin, int64_t end, int64_t heads, int64_t dim, bool interleaved,
          bool inverse) {
  const int64_t half = dim / 2;
  const float sign = inverse ? -1.0f : 1.0f;
  for (int64_t token = begin; token < end; ++token) {
    for (int64_t head = 0; head < heads; ++head) {
      const T* in = x + token * token_stride + head * head_stride;
      T* out = y + (token * heads + head) * dim;
      if (interleaved) {
        rotate_pairs(in, cos + token * half, sin + token * half, sign, out, half);
      } else {
        rotate_halves(in, cos + token * half, sin + token * half, sign, out, half);
      }
    }
  }
}

template <class T>
void scatter_rows(const T* rows, const int64_t* rows_of_token, int64_t top_k, T* y, int64_t begin,
                  int64_t end, int64_t size) {
  for (int64_t token = begin; token < end; ++token) {
    const int64_t* row = rows_of_token + token * top_k;
    for_vectors(size, [&](int64_t i, auto lanes) FARSKIP_LAMBDA {
      Vec total = {};
      for (int64_t j = 0; j < top_k && row[j] >= 0; ++j)
        total += load(rows + row[j] * size + i, lanes);
      store(y + token * size + i, total, lanes);
    });
  }
}

/// Columns [from, to) of one token; see Kernels::combine.
template <class T>
FARSKIP_INLINE void combine_token(const T* outputs, const float* weights, const int64_t* pairs,
                                  const int64_t* rows, int64_t top_k, bool by_dtype, T* y,
                                  int64_t from, int64_t to, int64_t size) {
  for_vectors(to - from, [&](int64_t i, auto lanes) FARSKIP_LAMBDA {
    Vec total = {};
    for (int64_t j = 0; j < top_k && rows[j] >= 0; ++j) {
      const Vec output = load(outputs + rows[j] * size + from + i, lanes);
      const Vec product = output * weights[pairs[rows[j]]];
      total = by_dtype ? rounded<T>(total + rounded<T>(product)) : total + product;
    }
    store(y + from + i, total, lanes);
  });
}

template <class T>
void combine(const T* outputs, const float* weights, const int64_t* pairs,
             const int64_t* rows_of_token, int64_t top_k, bool by_dtype, T* y, int64_t begin,
             int64_t end, int64_t size) {
  for (int64_t token = begin; token < end; ++token) {
    combine_token(outputs, weights, pairs, rows_of_token + token * top_k, top_k, by_dtype,
                  y + token * size, 0, size, size);
  }
}

template <class T>
void combine_backward(const T* grad, const T* outputs, const float* weights, const int64_t* pairs,
                      int64_t top_k, T* grad_outputs, float* grad_weights, int64_t begin,
                      int64_t end, int64_t size) {
  for (int64_t row = begin; row < end; ++row) {
    const int64_t pair = pairs[row];
    const T* g = grad + pair / top_k * size;
    const float weight = weights[pair];
    Vec dots = {};
    for_vectors(size, [&](int64_t i, auto lanes) FARSKIP_LAMBDA {
      const Vec v = load(g + i, lanes);
      dots = multiply_add(v, load(outputs + row * size + i, lanes), dots);
      store(grad_outputs + row * size + i, v * weight, lanes);
    });
    grad_weights[pair] = sum(dots);
  }
}

template <class T>
void accumulate(float* sum, const T* from, int64_t begin, int64_t end) {
  for_vectors(end - begin, [&](int64_t i, auto lanes) FARSKIP_LAMBDA {
    const int64_t at = begin + i;
    store(sum + at, load(sum + at, lanes) + load(from + at, lanes), lanes);
  });
}

template <class T>
void adamw(T* value, float* master, const float* gradient, float* m, float* v, int64_t begin,
           int64_t end, const AdamW& step) {
  for_vectors(end - begin, [&](int64_t i, auto lanes) FARSKIP_LAMBDA {
    const int64_t at = begin + i;
    const Vec g = load(gradient + at, lanes) * step.gradient_scale;
    const Vec first = load(m + at, lanes) * step.keep1 + g * step.add1;
    const Vec second = load(v + at, lanes) * step.keep2 + g * g * step.add2;
    const Vec denominator = square_root(second) * step.correction + step.eps;
    const Vec next = load(master + at, lanes) * step.decay - first / denominator * step.rate;
    store(m + at, first, lanes);
    store(v + at, second, lanes);
    store(master + at, next, lanes);
    if (value != nullptr) store(value + at, next, lanes);
  });
}
