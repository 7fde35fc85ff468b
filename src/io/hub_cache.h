// Models by their names on the Hugging Face hub, from the local cache that its tools fill.
#pragma once
#include <filesystem>
#include <optional>
#include <string>

namespace farskip::io {

/// The folder that holds the cache: HF_HUB_CACHE (before it was HUGGINGFACE_HUB_CACHE), else
/// HF_HOME/hub, else XDG_CACHE_HOME/huggingface/hub, else ~/.cache/huggingface/hub; an empty
/// variable counts as none.
std::filesystem::path hub_cache();

/// The directory of a model: `name` itself where there is such a file or directory, or where it
/// can't be a name on the hub; else the snapshot of NAME, ORG/NAME or ORG/NAME@REVISION (a branch,
/// a tag or a commit; default: main) in the cache. InputError for a name that is not there, saying
/// where was looked and how to get it.
std::filesystem::path find_model(const std::string& name);

/// "ORG/NAME" of a directory that is a snapshot in such a cache.
std::optional<std::string> hub_name(const std::filesystem::path& directory);

}  // namespace farskip::io
