#include "text/tables.h"

namespace farskip::text {

train::Pieces open_pieces(const std::vector<std::filesystem::path>& files) {
  return train::Pieces(files, train::Pieces::kDefaultBytes, read_table);
}

}  // namespace farskip::text
