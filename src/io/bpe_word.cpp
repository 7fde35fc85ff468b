#include "io/bpe_word.h"

namespace farskip::io {

void Bpe::Word::encode(std::string_view bytes, std::vector<int64_t>& ids) {
  read(bytes);
  for (int32_t at = 0; at + 1 < static_cast<int32_t>(symbols_.size()); ++at) consider(at);
  while (!queue_.empty()) {
    const Candidate best = queue_.top();
    queue_.pop();
    apply(best);
  }
  for (const Symbol& symbol : symbols_)
    if (symbol.id >= 0) ids.push_back(symbol.id);
}

void Bpe::Word::read(std::string_view bytes) {
  symbols_.clear();
  bool after_unknown = false;
  for (const char c : bytes) {
    const int32_t id = bpe_.byte_ids_[static_cast<unsigned char>(c)];
    if (id >= 0)
      push(id);
    else if (bpe_.unknown_ && !(after_unknown && bpe_.fuse_unknown_))
      push(*bpe_.unknown_);
    // A byte that is dropped ends no run of unknown ones: without an unknown token there is none.
    after_unknown = id < 0;
  }
}

void Bpe::Word::push(int32_t id) {
  const auto at = static_cast<int32_t>(symbols_.size());
  if (at > 0) symbols_.back().next = at;
  symbols_.push_back({id, at - 1, -1});
}

void Bpe::Word::consider(int32_t at) {
  const int32_t next = symbols_[at].next;
  if (next < 0) return;
  if (const Merge* merge = bpe_.merge_of(symbols_[at].id, symbols_[next].id))
    queue_.push({*merge, at});
}

void Bpe::Word::apply(const Candidate& best) {
  Symbol& left = symbols_[best.at];
  if (left.id < 0 || left.next < 0) return;
  Symbol& right = symbols_[left.next];
  const Merge* now = bpe_.merge_of(left.id, right.id);
  if (now == nullptr || now->id != best.merge.id) return;  // a neighbour has changed since
  left.id = best.merge.id;
  right.id = -1;
  left.next = right.next;
  if (right.next >= 0) symbols_[right.next].previous = best.at;
  if (left.previous >= 0) consider(left.previous);
  consider(best.at);
}

}  // namespace farskip::io
