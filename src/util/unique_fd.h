// A file descriptor that closes itself.
#pragma once
#include <filesystem>
#include <utility>

namespace farskip::util {

class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  UniqueFd& operator=(UniqueFd other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~UniqueFd();
  int get() const { return fd_; }

 private:
  int fd_ = -1;
};

/// Opens a file to read; InputError if that can't be done.
UniqueFd open_to_read(const std::filesystem::path& path);

}  // namespace farskip::util
