#include "train/metrics.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <system_error>

#include "io/atomic_file.h"
#include "util/error.h"
#include "util/unique_fd.h"

namespace farskip::train {

Metrics::Metrics(std::filesystem::path file, int64_t step) : file_(std::move(file)) {
  io::AtomicFile kept(file_);
  std::ifstream in(file_);
  for (std::string line; std::getline(in, line);) {
    const auto record = nlohmann::ordered_json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!record.is_object() || record.value("step", step + 1) > step) continue;
    kept.write(line + "\n");
    remember(record);
  }
  kept.commit();
}

void Metrics::append(const nlohmann::ordered_json& record) {
  // One write call a line: readers and killed runs see whole lines.
  const std::string line = record.dump() + "\n";
  const util::UniqueFd fd(::open(file_.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666));
  if (fd.get() < 0 ||
      ::write(fd.get(), line.data(), line.size()) != static_cast<ssize_t>(line.size()))
    throw Error(util::concat(file_.string(),
                             ": can't be written: ", std::generic_category().message(errno)));
  remember(record);
}

void Metrics::remember(const nlohmann::ordered_json& record) {
  const auto number = [&](const char* key) {
    const auto found = record.find(key);
    return found != record.end() && found->is_number();
  };
  const double step = record.value("step", 0.0);
  if (number("loss")) training_.points.emplace_back(step, record["loss"].get<double>());
  if (number("validation_loss"))
    validation_.points.emplace_back(step, record["validation_loss"].get<double>());
}

void Metrics::draw(const std::filesystem::path& file, const std::string& title,
                   const std::string& loss_name) const {
  util::Plot plot{.title = title, .x_label = "step", .y_label = loss_name};
  plot.series.push_back(training_);
  if (!validation_.points.empty()) plot.series.push_back(validation_);
  io::AtomicFile out(file);
  out.write(util::svg(plot));
  out.commit();
}

}  // namespace farskip::train
