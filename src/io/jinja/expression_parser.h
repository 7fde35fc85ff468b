// Expressions of Jinja, by recursive descent.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "io/jinja/syntax.h"
#include "io/jinja/token_stream.h"

namespace farskip::io::jinja {

/// Reads expressions from a stream. Precedence is jinja2's: condition, or, and, not, comparison,
/// + and -, ~, * and /, sign; filters and tests bind tighter than all of them.
class ExpressionParser {
 public:
  explicit ExpressionParser(TokenStream& tokens) : tokens_(tokens) {}

  Expression parse();
  /// Without "a if b else c": what a loop runs over, before its own "if".
  Expression parse_without_condition();

 private:
  /// Operands joined by a word, from the left.
  Expression parse_joined(const char* word, Expression (ExpressionParser::*operand)());
  Expression parse_or();
  Expression parse_and();
  Expression parse_not();
  Expression parse_comparison();
  Expression parse_sum();
  Expression parse_concatenation();
  Expression parse_product();
  Expression parse_operand();
  Expression parse_sign();
  Expression parse_primary();
  Expression parse_name();
  Expression parse_number();
  Expression parse_list();
  Expression parse_dict();
  Expression parse_postfix(Expression subject);
  Expression parse_filters(Expression subject);
  Expression parse_test(Expression subject);
  Expression parse_subscript(Expression subject);
  void parse_arguments(Expression& call);

  /// Operands of one level joined from the left.
  Expression parse_chain(std::initializer_list<const char*> operators,
                         Expression (ExpressionParser::*operand)());

  Expression node(Expression::Kind kind, std::string name = "") const {
    return {kind, tokens_.line(), std::move(name), nullptr, {}, {}};
  }
  class Depth;
  void count_link();

  TokenStream& tokens_;
  int depth_ = 0;  ///< of brackets and the like
  int links_ = 0;  ///< operators and accesses of the outermost expression
};

}  // namespace farskip::io::jinja
