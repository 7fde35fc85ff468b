#include "traces.h"

#include <ATen/ATen.h>

#include <cstring>
#include <filesystem>
#include <iostream>

#include "bench_options.h"
#include "io/atomic_file.h"
#include "measure/chrome_trace.h"
#include "measure/timeline_json.h"
#include "measure/timeline_page.h"
#include "util/error.h"

namespace farskip::app {
namespace {

/// The timelines of every rank, on all of them.
std::vector<measure::Timeline> gather(const measure::Timeline& own, const comm::Group& world) {
  const std::string text = measure::to_json(own);
  const at::Tensor lengths =
      world.all_gather("timelines", at::full({1}, static_cast<int64_t>(text.size()), at::kLong))
          .wait();
  at::Tensor bytes = at::zeros({1, lengths.max().item<int64_t>()}, at::kByte);
  std::memcpy(bytes.data_ptr(), text.data(), text.size());
  const at::Tensor all = world.all_gather("timelines", bytes).wait();
  std::vector<measure::Timeline> found;
  for (int64_t r = 0; r < world.size(); ++r)
    found.push_back(measure::timeline_from_json({static_cast<const char*>(all[r].const_data_ptr()),
                                                 static_cast<size_t>(lengths[r].item<int64_t>())}));
  return found;
}

void write_file(const std::filesystem::path& path, const std::string& text) {
  io::AtomicFile file(path);
  file.write(text);
  file.commit();
}

}  // namespace

void add_trace(CLI::App& verb, std::string& path) {
  verb.add_option("--trace", path,
                  "Also write PATH-regular-blocking.html and so on: a picture of one step of every "
                  "rank, and .json for Perfetto or chrome://tracing");
}

void write_trace(const std::string& path, const std::string& what, const measure::Variant& variant,
                 const measure::Timeline& own, const Ranks& ranks) {
  const auto timelines = gather(own, ranks.grid.world);
  if (!ranks.leads()) return;
  const std::string name =
      util::concat(variant.converted ? "farskip" : "regular", "-",
                   variant.execution == model::Execution::blocking ? "blocking" : "overlapped");
  const std::string title = util::concat(what, ", ", name, ", link ", link_name(ranks));
  write_file(util::concat(path, "-", name, ".json"), measure::chrome_trace(timelines, title));
  write_file(util::concat(path, "-", name, ".html"), measure::timeline_page(timelines, title));
  std::cerr << "timeline: " << path << "-" << name << ".html (.json for Perfetto)\n";
}

}  // namespace farskip::app
