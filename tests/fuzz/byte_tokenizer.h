// A small byte-level tokenizer.json for the fuzzers.
#pragma once
#include <initializer_list>

#include "io/byte_level.h"
#include "io/json_file.h"

/// All bytes, the `words` that `merges` make of them, and "<s>" after them.
inline farskip::io::Json byte_tokenizer(std::initializer_list<const char*> words,
                                        std::initializer_list<const char*> merges) {
  using farskip::io::Json;
  Json vocabulary = Json::object();
  const auto& alphabet = farskip::io::byte_level_alphabet();
  for (int byte = 0; byte < 256; ++byte) vocabulary[alphabet[byte]] = byte;
  for (const char* word : words) vocabulary[word] = vocabulary.size();
  Json merge_list = Json::array();
  for (const char* merge : merges) merge_list.push_back(merge);
  return {
      {"added_tokens",
       {{{"id", vocabulary.size()},
         {"content", "<s>"},
         {"special", true},
         {"single_word", false},
         {"lstrip", false},
         {"rstrip", false},
         {"normalized", false}}}},
      {"normalizer", nullptr},
      {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}}},
      {"post_processor", nullptr},
      {"decoder", {{"type", "ByteLevel"}}},
      {"model", {{"type", "BPE"}, {"vocab", vocabulary}, {"merges", merge_list}}}};
}
