// In place of nccl.cpp where farskip is built without NCCL.
#include "comm/nccl.h"
#include "util/error.h"

namespace farskip::comm {

std::shared_ptr<Backend> nccl_backend(std::shared_ptr<Backend>, c10::Device device,
                                      const c10::intrusive_ptr<c10d::Store>&, const std::string&,
                                      int64_t, int64_t size, std::chrono::milliseconds) {
  throw InputError(util::concat("--device: found ", device.str(), " on ", size,
                                " ranks, expected cpu (this farskip was built without NCCL: its "
                                "LibTorch has no CUDA, or the headers of CUDA and NCCL were "
                                "missing)"));
}

}  // namespace farskip::comm
