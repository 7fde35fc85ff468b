#include "schedule/pace.h"

#include <gtest/gtest.h>

#include "comm/courier.h"
#include "comm/rendezvous.h"
#include "schedule/layer_work.h"
#include "support/golden.h"

namespace farskip::schedule {
namespace {

using comm::Rendezvous;

TEST(LayersBesideHead, AreAsManyAsTheHeadIsLarge) {
  model::ModelConfig config = model::read_config(test::golden_directory("deepseek_v2") /
                                                 "config.json");  // three layers of experts
  EXPECT_EQ(layers_beside_head(config, {}), 0);
  Rendezvous::threads(2, [&](Rendezvous& rendezvous) {
    model::ModelConfig of_rank = config;
    model::ExpertRanks ranks{.waves = 2};
    const comm::Group rows = rendezvous.all(), counts = rendezvous.all();
    ranks.courier = std::make_shared<comm::Courier>(rows, counts);
    of_rank.vocabulary = 1;
    EXPECT_EQ(layers_beside_head(of_rank, ranks), 0);
    of_rank.vocabulary = 1 << 24;
    EXPECT_EQ(layers_beside_head(of_rank, ranks), 2);  // one is left for the backward pass
    double forward = 0;
    for (const model::LayerConfig& layer : config.layers)
      forward += layer_work(layer, config.hidden, {}, 2).forward();
    of_rank.vocabulary = static_cast<int64_t>(forward / (7.5 * static_cast<double>(config.hidden)));
    EXPECT_EQ(layers_beside_head(of_rank, ranks), 1);  // 1.2: two fifths of the forward
  });
}

}  // namespace
}  // namespace farskip::schedule
