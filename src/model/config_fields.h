// What is known of the fields of config.json, as tables: none is passed over in silence.
#pragma once
#include <string>
#include <vector>

#include "io/json_fields.h"

namespace farskip::model {

enum class FieldUse {
  read,       ///< by a parsing function; absent, it is `standard` (null: the function decides)
  defaulted,  ///< the same, and null too stands for `standard`
  fixed,      ///< the values in the list `standard` mean what is computed; others are refused
  harmless,   ///< changes nothing that is computed here
  noted,      ///< not taken into account; named in a note unless its value is in `standard`
  alias,      ///< another name of the field that `standard` names
};

struct FieldRule {
  const char* key;
  FieldUse use;
  io::Json standard;
};

/// Rules of one family; of two for a key the later one counts.
using FieldTable = std::vector<FieldRule>;

/// What all families share, the family's own rules after it.
FieldTable with_common_fields(const FieldTable& family);

/// The configuration with what is absent at its standard value and aliases under the names that are
/// read. InputError by name for a value that is not supported. A field without a rule is named in
/// `notes` unless it is null or empty.
io::Json complete(const io::Json& json, const std::string& name, const FieldTable& table,
                  std::vector<std::string>& notes);

/// An id or a list of ids, each within the vocabulary; -1, which some files say for "none", is
/// none.
std::vector<int64_t> token_ids(const io::Fields& fields, const char* key, int64_t vocabulary);

// Rows of a table. Absence stands for the class's default in transformers (4.57.6, 5.24).
FieldRule read(const char* key, io::Json standard = nullptr);
FieldRule defaulted(const char* key, io::Json standard);
FieldRule fixed(const char* key, std::vector<io::Json> values);
FieldRule harmless(const char* key);
FieldRule noted(const char* key, std::vector<io::Json> values);
FieldRule alias(const char* key, const char* of);

}  // namespace farskip::model
