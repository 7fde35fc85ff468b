#include "comm/grid.h"

namespace farskip::comm {

Grid make_grid(Rendezvous& rendezvous, int64_t ep) {
  Grid grid;
  grid.ep = ep;
  grid.dp = rendezvous.size() / ep;
  if (rendezvous.size() == 1) return grid;
  grid.world = rendezvous.all();
  grid.replicas = rendezvous.all(Urgency::background);
  grid.expert_replicas = rendezvous.split(rendezvous.rank() % ep, Urgency::background);
  if (ep > 1) {
    Group rows = rendezvous.split(rendezvous.rank() / ep);
    Group counts = rendezvous.split(rendezvous.rank() / ep);
    grid.courier = std::make_shared<Courier>(std::move(rows), std::move(counts));
  }
  return grid;
}

}  // namespace farskip::comm
