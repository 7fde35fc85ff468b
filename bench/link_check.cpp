// Whether the emulated network of `farskip launch --link` holds its rate: times of messages beside
// bytes / rate, by size.
//
//   link_check [--links RATE ...] [--ranks N ...] [--bytes N ...] [--repeats N]
//
// Frame headers count against the rate, so 8948 of 9014 bytes, 99.3 %, is the most that arrives.
// Every size is exchanged in several ways:
//   one way          even ranks send it to the next odd one: the link itself
//   all-to-all       each rank sends it to the others together, and receives it from them
//   all-reduce       the sum of tensors of that size by Gloo's ring
//   copies and add   the same sum: everybody gets everything, and adds it up
//   parts and add    the same sum: rank r gets the r-th parts, adds them up and sends the sum to
//   all
#include <ATen/ATen.h>
#include <c10/util/Logging.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <iostream>
#include <numeric>

#include "comm/local_ranks.h"
#include "comm/rendezvous.h"
#include "util/table.h"

namespace {

using namespace farskip;

struct Options {
  std::vector<std::string> links{"200mbit", "1gbit"};
  std::vector<int64_t> ranks{2, 4};
  std::vector<int64_t> bytes;
  int64_t repeats = 9;
};

/// One rank; the first prints.
void measure(const Options& options) {
  comm::Rendezvous rendezvous(comm::launch_environment());
  const comm::Group all = rendezvous.all();
  const std::string link = std::getenv("FARSKIP_LINK");
  const double rate = static_cast<double>(comm::link_rate(link).bits_per_second);
  const int64_t size = all.size(), me = all.rank();
  const auto send = [&](auto rows) {
    std::vector<int64_t> sent, received;
    for (int64_t r = 0; r < size; ++r) {
      sent.push_back(r == me ? 0 : rows(me, r));
      received.push_back(r == me ? 0 : rows(r, me));
    }
    const int64_t total = std::accumulate(sent.begin(), sent.end(), int64_t{0});
    all.all_to_all("rows", at::zeros({total}, at::kByte), sent, received).wait();
  };
  const auto exchange = [&](const std::string& way, int64_t bytes, const at::Tensor& x) {
    const int64_t part = bytes / (size - 1), share = bytes / 4 / size;
    if (way == "all-reduce") {
      all.all_reduce("sum", x).wait();
    } else if (way == "copies and add") {
      std::vector<int64_t> others(size, x.numel());
      others[me] = 0;
      all.all_to_all("copies", x.repeat({size - 1}), others, others)
          .wait()
          .view({size - 1, -1})
          .sum(0);
    } else if (way == "parts and add") {
      const std::vector<int64_t> each(size, share);
      const at::Tensor sum = all.all_to_all("parts", x, each, each).wait().view({size, -1}).sum(0);
      all.all_to_all("sums", sum.repeat({size}), each, each).wait();
    } else if (way == "one way") {
      send([&](int64_t from, int64_t to) {
        return from % 2 == 0 && to == from + 1 ? bytes : int64_t{0};
      });
    } else {
      send([&](int64_t, int64_t) { return part; });
    }
  };
  util::Table table(
      {"link", "ranks", "KiB", "exchange", "ms", "quartiles", "bytes / rate", "of the rate"});
  for (const int64_t bytes : options.bytes)
    for (const std::string way :
         {"one way", "all-to-all", "all-reduce", "copies and add", "parts and add"}) {
      const at::Tensor x = at::ones({bytes / 4 / size * size});
      std::vector<double> times;
      for (int64_t i = 0; i <= options.repeats; ++i) {
        all.barrier("before");
        const auto start = std::chrono::steady_clock::now();
        exchange(way, bytes, x);
        all.barrier("after");  // the time of the slowest
        const std::chrono::duration<double, std::milli> time =
            std::chrono::steady_clock::now() - start;
        if (i > 0) times.push_back(time.count());  // the first one warms up
      }
      std::sort(times.begin(), times.end());
      const auto quantile = [&](double q) {
        return times[static_cast<size_t>(q * static_cast<double>(times.size() - 1) + 0.5)];
      };
      // A sum takes at least 2 (N - 1) / N of a tensor to and from every rank.
      const double moved = way == "one way" || way == "all-to-all"
                               ? 1
                               : 2 * static_cast<double>(size - 1) / static_cast<double>(size);
      const double ideal = moved * static_cast<double>(bytes) * 8e3 / rate;
      table.add({link, std::to_string(size), std::to_string(bytes / 1024), way,
                 util::fixed(quantile(0.5), 2),
                 util::fixed(quantile(0.25), 2) + " to " + util::fixed(quantile(0.75), 2),
                 util::fixed(ideal, 2), util::fixed(100 * ideal / quantile(0.5), 1) + " %"});
    }
  if (me == 0) std::cout << table.markdown();
}

}  // namespace

int main(int argc, char** argv) {
  c10::initLogging();  // heeds what the launch has set
  CLI::App app("Times of messages over an emulated network beside bytes / rate");
  Options options;
  for (int64_t kib = 64; kib <= 16384; kib *= 4) options.bytes.push_back(kib * 1024);
  app.add_option("--links", options.links)->capture_default_str();
  app.add_option("--ranks", options.ranks)->capture_default_str();
  app.add_option("--bytes", options.bytes)->capture_default_str();
  app.add_option("--repeats", options.repeats)->check(CLI::PositiveNumber)->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  try {
    if (comm::launch_environment().size > 1) {
      measure(options);
      return 0;
    }
    comm::LocalRanks launch;
    launch.command.assign(argv, argv + argc);
    launch.command.front() = std::filesystem::read_symlink("/proc/self/exe");
    for (const std::string& link : options.links)
      for (const int64_t ranks : options.ranks) {
        launch.count = ranks;
        launch.link = comm::link_rate(link);
        if (const int code = comm::run_local_ranks(launch)) return code;
      }
  } catch (const std::exception& error) {
    std::cerr << "link_check: " << error.what() << "\n";
    return 1;
  }
  return 0;
}
