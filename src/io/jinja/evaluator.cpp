#include "io/jinja/evaluator.h"

#include <utility>

#include "io/jinja/lexer.h"
#include "io/text.h"
#include "util/error.h"

namespace farskip::io::jinja {
namespace {

/// A chat takes a few thousand steps; a template that takes more than this never ends.
constexpr int64_t kMaxSteps = 2'000'000;
constexpr int64_t kLoopSteps = 10;  // what an iteration costs besides its body

}  // namespace

std::string Evaluator::run(const std::vector<Statement>& statements) {
  std::string out;
  execute(statements, out);
  return out;
}

void Evaluator::count_steps(int line, int64_t steps) {
  if ((steps_ += steps) > kMaxSteps) refuse(name_, line, "a template that runs too long", "an end");
}

Value Evaluator::lookup(const std::string& variable) const {
  for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope)
    if (const auto found = scope->find(variable); found != scope->end()) return found->second;
  return {};
}

Evaluator::Flow Evaluator::execute(const std::vector<Statement>& statements, std::string& out) {
  for (const Statement& statement : statements) {
    const Flow flow = execute(statement, out);
    if (flow != Flow::kOn) return flow;
  }
  return Flow::kOn;
}

Evaluator::Flow Evaluator::execute(const Statement& statement, std::string& out) {
  count_steps(statement.line, 1);
  switch (statement.kind) {
    case Statement::Kind::kText:
      out += statement.text;
      return Flow::kOn;
    case Statement::Kind::kPrint: {
      const auto text = text_of(evaluate(statement.value[0]));
      if (!text) refuse(name_, statement.line, "a list or dictionary to print", "text");
      out += *text;
      return Flow::kOn;
    }
    case Statement::Kind::kIf:
      return execute(evaluate(statement.value[0]).truth() ? statement.body : statement.otherwise,
                     out);
    case Statement::Kind::kFor:
      return loop(statement, out);
    case Statement::Kind::kSet:
      set(statement);
      return Flow::kOn;
    case Statement::Kind::kSetBlock: {
      std::string text;
      scopes_.emplace_back();
      execute(statement.body, text);
      scopes_.pop_back();
      scopes_.back()[statement.names[0]] = Json(text);
      return Flow::kOn;
    }
    case Statement::Kind::kBreak:
      return Flow::kBreak;
    case Statement::Kind::kContinue:
      return Flow::kContinue;
  }
  return Flow::kOn;
}

void Evaluator::set(const Statement& statement) {
  Value value = evaluate(statement.value[0]);
  if (statement.names.size() == 1) {
    scopes_.back()[statement.names[0]] = std::move(value);
    return;
  }
  const Value target = lookup(statement.names[0]);
  if (!target.space()) refuse(name_, statement.line, in_quotes(statement.names[0]), "a namespace");
  (*target.space())[statement.names[1]] = std::move(value);
}

Evaluator::Scope Evaluator::loop_variables(const Statement& statement, const Value& element) {
  if (statement.names.size() == 1) return {{statement.names[0], element}};
  const auto parts = element.elements();
  if (!parts || parts->size() != statement.names.size())
    refuse(name_, statement.line, shown(element.json()),
           util::concat(statement.names.size(), " values to unpack"));
  Scope scope;
  for (size_t i = 0; i < parts->size(); ++i) scope[statement.names[i]] = (*parts)[i];
  return scope;
}

Evaluator::Flow Evaluator::loop(const Statement& statement, std::string& out) {
  const Value whole = evaluate(statement.value[0]);
  const auto all = whole.elements();
  if (!all) refuse(name_, statement.line, shown(whole.json()), "something to iterate over");
  std::vector<Value> elements;
  for (const Value& element : *all) {
    bool wanted = true;
    if (!statement.condition.empty()) {
      scopes_.push_back(loop_variables(statement, element));
      wanted = evaluate(statement.condition[0]).truth();
      scopes_.pop_back();
    }
    if (wanted) elements.push_back(element);
  }
  if (elements.empty()) return execute(statement.otherwise, out);
  for (size_t i = 0; i < elements.size(); ++i) {
    count_steps(statement.line, kLoopSteps);
    Scope scope = loop_variables(statement, elements[i]);
    Value::Namespace loop = {{"index", Json(i + 1)},
                             {"index0", Json(i)},
                             {"revindex", Json(elements.size() - i)},
                             {"revindex0", Json(elements.size() - i - 1)},
                             {"first", Json(i == 0)},
                             {"last", Json(i + 1 == elements.size())},
                             {"length", Json(elements.size())}};
    if (i > 0) loop["previtem"] = elements[i - 1];
    if (i + 1 < elements.size()) loop["nextitem"] = elements[i + 1];
    scope["loop"] = Value(std::make_shared<Value::Namespace>(std::move(loop)));
    scopes_.push_back(std::move(scope));
    const Flow flow = execute(statement.body, out);
    scopes_.pop_back();
    if (flow == Flow::kBreak) break;
  }
  return Flow::kOn;
}

}  // namespace farskip::io::jinja
