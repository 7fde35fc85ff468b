// What decoding is made of: small linear maps, routed experts, attention over the cache.

FARSKIP_INLINE int64_t least(int64_t a, int64_t b) {
  return a < b ? a : b;
}

template <class T>
FARSKIP_INLINE void store_row(T* y, const float* values, int64_t count) {
  for_vectors(count, [&](int64_t i, auto lanes)
                         FARSKIP_LAMBDA { store(y + i, load(values + i, lanes), lanes); });
}

constexpr int64_t kResults = 1024;  // floats of a block of results

/// Weight rows of one block for n rows of x: as long a run of memory as the results have room for.
FARSKIP_INLINE int64_t block_rows(int64_t n) {
  return kResults / least(n, kMostRows);
}

template <class T>
void small_linear(const T* x, int64_t x_stride, int64_t n, const T* weight, int64_t weight_stride,
                  int64_t depth, T* y, int64_t y_stride, int64_t begin, int64_t end) {
  float out[kResults];
  const int64_t block = block_rows(n);
  for (int64_t row = begin; row < end; row += block) {
    const int64_t rows = least(block, end - row);
    for (int64_t i = 0; i < n; i += kMostRows) {
      const int64_t some = least(kMostRows, n - i);
      dots(x + i * x_stride, x_stride, some, weight + row * weight_stride, weight_stride, depth,
           rows, out, block);
      for (int64_t j = 0; j < some; ++j) {
        store_row(y + (i + j) * y_stride + row, out + j * block, rows);
      }
    }
  }
}

template <class T>
void small_linear_transposed(const T* x, int64_t x_stride, int64_t n, const T* weight,
                             int64_t weight_stride, int64_t depth, T* y, int64_t y_stride,
                             int64_t begin, int64_t end) {
  constexpr int64_t kBlock = 64;   // columns
  constexpr int64_t kDepth = 256;  // weight rows whose factors are lifted at a time
  float factors[kMostRows * kDepth];
  float part[kMostRows * kBlock];
  float total[kMostRows * kBlock];
  for (int64_t column = begin; column < end; column += kBlock) {
    const int64_t columns = least(kBlock, end - column);
    for (int64_t i = 0; i < n; i += kMostRows) {
      const int64_t some = least(kMostRows, n - i);
      for (int64_t r = 0; r < depth; r += kDepth) {
        const int64_t rows = least(kDepth, depth - r);
        for (int64_t j = 0; j < some; ++j) {
          for_vectors(rows, [&](int64_t c, auto lanes) FARSKIP_LAMBDA {
            const Vec v = load(x + (i + j) * x_stride + r + c, lanes);
            store(factors + j * kDepth + c, v, lanes);
          });
        }
        weigh(factors, kDepth, some, weight + r * weight_stride + column, weight_stride, rows,
              columns, part, kBlock);
        for (int64_t c = 0; c < some * kBlock; ++c)
          total[c] = r == 0 ? part[c] : total[c] + part[c];
      }
      for (int64_t j = 0; j < some; ++j) {
        store_row(y + (i + j) * y_stride + column, total + j * kBlock, columns);
      }
    }
  }
}

/// Rows first .. last of one expert's gate and up.
template <class T>
void expert_up(const Experts<T>& a, int64_t expert, int64_t first, int64_t last) {
  float gate[kResults];
  float up[kResults];
  const int64_t pairs = a.offsets[expert + 1];
  const int64_t block = block_rows(pairs - a.offsets[expert]);
  for (int64_t row = first; row < last; row += block) {
    const int64_t rows = least(block, last - row);
    const T* weight = a.gate_up + (expert * 2 * a.width + row) * a.hidden_size;
    for (int64_t pair = a.offsets[expert]; pair < pairs; pair += kMostRows) {
      const int64_t some = least(kMostRows, pairs - pair);
      const T* x = a.x + pair * a.hidden_size;
      dots(x, a.hidden_size, some, weight, a.hidden_size, a.hidden_size, rows, gate, block);
      dots(x, a.hidden_size, some, weight + a.width * a.hidden_size, a.hidden_size, a.hidden_size,
           rows, up, block);
      for (int64_t j = 0; j < some; ++j) {
        T* hidden = a.hidden + (pair + j) * a.width + row;
        for_vectors(rows, [&](int64_t i, auto lanes) FARSKIP_LAMBDA {
          const Vec g = rounded<T>(load(gate + j * block + i, lanes));
          const Vec u = rounded<T>(load(up + j * block + i, lanes));
          store(hidden + i, gated<T>(g, u), lanes);
        });
      }
    }
  }
}

