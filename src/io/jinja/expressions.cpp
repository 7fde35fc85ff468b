// The half of the evaluator that computes values.
#include <algorithm>
#include <utility>

#include "io/jinja/evaluator.h"
#include "io/jinja/lexer.h"
#include "io/jinja/strings.h"
#include "io/text.h"
#include "util/error.h"

namespace farskip::io::jinja {
namespace {

using Kind = Expression::Kind;

/// The indices that Python's slice [start:end:step] takes of `size` elements.
std::vector<size_t> slice_indices(std::optional<int64_t> start, std::optional<int64_t> end,
                                  int64_t step, int64_t size) {
  const int64_t low = step > 0 ? 0 : -1, high = step > 0 ? size : size - 1;
  const auto bound = [&](std::optional<int64_t> given, int64_t otherwise) {
    if (!given) return otherwise;
    return std::clamp(*given < 0 ? *given + size : *given, low, high);
  };
  const int64_t first = bound(start, step > 0 ? low : high),
                last = bound(end, step > 0 ? high : low);
  std::vector<size_t> indices;
  for (int64_t i = first; step > 0 ? i < last : i > last; i += step) indices.push_back(i);
  return indices;
}

}  // namespace

Value Evaluator::evaluate(const Expression& expression) {
  count_steps(expression.line, 1);
  switch (expression.kind) {
    case Kind::kLiteral:
      return expression.literal;
    case Kind::kName:
      return lookup(expression.name);
    case Kind::kList:
    case Kind::kDict:
      return literal_collection(expression);
    case Kind::kAttribute:
      return attribute(expression);
    case Kind::kItem:
      return item(expression);
    case Kind::kSlice:
      return slice(expression);
    case Kind::kCall:
      return call(expression);
    case Kind::kFilter:
      return call_filter(call_of(expression, expression.name, evaluate(expression.children[0])));
    case Kind::kTest:
      return Json(
          call_test(call_of(expression, expression.name, evaluate(expression.children[0]))));
    case Kind::kUnary:
    case Kind::kBinary:
      return operation(expression);
    case Kind::kCondition:
      if (evaluate(expression.children[0]).truth()) return evaluate(expression.children[1]);
      return expression.children.size() > 2 ? evaluate(expression.children[2]) : Value();
  }
  return {};
}

Value Evaluator::literal_collection(const Expression& expression) {
  const auto plain = [&](const Expression& part) {
    const Value value = evaluate(part);
    if (value.undefined() || value.space())
      refuse(name_, part.line, "an undefined value in a list or dictionary", "a value");
    return value.json();
  };
  if (expression.kind == Kind::kList) {
    Json list = Json::array();
    for (const Expression& part : expression.children) list.push_back(plain(part));
    return list;
  }
  Json dict = Json::object();
  for (size_t i = 0; i < expression.children.size(); i += 2) {
    const Json key = plain(expression.children[i]);
    if (!key.is_string()) refuse(name_, expression.line, "the key " + shown(key), "a string");
    dict[key.get<std::string>()] = plain(expression.children[i + 1]);
  }
  return dict;
}

Value Evaluator::subject_of(const Expression& expression, const char* use) {
  Value subject = evaluate(expression.children[0]);
  if (subject.undefined())
    refuse(name_, expression.line, util::concat(use, " of an undefined value"), "a defined one");
  return subject;
}

Value Evaluator::attribute(const Expression& expression) {
  const Value subject = subject_of(expression, ("." + expression.name).c_str());
  if (!subject.space() && is_method(expression.name))
    refuse(name_, expression.line, "the method " + expression.name + " without a call", "a call");
  return subject.entry(expression.name);
}

Value Evaluator::item(const Expression& expression) {
  const Value subject = subject_of(expression, "an item");
  const Value index = evaluate(expression.children[1]);
  if (index.is_string()) return subject.entry(index.string());
  if (index.json().is_number_integer()) return subject.element(index.json().get<int64_t>());
  refuse(name_, expression.line, "the index " + shown(index.json()), "a string or whole number");
}

Value Evaluator::slice(const Expression& expression) {
  const Value subject = subject_of(expression, "a slice");
  const auto bound = [&](size_t child) -> std::optional<int64_t> {
    const Value value = evaluate(expression.children[child]);
    if (value.is_none()) return std::nullopt;
    if (!value.json().is_number_integer() || std::abs(value.json().get<double>()) > 1e15)
      refuse(name_, expression.line, "the bound " + shown(value.json()), "a whole number");
    return value.json().get<int64_t>();
  };
  const auto start = bound(1), end = bound(2);
  const int64_t step = bound(3).value_or(1);
  const auto parts = subject.elements();
  if (step == 0 || !parts || subject.json().is_object())
    refuse(name_, expression.line, "a slice of " + shown(subject.json()),
           "a list or string, and a step other than 0");
  Json list = Json::array();
  std::string text;
  for (const size_t i : slice_indices(start, end, step, static_cast<int64_t>(parts->size()))) {
    if (subject.is_string())
      text += (*parts)[i].string();
    else
      list.push_back((*parts)[i].json());
  }
  return subject.is_string() ? Json(text) : list;
}

Call Evaluator::call_of(const Expression& expression, std::string name, Value subject) {
  Call call{name_, expression.line, std::move(name), std::move(subject), {}, {}};
  const size_t plain = expression.children.size() - expression.keywords.size();
  for (size_t i = 1; i < expression.children.size(); ++i) {
    Value value = evaluate(expression.children[i]);
    if (i < plain)
      call.arguments.push_back(std::move(value));
    else
      call.keywords[expression.keywords[i - plain]] = std::move(value);
  }
  return call;
}

Value Evaluator::call(const Expression& expression) {
  const Expression& callee = expression.children[0];
  if (callee.kind == Kind::kName) return call_function(call_of(expression, callee.name, {}));
  if (callee.kind != Kind::kAttribute)
    refuse(name_, expression.line, "a call of a value", "a function or method");
  return call_method(
      call_of(expression, callee.name, subject_of(callee, ("." + callee.name).c_str())));
}

Value Evaluator::operation(const Expression& expression) {
  Value left = evaluate(expression.children[0]);
  const std::string& sign = expression.name;
  if (sign == "not") return Json(!left.truth());
  if (sign == "and") return left.truth() ? evaluate(expression.children[1]) : left;
  if (sign == "or") return left.truth() ? left : evaluate(expression.children[1]);
  const Call use{name_, expression.line, sign, {}, {}, {}};
  if (expression.kind == Kind::kUnary) return binary(use, Json(0), left);
  return binary(use, left, evaluate(expression.children[1]));
}

}  // namespace farskip::io::jinja
