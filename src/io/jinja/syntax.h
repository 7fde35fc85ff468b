// What a template consists of, once parsed.
#pragma once
#include <string>
#include <vector>

#include "io/json_file.h"

namespace farskip::io::jinja {

/// A node of an expression. Which members count depends on the kind.
struct Expression {
  enum class Kind {
    kLiteral,    ///< literal
    kName,       ///< name
    kList,       ///< children
    kDict,       ///< children: key, value, key, value, ...
    kAttribute,  ///< children[0].name
    kItem,       ///< children[0][children[1]]
    kSlice,      ///< children[0][children[1]:children[2]:children[3]]; null literals where absent
    kCall,       ///< children[0](children[1..]), the last of which may have names
    kFilter,     ///< children[0] | name(children[1..]), as a call
    kTest,       ///< children[0] is name(children[1..])
    kUnary,      ///< name (not, -) children[0]
    kBinary,     ///< children[0] name children[1]
    kCondition,  ///< children[1] if children[0] else children[2], which may be missing
  };
  Kind kind;
  int line;
  std::string name;
  Json literal;
  std::vector<Expression> children;
  std::vector<std::string> keywords;  ///< names of the last children of a kCall or kFilter
};

struct Statement {
  enum class Kind {
    kText,      ///< text
    kPrint,     ///< {{ value }}
    kIf,        ///< if value: body, else: otherwise (an elif is one if there)
    kFor,       ///< for names in value if condition: body, else: otherwise
    kSet,       ///< set names[0] = value; with two names: set names[0].names[1] = value
    kSetBlock,  ///< set names[0]: the rendered body
    kBreak,
    kContinue,
  };
  Kind kind;
  int line;
  std::string text;
  std::vector<std::string> names;
  std::vector<Expression> value;      ///< one or none
  std::vector<Expression> condition;  ///< one or none
  std::vector<Statement> body, otherwise;
};

}  // namespace farskip::io::jinja
