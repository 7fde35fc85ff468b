// What bench --trace writes.
#pragma once
#include <string>

#include "measure/timeline.h"
#include "measure/variant.h"
#include "ranks.h"

namespace farskip::app {

/// --trace PATH
void add_trace(CLI::App& verb, std::string& path);

/// A variant's timeline of all ranks as a page and for Perfetto: PATH-farskip-overlapped.html and
/// .json. `what` begins the title. Every rank calls it, rank 0 writes.
void write_trace(const std::string& path, const std::string& what, const measure::Variant& variant,
                 const measure::Timeline& own, const Ranks& ranks);

}  // namespace farskip::app
