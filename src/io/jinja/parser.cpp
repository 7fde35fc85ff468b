#include "io/jinja/parser.h"

#include <algorithm>
#include <initializer_list>
#include <utility>

#include "io/jinja/expression_parser.h"
#include "io/jinja/token_stream.h"
#include "util/error.h"

namespace farskip::io::jinja {
namespace {

using Kind = Statement::Kind;

constexpr int kMaxDepth = 100;

class Parser {
 public:
  Parser(std::string_view source, const std::string& name)
      : tokens_(tokenize(source, name), name), expressions_(tokens_) {}

  std::vector<Statement> run() { return body({}); }

 private:
  /// Statements up to a block that starts with one of `ends`, whose name is then next; up to the
  /// end of the template where there are none.
  std::vector<Statement> body(std::initializer_list<const char*> ends) {
    if (++depth_ > kMaxDepth)
      refuse(tokens_.name(), tokens_.line(), "blocks nested too deep",
             util::concat("at most ", kMaxDepth, " levels"));
    std::vector<Statement> statements;
    while (!tokens_.at(Token::Kind::kEnd)) {
      if (tokens_.at(Token::Kind::kText)) {
        statements.push_back(node(Kind::kText));
        statements.back().text = tokens_.next().text;
      } else if (tokens_.at(Token::Kind::kPrintBegin)) {
        statements.push_back(print());
      } else {
        tokens_.expect(Token::Kind::kBlockBegin, "a tag");
        if (std::any_of(ends.begin(), ends.end(),
                        [this](const char* end) { return tokens_.at_name(end); })) {
          --depth_;
          return statements;
        }
        statements.push_back(block());
      }
    }
    if (ends.size() > 0) tokens_.refuse_next(util::concat("{% ", *(ends.end() - 1), " %}"));
    --depth_;
    return statements;
  }

  Statement node(Kind kind) const { return {kind, tokens_.line(), "", {}, {}, {}, {}, {}}; }

  Statement print() {
    Statement statement = node(Kind::kPrint);
    tokens_.next();
    statement.value.push_back(expressions_.parse());
    tokens_.expect(Token::Kind::kPrintEnd, "}}");
    return statement;
  }

  void end_block() { tokens_.expect(Token::Kind::kBlockEnd, "%}"); }

  Statement block() {
    if (tokens_.take_name("if")) return if_block();
    if (tokens_.take_name("for")) return for_block();
    if (tokens_.take_name("set")) return set_block();
    if (loops_ > 0 && (tokens_.at_name("break") || tokens_.at_name("continue"))) {
      Statement statement = node(tokens_.next().text == "break" ? Kind::kBreak : Kind::kContinue);
      end_block();
      return statement;
    }
    tokens_.refuse_next("if, for, set or, in a loop, break or continue (others are not supported)");
  }

  Statement if_block() {
    Statement statement = node(Kind::kIf);
    statement.value.push_back(expressions_.parse());
    end_block();
    statement.body = body({"elif", "else", "endif"});
    if (tokens_.take_name("elif")) {
      if (++depth_ > kMaxDepth) tokens_.refuse_next("a shorter chain of elif");
      statement.otherwise.push_back(if_block());  // which reads the endif
      --depth_;
      return statement;
    }
    if (tokens_.take_name("else")) {
      end_block();
      statement.otherwise = body({"endif"});
    }
    tokens_.next();
    end_block();
    return statement;
  }

  Statement for_block() {
    Statement statement = node(Kind::kFor);
    do {
      statement.names.push_back(tokens_.expect(Token::Kind::kName, "a variable").text);
    } while (tokens_.take_operator(","));
    if (!tokens_.take_name("in")) tokens_.refuse_next("\"in\"");
    statement.value.push_back(expressions_.parse_without_condition());
    if (tokens_.take_name("if")) statement.condition.push_back(expressions_.parse());
    end_block();
    ++loops_;
    statement.body = body({"else", "endfor"});
    --loops_;
    if (tokens_.take_name("else")) {
      end_block();
      statement.otherwise = body({"endfor"});
    }
    tokens_.next();
    end_block();
    return statement;
  }

  Statement set_block() {
    Statement statement = node(Kind::kSet);
    statement.names.push_back(tokens_.expect(Token::Kind::kName, "a variable").text);
    if (tokens_.take_operator("."))
      statement.names.push_back(tokens_.expect(Token::Kind::kName, "a name after \".\"").text);
    if (statement.names.size() == 1 && tokens_.at(Token::Kind::kBlockEnd)) {
      end_block();
      statement.kind = Kind::kSetBlock;
      // A loop around the block does not reach into it.
      const int loops = std::exchange(loops_, 0);
      statement.body = body({"endset"});
      loops_ = loops;
      tokens_.next();
    } else {
      tokens_.expect_operator("=");
      statement.value.push_back(expressions_.parse());
    }
    end_block();
    return statement;
  }

  TokenStream tokens_;
  ExpressionParser expressions_;
  int depth_ = 0;
  int loops_ = 0;  ///< around the current statement
};

}  // namespace

std::vector<Statement> parse(std::string_view source, const std::string& name) {
  return Parser(source, name).run();
}

}  // namespace farskip::io::jinja
