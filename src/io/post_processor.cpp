#include "io/post_processor.h"

#include <string>
#include <utility>

#include "util/error.h"

namespace farskip::io {

PostProcessor PostProcessor::parse(const Fields& json, int64_t vocabulary_size) {
  PostProcessor result;
  result.add(json, vocabulary_size);
  return result;
}

void PostProcessor::add(const Fields& json, int64_t vocabulary_size) {
  const std::string type = json.string("type");
  if (type == "Sequence") {
    const Json steps = json.json().value("processors", Json());
    if (!steps.is_array()) json.refuse("processors", "a list");
    for (size_t i = 0; i < steps.size(); ++i)
      add(Fields(steps[i], util::concat(json.label(), "[", i, "]")), vocabulary_size);
  } else if (type == "TemplateProcessing") {
    add_template(json, vocabulary_size);
  } else if (type != "ByteLevel") {
    json.refuse("type", "Sequence, TemplateProcessing or ByteLevel (others are not supported)");
  }
}

void PostProcessor::add_template(const Fields& json, int64_t vocabulary_size) {
  const Json pieces = json.json().value("single", Json());
  if (!pieces.is_array()) json.refuse("single", "a list of pieces");
  Template result;
  for (size_t i = 0; i < pieces.size(); ++i) {
    const Fields piece(pieces[i], util::concat(json.label(), ": single[", i, "]"));
    if (piece.has("Sequence")) {
      if (piece.object("Sequence").string("id") != "A") piece.refuse("Sequence", "id A");
      result.around.emplace_back();
      continue;
    }
    const std::string name = piece.object("SpecialToken").string("id");
    const Fields token = json.object("special_tokens").object(name.c_str());
    for (const int64_t id : token.integers("ids", 0, vocabulary_size - 1))
      result.around.back().push_back(id);
  }
  templates_.push_back(std::move(result));
}

std::vector<int64_t> PostProcessor::add_special_tokens(std::vector<int64_t> ids) const {
  for (const Template& pieces : templates_) {
    std::vector<int64_t> all = pieces.around.front();
    for (size_t i = 1; i < pieces.around.size(); ++i) {
      all.insert(all.end(), ids.begin(), ids.end());
      all.insert(all.end(), pieces.around[i].begin(), pieces.around[i].end());
    }
    ids = std::move(all);
  }
  return ids;
}

}  // namespace farskip::io
