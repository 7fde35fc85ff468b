// Batches of packed sequences from a stream of shuffled pieces, with a position that can be saved.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <deque>
#include <nlohmann/json.hpp>
#include <vector>

#include "train/samples.h"

namespace farskip::train {

/// Rows of `length` tokens and, for each, the token that follows it.
struct Rows {
  at::Tensor tokens;    ///< int64 [rows, length]
  at::Tensor targets;   ///< int64 [rows, length]: the next token
  at::Tensor learn;     ///< bool [rows, length]: whether predicting the target counts
  int64_t padding = 0;  ///< positions at the end of the last row that hold no text (nor count)

  int64_t count() const { return tokens.size(0); }
  Rows slice(int64_t begin, int64_t size) const;
  /// Positions begin .. end of all rows one after another; tokens, targets and learn are flat.
  Rows part(int64_t begin, int64_t end) const;
  /// Flat indices of the positions that count, int64.
  at::Tensor selected() const;
};

/// Endless batches of `rows` sequences. Every row is a stream of its own over pieces of the data,
/// so that the rows of a batch come from different places; the pieces go to the streams in an order
/// that depends only on seed and epoch. Documents follow one another without padding.
class Loader {
 public:
  /// `pieces` and `codec` must outlive the loader.
  Loader(const Pieces& pieces, const TextCodec& codec, int64_t rows, int64_t length, uint64_t seed);

  /// InputError if a whole epoch holds no token.
  Rows next();
  /// In a batch.
  int64_t rows() const { return static_cast<int64_t>(streams_.size()); }
  /// Epochs begun, counted from 1.
  int64_t epoch() const { return epoch_ + 1; }

  /// The position: of every stream, the pieces in hand and how much of them is used up. Restoring
  /// reads those pieces only, wherever in the data they are.
  nlohmann::json state() const;
  /// InputError if the state is that of other data, another seed or other batch sizes.
  void restore(const nlohmann::json& state);

 private:
  struct Held {  ///< a piece in a stream's hand
    int64_t piece;
    int64_t tokens;
  };
  struct Stream {
    std::deque<Held> pieces;
    int64_t used = 0;  ///< tokens of the first piece that are behind us
    Sample sample;     ///< of all pieces in hand
  };
  void take_piece(Stream& stream);
  void append(Stream& stream, int64_t piece);
  int64_t next_piece();
  void shuffle();

  const Pieces& pieces_;
  const TextCodec& codec_;
  int64_t length_;
  uint64_t seed_;
  int64_t epoch_ = 0;
  int64_t cursor_ = 0;  ///< pieces of this epoch that are handed out
  std::vector<int32_t> order_;
  std::vector<Stream> streams_;
};

/// The first `max_tokens` positions of the data in its own order (all, if there are fewer), without
/// shuffling: for validation. Rows have `length` positions, or as many as there are if that is
/// less; the last one is padded. InputError if there are not two tokens.
Rows first_rows(const Pieces& pieces, const TextCodec& codec, int64_t length, int64_t max_tokens);

}  // namespace farskip::train
