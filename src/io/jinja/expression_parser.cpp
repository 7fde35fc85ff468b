#include "io/jinja/expression_parser.h"

#include <array>
#include <utility>

#include "util/error.h"

namespace farskip::io::jinja {
namespace {

using Kind = Expression::Kind;

// Syntax trees are as deep as these allow, and walked by recursion.
constexpr int kMaxDepth = 200;
constexpr int kMaxLinks = 500;
constexpr std::array<const char*, 6> kComparisons = {"==", "!=", "<=", ">=", "<", ">"};

Expression with(Expression parent, Expression child) {
  parent.children.push_back(std::move(child));
  return parent;
}

}  // namespace

class ExpressionParser::Depth {
 public:
  explicit Depth(ExpressionParser& parser) : parser_(parser) {
    if (++parser_.depth_ > kMaxDepth)
      refuse(parser_.tokens_.name(), parser_.tokens_.line(), "an expression nested too deep",
             "brackets within limits");
  }
  ~Depth() { --parser_.depth_; }

 private:
  ExpressionParser& parser_;
};

void ExpressionParser::count_link() {
  if (++links_ > kMaxLinks)
    refuse(tokens_.name(), tokens_.line(), "an expression that is too long",
           util::concat("at most ", kMaxLinks, " operators"));
}

Expression ExpressionParser::parse_without_condition() {
  links_ = 0;
  return parse_or();
}

Expression ExpressionParser::parse() {
  if (depth_ == 0) links_ = 0;
  const Depth depth(*this);
  Expression value = parse_or();
  while (tokens_.at_name("if")) {
    count_link();
    Expression condition = node(Kind::kCondition);
    tokens_.next();
    condition = with(with(std::move(condition), parse_or()), std::move(value));
    if (tokens_.take_name("else")) condition = with(std::move(condition), parse());
    value = std::move(condition);
  }
  return value;
}

Expression ExpressionParser::parse_joined(const char* word,
                                          Expression (ExpressionParser::*operand)()) {
  Expression left = (this->*operand)();
  while (tokens_.at_name(word)) {
    count_link();
    Expression both = node(Kind::kBinary, tokens_.next().text);
    left = with(with(std::move(both), std::move(left)), (this->*operand)());
  }
  return left;
}

Expression ExpressionParser::parse_or() {
  return parse_joined("or", &ExpressionParser::parse_and);
}

Expression ExpressionParser::parse_and() {
  return parse_joined("and", &ExpressionParser::parse_not);
}

Expression ExpressionParser::parse_not() {
  const Depth depth(*this);
  if (!tokens_.at_name("not")) return parse_comparison();
  Expression negation = node(Kind::kUnary, tokens_.next().text);
  return with(std::move(negation), parse_not());
}

Expression ExpressionParser::parse_comparison() {
  Expression left = parse_sum();
  std::vector<Expression> comparisons;  // a < b < c is a < b and b < c
  for (;;) {
    Expression comparison = node(Kind::kBinary);
    for (const char* sign : kComparisons)
      if (tokens_.at_operator(sign)) comparison.name = sign;
    if (tokens_.at_name("in")) comparison.name = "in";
    if (tokens_.at_name("not") && tokens_.name_follows("in")) {
      tokens_.next();
      comparison.name = "not in";
    }
    if (comparison.name.empty()) break;
    count_link();
    tokens_.next();
    Expression right = parse_sum();
    comparisons.push_back(with(with(std::move(comparison), left), right));
    left = std::move(right);
  }
  if (comparisons.empty()) return left;
  Expression all = std::move(comparisons[0]);
  for (size_t i = 1; i < comparisons.size(); ++i)
    all = with(with(node(Kind::kBinary, "and"), std::move(all)), std::move(comparisons[i]));
  return all;
}

Expression ExpressionParser::parse_chain(std::initializer_list<const char*> operators,
                                         Expression (ExpressionParser::*operand)()) {
  Expression left = (this->*operand)();
  for (;;) {
    Expression both = node(Kind::kBinary);
    for (const char* sign : operators)
      if (tokens_.at_operator(sign)) both.name = sign;
    if (both.name.empty()) return left;
    count_link();
    tokens_.next();
    left = with(with(std::move(both), std::move(left)), (this->*operand)());
  }
}

Expression ExpressionParser::parse_sum() {
  return parse_chain({"+", "-"}, &ExpressionParser::parse_concatenation);
}

Expression ExpressionParser::parse_concatenation() {
  return parse_chain({"~"}, &ExpressionParser::parse_product);
}

Expression ExpressionParser::parse_product() {
  return parse_chain({"*", "/", "//", "%"}, &ExpressionParser::parse_operand);
}

Expression ExpressionParser::parse_operand() {
  return parse_filters(parse_sign());
}

Expression ExpressionParser::parse_sign() {
  const Depth depth(*this);
  Expression value = node(Kind::kUnary);
  if (tokens_.at_operator("-")) {
    value.name = tokens_.next().text;
    value = with(std::move(value), parse_sign());
  } else if (tokens_.take_operator("+")) {
    value = parse_sign();
  } else {
    value = parse_primary();
  }
  return parse_postfix(std::move(value));
}

Expression ExpressionParser::parse_primary() {
  const Token& token = tokens_.peek();
  switch (token.kind) {
    case Token::Kind::kName:
      return parse_name();
    case Token::Kind::kString: {
      Expression value = node(Kind::kLiteral);
      std::string text;
      while (tokens_.at(Token::Kind::kString)) text += tokens_.next().text;
      value.literal = text;
      return value;
    }
    case Token::Kind::kInteger:
    case Token::Kind::kFloat:
      return parse_number();
    default:
      break;
  }
  if (tokens_.at_operator("[")) return parse_list();
  if (tokens_.at_operator("{")) return parse_dict();
  if (!tokens_.take_operator("(")) tokens_.refuse_next("an expression");
  Expression value = parse();
  if (tokens_.at_operator(",")) tokens_.refuse_next("\")\" (tuples are not supported)");
  tokens_.expect_operator(")");
  return value;
}

Expression ExpressionParser::parse_name() {
  Expression value = node(Kind::kLiteral);
  const std::string name = tokens_.next().text;
  if (name == "true" || name == "True") {
    value.literal = true;
  } else if (name == "false" || name == "False") {
    value.literal = false;
  } else if (name != "none" && name != "None") {
    value.kind = Kind::kName;
    value.name = name;
  }
  return value;
}

Expression ExpressionParser::parse_number() {
  Expression value = node(Kind::kLiteral);
  const Token token = tokens_.next();
  if (token.kind == Token::Kind::kInteger)
    value.literal = static_cast<int64_t>(std::stoll(token.text));
  else
    value.literal = std::stod(token.text);
  return value;
}

Expression ExpressionParser::parse_list() {
  Expression list = node(Kind::kList);
  tokens_.expect_operator("[");
  while (!tokens_.take_operator("]")) {
    if (!list.children.empty()) tokens_.expect_operator(",");
    if (tokens_.take_operator("]")) break;
    list.children.push_back(parse());
  }
  return list;
}

Expression ExpressionParser::parse_dict() {
  Expression dict = node(Kind::kDict);
  tokens_.expect_operator("{");
  while (!tokens_.take_operator("}")) {
    if (!dict.children.empty()) tokens_.expect_operator(",");
    if (tokens_.take_operator("}")) break;
    dict.children.push_back(parse());
    tokens_.expect_operator(":");
    dict.children.push_back(parse());
  }
  return dict;
}

Expression ExpressionParser::parse_postfix(Expression subject) {
  for (;; count_link()) {
    if (tokens_.at_operator(".")) {
      Expression attribute = node(Kind::kAttribute);
      tokens_.next();
      attribute.name = tokens_.expect(Token::Kind::kName, "a name after \".\"").text;
      subject = with(std::move(attribute), std::move(subject));
    } else if (tokens_.at_operator("[")) {
      subject = parse_subscript(std::move(subject));
    } else if (tokens_.at_operator("(")) {
      Expression call = with(node(Kind::kCall), std::move(subject));
      parse_arguments(call);
      subject = std::move(call);
    } else {
      return subject;
    }
  }
}

Expression ExpressionParser::parse_subscript(Expression subject) {
  Expression item = with(node(Kind::kItem), std::move(subject));
  tokens_.expect_operator("[");
  const auto part = [&] {
    return tokens_.at_operator(":") || tokens_.at_operator("]") ? node(Kind::kLiteral) : parse();
  };
  if (tokens_.at_operator("]")) tokens_.refuse_next("an expression");
  item.children.push_back(part());
  if (tokens_.take_operator(":")) {
    item.kind = Kind::kSlice;
    item.children.push_back(part());
    item.children.push_back(tokens_.take_operator(":") ? part() : node(Kind::kLiteral));
  }
  tokens_.expect_operator("]");
  return item;
}

void ExpressionParser::parse_arguments(Expression& call) {
  tokens_.expect_operator("(");
  bool first = true;
  while (!tokens_.take_operator(")")) {
    if (!first) tokens_.expect_operator(",");
    if (tokens_.take_operator(")")) break;
    first = false;
    Expression argument = parse();
    if (argument.kind == Kind::kName && tokens_.take_operator("=")) {
      call.keywords.push_back(argument.name);
      argument = parse();
    } else if (!call.keywords.empty()) {
      tokens_.refuse_next("no plain argument behind a named one");
    }
    call.children.push_back(std::move(argument));
  }
}

Expression ExpressionParser::parse_filters(Expression subject) {
  for (;; count_link()) {
    if (tokens_.at_operator("|")) {
      Expression filter = with(node(Kind::kFilter), std::move(subject));
      tokens_.next();
      filter.name = tokens_.expect(Token::Kind::kName, "the name of a filter").text;
      if (tokens_.at_operator("(")) parse_arguments(filter);
      subject = std::move(filter);
    } else if (tokens_.at_name("is")) {
      subject = parse_test(std::move(subject));
    } else if (tokens_.at_operator("(")) {
      Expression call = with(node(Kind::kCall), std::move(subject));
      parse_arguments(call);
      subject = std::move(call);
    } else {
      return subject;
    }
  }
}

Expression ExpressionParser::parse_test(Expression subject) {
  Expression test = with(node(Kind::kTest), std::move(subject));
  tokens_.next();
  const bool negated = tokens_.take_name("not");
  test.name = tokens_.expect(Token::Kind::kName, "the name of a test").text;
  const bool name_ends = tokens_.at_name("else") || tokens_.at_name("or") ||
                         tokens_.at_name("and") || tokens_.at_name("is") || tokens_.at_name("if") ||
                         tokens_.at_name("in") || tokens_.at_name("not");
  const bool is_operand = tokens_.at(Token::Kind::kString) || tokens_.at(Token::Kind::kInteger) ||
                          tokens_.at(Token::Kind::kFloat) || tokens_.at_operator("[") ||
                          tokens_.at_operator("{") ||
                          (tokens_.at(Token::Kind::kName) && !name_ends);
  if (tokens_.at_operator("("))
    parse_arguments(test);
  else if (is_operand)
    test.children.push_back(parse_postfix(parse_primary()));
  return negated ? with(node(Kind::kUnary, "not"), std::move(test)) : test;
}

}  // namespace farskip::io::jinja
