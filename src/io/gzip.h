// Reading .gz files.
#pragma once
#include <filesystem>
#include <functional>
#include <string_view>

namespace farskip::io {

/// Hands the unpacked bytes of a gzip file (of all its members) on, a stretch at a time, whatever
/// their number. InputError if it is damaged or cut off.
void gunzip(const std::filesystem::path& path,
            const std::function<void(std::string_view bytes)>& write);

}  // namespace farskip::io
