// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// A mirror at the edges of what it is given: no memory at all, a range that cuts a unit, a key that means nothing, and
// memory of which a piece could not be mapped.
#include <catch2/catch.hpp>
#include <cstdint>
#include <vector>

#include "tests/consumer/alone.hpp"
#include "tests/consumer/kept_world.hpp"
#include "tests/support/mirror_model.hpp"

namespace viommu::consumer {
namespace {

using test::bar_base;
using test::Extent;
using test::gib_1;
using test::mapped;
using test::mib_2;
using test::MirrorModel;
using test::page_4k;
using test::ram_base;
using test::Seen;
using test::unmapped;
using Events = std::vector<Seen>;

constexpr std::uint16_t device = 0x0300;
constexpr std::uint16_t domain = 1;
constexpr std::uint64_t iova = 2 * gib_1;

}  // namespace

TEST_CASE("where no memory is yet all that is mapped is left out, and comes with the memory", "[consumer][S3.11]") {
  Alone world;
  world.store.map(domain, iova, 2 * page_4k, ram_base);
  world.aim(test::KeptWorld::content(domain));
  CHECK(world.model.take_seen().empty());
  REQUIRE(world.model.reports.size() == 1);
  CHECK(world.model.reports.front().what == VIOMMU_REPORT_NO_MEMORY);
  CHECK(world.model.reports.front().event.iova == iova);
  world.add(ram_base, mib_2);
  CHECK(world.model.take_seen() == Events{mapped(iova, 2 * page_4k, ram_base)});
}

TEST_CASE("who sees guest memory as it is, or nothing, holds that whatever tables the content names besides",
          "[consumer][S1.20]") {
  Alone world;
  world.add(ram_base, mib_2);
  Content content;
  content.key.interpretation = caches::Interpretation::first_stage;
  content.view = View::system;
  world.aim(content);
  CHECK(world.model.take_seen() == Events{mapped(ram_base, mib_2, ram_base)});
  content.view = View::blocked;
  world.aim(content);
  CHECK(world.model.take_seen() == Events{unmapped(ram_base, mib_2)});
  CHECK_FALSE(world.mirror.gave_up());
  CHECK(world.model.reports.empty());
  // A first stage that is in force cannot be mirrored.
  content.view = View::translated;
  world.aim(content);
  CHECK(world.mirror.gave_up());
  REQUIRE(world.model.reports.size() == 1);
  CHECK(world.model.reports.front().what == VIOMMU_REPORT_UNSUPPORTED);
}

TEST_CASE("memory of which a piece could not be mapped is held around that piece, and goes as it is held",
          "[consumer][S1.20][SEC-15]") {
  Alone world{VIOMMU_CONSUMER_POW2};
  constexpr std::uint64_t second = ram_base + gib_1;
  world.add(ram_base, mib_2 + 3 * page_4k);
  world.add(second, page_4k);
  world.model.fails = [](const viommu_event& event) { return event.iova == ram_base + mib_2; };
  world.aim({View::system, {}});
  const std::vector held{Extent{ram_base, mib_2, ram_base, 3},
                         Extent{ram_base + mib_2 + 2 * page_4k, page_4k, ram_base + mib_2 + 2 * page_4k, 3},
                         Extent{second, page_4k, second, 3}};
  CHECK(world.model.extents() == held);
  CHECK(world.mirror.figures().mappings == 3);
  CHECK(world.mirror.figures().bytes == mib_2 + 2 * page_4k);
  world.model.take_seen();
  world.aim({View::blocked, {}});
  CHECK(world.model.take_seen() == Events{unmapped(ram_base, mib_2), unmapped(ram_base + mib_2 + 2 * page_4k, page_4k),
                                          unmapped(second, page_4k)});
  CHECK(world.mirror.figures().bytes == 0);
  CHECK(world.model.wrong.empty());
}

TEST_CASE("what fails of regions that go on from one another, told as one, fails of each of them",
          "[consumer][S1.20][SEC-15]") {
  Alone world{VIOMMU_CONSUMER_SPLIT};
  for (std::uint64_t i = 0; i < 3; ++i) world.add(ram_base + i * mib_2, mib_2);
  bool failing = true;
  world.model.fails = [&](const viommu_event&) { return failing; };
  world.aim({View::system, {}});
  CHECK(world.model.take_seen() == Events{mapped(ram_base, 3 * mib_2, ram_base)});
  CHECK(world.mirror.figures().mappings == 0);
  CHECK(world.mirror.figures().bytes == 0);
  failing = false;
  world.aim({View::system, {}});
  CHECK(world.model.take_seen() == Events{mapped(ram_base, 3 * mib_2, ram_base)});
  CHECK(world.mirror.figures().bytes == 3 * mib_2);
  SECTION("what stays is held, and goes when it is asked for") {
    failing = true;
    world.aim({View::blocked, {}});
    CHECK(world.model.take_seen() == Events{unmapped(ram_base, 3 * mib_2)});
    CHECK(world.mirror.figures().bytes == 3 * mib_2);
    failing = false;
    world.aim({View::blocked, {}});
    CHECK(world.model.take_seen() == Events{unmapped(ram_base, 3 * mib_2)});
    CHECK(world.mirror.figures().bytes == 0);
  }
  CHECK(world.model.wrong.empty());
  SECTION("what stays around memory that took its place is held too") {
    world.model.fails = [](const viommu_event& event) { return event.kind == VIOMMU_EVENT_UNMAP; };
    world.replace(ram_base + page_4k, 2 * mib_2);
    CHECK(world.model.take_seen() ==
          Events{unmapped(ram_base, 3 * mib_2), mapped(ram_base + page_4k, 2 * mib_2, ram_base + page_4k)});
    CHECK(world.mirror.figures().mappings == 3);
    CHECK(world.mirror.figures().bytes == 3 * mib_2);
    world.model.fails = nullptr;
    world.aim({View::blocked, {}});
    CHECK(world.model.take_seen() == Events{unmapped(ram_base, 3 * mib_2)});
    CHECK(world.mirror.figures().bytes == 0);
  }
}

TEST_CASE("a unit of more than a table is of tables that are all in the consumer's range", "[consumer][S1.5]") {
  test::KeptWorld world;
  MirrorModel model{0, iova + page_4k, iova + 4 * mib_2 + page_4k - 1};
  world.attach(device, domain);
  world.join(device, model, gib_1);
  REQUIRE(world.map(domain, iova, 6 * mib_2, ram_base));
  CHECK(model.take_seen() == Events{mapped(iova + page_4k, mib_2 - page_4k, ram_base + page_4k),
                                    mapped(iova + mib_2, 3 * mib_2, ram_base + mib_2),
                                    mapped(iova + 4 * mib_2, page_4k, ram_base + 4 * mib_2)});
  REQUIRE(world.unmap(domain, iova, iova + 6 * mib_2 - 1));
  CHECK(model.take_seen() == Events{unmapped(iova + page_4k, mib_2 - page_4k), unmapped(iova + mib_2, 3 * mib_2),
                                    unmapped(iova + 4 * mib_2, page_4k)});
  CHECK(model.wrong.empty());
}

TEST_CASE("what is withdrawn and given again is what was delivered and is mapped as it was", "[consumer][S1.8]") {
  test::KeptWorld world;
  MirrorModel model;
  const std::uint64_t base = GENERATE(std::uint64_t{ram_base}, std::uint64_t{bar_base});
  for (std::uint64_t i = 0; i < 10; ++i) world.store.map(domain, iova + i * page_4k, page_4k, base + i * page_4k);
  world.attach(device, domain);
  world.join(device, model);
  CHECK(model.take_seen().size() == (base == ram_base ? 1 : 0));
  // One page of ten leads elsewhere.
  const std::uint64_t changed = iova + 3 * page_4k;
  world.store.unmap(domain, changed, changed);
  REQUIRE(world.map(domain, changed, page_4k, ram_base + mib_2));
  CHECK(world.mirror(model).figures().split_bytes == (base == ram_base ? 9 * page_4k : 0));
  const Events events = model.take_seen();
  if (base == bar_base) {
    CHECK(events == Events{mapped(changed, page_4k, ram_base + mib_2)});
    return;
  }
  CHECK(events == Events{unmapped(iova, 10 * page_4k), mapped(iova, 3 * page_4k, ram_base),
                         mapped(changed, page_4k, ram_base + mib_2),
                         mapped(iova + 4 * page_4k, 6 * page_4k, ram_base + 4 * page_4k)});
}

}  // namespace viommu::consumer
