// Runs parsed templates.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "io/jinja/builtins.h"
#include "io/jinja/syntax.h"
#include "io/jinja/value.h"

namespace farskip::io::jinja {

/// One run of one template.
class Evaluator {
 public:
  using Scope = std::map<std::string, Value>;

  /// `name` stands in messages and must outlive this.
  Evaluator(const std::string& name, Scope globals) : name_(name) {
    scopes_.push_back(std::move(globals));
  }

  /// The text. InputError naming the line of what can't be done.
  std::string run(const std::vector<Statement>& statements);

 private:
  enum class Flow { kOn, kBreak, kContinue };

  Flow execute(const std::vector<Statement>& statements, std::string& out);
  Flow execute(const Statement& statement, std::string& out);
  Flow loop(const Statement& statement, std::string& out);
  Scope loop_variables(const Statement& statement, const Value& element);
  void set(const Statement& statement);

  Value evaluate(const Expression& expression);
  Value attribute(const Expression& expression);
  Value item(const Expression& expression);
  Value slice(const Expression& expression);
  Value call(const Expression& expression);
  Value operation(const Expression& expression);
  Value literal_collection(const Expression& expression);
  Call call_of(const Expression& expression, std::string name, Value subject);
  Value subject_of(const Expression& expression, const char* use);

  Value lookup(const std::string& variable) const;
  void count_steps(int line, int64_t steps);

  const std::string& name_;
  std::vector<Scope> scopes_;  ///< the innermost last
  int64_t steps_ = 0;
};

}  // namespace farskip::io::jinja
