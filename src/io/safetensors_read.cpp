#include <ATen/ATen.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <system_error>

#include "io/safetensors.h"
#include "io/text.h"
#include "util/error.h"
#include "util/unique_fd.h"

namespace farskip::io {

/// The pages of a file and what its header says about them.
class Mapping {
 public:
  explicit Mapping(const std::filesystem::path& path) : name_(path.string()) {
    const util::UniqueFd file = util::open_to_read(path);
    struct stat status {};
    if (::fstat(file.get(), &status) != 0 || !S_ISREG(status.st_mode))
      throw InputError(name_ + ": found something that is no regular file, expected a file");
    size_ = status.st_size;
    if (size_ > 0) {
      // Private and writable: a tensor may be changed in place, the file is not. Without
      // reservation, as else a model larger than the memory could not be mapped.
      void* pages = ::mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE,
                           file.get(), 0);
      if (pages == MAP_FAILED)
        throw Error(name_ + ": can't be mapped: " + std::generic_category().message(errno));
      bytes_ = static_cast<char*>(pages);
    }
    try {
      header_ = parse_safetensors_header({bytes_, size_}, name_);
    } catch (...) {
      unmap();
      throw;
    }
  }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping() { unmap(); }

  const std::string& name() const { return name_; }
  const SafetensorsHeader& header() const { return header_; }
  char* data() const { return bytes_ + header_.data_begin; }

 private:
  void unmap() {
    if (bytes_) ::munmap(bytes_, size_);
  }

  std::string name_;
  char* bytes_ = nullptr;
  size_t size_ = 0;
  SafetensorsHeader header_;
};

SafetensorsFile SafetensorsFile::open(const std::filesystem::path& path) {
  SafetensorsFile file;
  file.mapping_ = std::make_shared<const Mapping>(path);
  return file;
}

const SafetensorsHeader& SafetensorsFile::header() const {
  return mapping_->header();
}

at::Tensor SafetensorsFile::tensor(const std::string& name) const {
  const auto found = header().tensors.find(name);
  if (found == header().tensors.end())
    throw InputError(mapping_->name() + ": found no tensor " + in_quotes(name) + ", expected it");
  const TensorEntry& entry = found->second;
  const auto options = at::TensorOptions().dtype(entry.dtype->type).device(at::kCPU);
  char* bytes = mapping_->data() + entry.begin;
  const size_t length = entry.end - entry.begin;
  if (length > 0 && reinterpret_cast<uintptr_t>(bytes) % entry.dtype->bytes == 0)
    return at::from_blob(
        bytes, entry.shape, [mapping = mapping_](void*) {}, options);
  at::Tensor copy = at::empty(entry.shape, options);
  if (length > 0) std::memcpy(copy.mutable_data_ptr(), bytes, length);
  return copy;
}

std::map<std::string, at::Tensor> read_safetensors(const std::filesystem::path& path) {
  const SafetensorsFile file = SafetensorsFile::open(path);
  std::map<std::string, at::Tensor> tensors;
  for (const auto& [name, entry] : file.header().tensors) tensors[name] = file.tensor(name);
  return tensors;
}

}  // namespace farskip::io
