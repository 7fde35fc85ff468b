#include "measure/variant.h"

#include "util/table.h"

namespace farskip::measure {

using model::Execution;

const char* Variant::connectivity_name() const {
  return converted ? "farskip" : "regular";
}

const char* Variant::execution_name() const {
  return execution == Execution::blocking ? "blocking" : "overlapped";
}

std::vector<Variant> all_variants() {
  return {{false, Execution::blocking, true},    {false, Execution::overlapped, true},
          {true, Execution::blocking, true},     {true, Execution::overlapped, true},
          {false, Execution::overlapped, false}, {true, Execution::overlapped, false}};
}

void put(nlohmann::ordered_json& json, const std::string& name, Summary summary, double unit) {
  json[name] = summary.median * unit;
  json[name + "_spread"] = summary.spread * unit;
}

std::string with_spread(Summary summary, double unit, int digits) {
  return util::fixed(summary.median * unit, digits) + " ± " +
         util::fixed(summary.spread * unit, digits);
}

std::string percent(double share) {
  return util::fixed(100 * share, 1) + " %";
}

}  // namespace farskip::measure