template <class T>
void experts_up(const Experts<T>& a, int64_t begin, int64_t end) {
  const int64_t blocks = (a.width + kExpertBlock - 1) / kExpertBlock;
  while (begin < end) {
    const int64_t last = least(end, (begin / blocks + 1) * blocks);  // items of the same expert
    const int64_t first = begin % blocks * kExpertBlock;
    expert_up(a, a.active[begin / blocks], first,
              least(first + (last - begin) * kExpertBlock, a.width));
    begin = last;
  }
}

template <class T>
void experts_down(const Experts<T>& a, int64_t begin, int64_t end) {
  const int64_t first = begin * kExpertBlock;
  const int64_t last = least(end * kExpertBlock, a.hidden_size);
  for (int64_t index = 0; index < a.active_count; ++index) {
    const int64_t expert = a.active[index];
    const int64_t pair = a.offsets[expert];
    small_linear(a.hidden + pair * a.width, a.width, a.offsets[expert + 1] - pair,
                 a.down + expert * a.hidden_size * a.width, a.width, a.width,
                 a.outputs + pair * a.hidden_size, a.hidden_size, first, last);
  }
  for (int64_t token = 0; token < a.tokens; ++token) {
    combine_token(a.outputs, a.weights, a.pairs, a.rows_of_token + token * a.top_k, a.top_k,
                  a.by_dtype, a.y + token * a.hidden_size, first, last, a.hidden_size);
  }
}

/// Turns scores into weights exp(scale * (score - maximum)) in place; gives the scaled maximum and
/// the sum of the weights.
FARSKIP_INLINE void soften(float* scores, int64_t count, float scale, float* maximum,
                           float* total) {
  float most = scores[0] * scale;
  for (int64_t i = 0; i < count; ++i) {
    scores[i] *= scale;
    most = scores[i] > most ? scores[i] : most;
  }
  Vec sums = {};
  for_vectors(count, [&](int64_t i, auto lanes) FARSKIP_LAMBDA {
    store(scores + i, exponential(load(scores + i, lanes) - most), lanes);
  });
  for_vectors(count,
              [&](int64_t i, auto lanes) FARSKIP_LAMBDA { sums += load(scores + i, lanes); });
  *maximum = most;
  *total = sum(sums);
}

template <class T>
void attention(const Attention<T>& a, int64_t begin, int64_t end) {
  float scores[kMostRows * kAttentionBlock];
  const int64_t part = a.value_dim + 2;
  for (int64_t index = begin; index < end; ++index) {
    const AttentionItem& item = a.items[index];
    const int64_t count = item.end - item.begin;
    const T* keys = a.keys + item.page * a.key_strides[0] + item.begin * a.key_strides[1] +
                    item.kv_head * a.key_strides[2];
    const T* values = a.values + item.page * a.value_strides[0] + item.begin * a.value_strides[1] +
                      item.kv_head * a.value_strides[2];
    for (int64_t head = 0; head < a.group; head += kMostRows) {
      const int64_t some = least(kMostRows, a.group - head);
      const T* q = a.q + (item.sequence * a.heads + item.kv_head * a.group + head) * a.key_dim;
      dots(q, a.key_dim, some, keys, a.key_strides[1], a.key_dim, count, scores, kAttentionBlock);
      float* out = a.partial + (index * a.group + head) * part;
      for (int64_t j = 0; j < some; ++j) {
        float* end_of_part = out + j * part + a.value_dim;
        soften(scores + j * kAttentionBlock, count, a.scale, end_of_part, end_of_part + 1);
      }
      weigh(scores, kAttentionBlock, some, values, a.value_strides[1], count, a.value_dim, out,
            part);
    }
  }
}

template <class T>
void attention_join(float* parts, int64_t count, int64_t stride, int64_t value_dim, T* y) {
  float most = parts[value_dim];
  for (int64_t i = 1; i < count; ++i) {
    const float maximum = parts[i * stride + value_dim];
    most = maximum > most ? maximum : most;
  }
  float total = 0;
  for (int64_t i = 0; i < count; ++i) {
    float& factor = parts[i * stride + value_dim];  // takes the maximum's place
    factor = exponential(broadcast(factor - most))[0];
    total += factor * parts[i * stride + value_dim + 1];
  }
  for_vectors(value_dim, [&](int64_t c, auto lanes) FARSKIP_LAMBDA {
    Vec sums = {};
    for (int64_t i = 0; i < count; ++i) {
      sums += load(parts + i * stride + c, lanes) * parts[i * stride + value_dim];
    }
    store(y + c, sums / total, lanes);
  });
}
