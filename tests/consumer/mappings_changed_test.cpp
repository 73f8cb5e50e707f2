// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// MAP and UNMAP of a domain that several devices are in: all that mirror it, or nobody.
#include <catch2/catch.hpp>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tests/consumer/kept_world.hpp"
#include "tests/support/mirror_model.hpp"

namespace viommu::test {
namespace {

using Events = std::vector<Seen>;
using Extents = std::vector<Extent>;
constexpr std::uint16_t device_a = 0x0300;
constexpr std::uint16_t device_b = 0x0380;
constexpr std::uint64_t iova = 2 * gib_1;

struct Two : KeptWorld {
  explicit Two(std::uint32_t declares = 0, std::uint64_t unit_bytes = 0, std::uint64_t quota = 1 << 20)
      : a{declares}, b{declares} {
    attach(device_a, 1);
    attach(device_b, 1);
    join(device_a, a, unit_bytes);
    join(device_b, b, unit_bytes, quota);
  }
  void expect_both(const Extents& extents) const {
    CHECK(a.extents() == extents);
    CHECK(b.extents() == extents);
    CHECK(a.wrong.empty());
    CHECK(b.wrong.empty());
  }
  MirrorModel a;
  MirrorModel b;
};

/// Fails the event that a host's n-th call is about, counted from 1, and those that ask for what is there already.
struct FailAt {
  MirrorModel& model;
  std::uint64_t left;
  bool failed = false;

  static void arm(MirrorModel& model, std::uint64_t n) {
    model.fails = [self = FailAt{model, n}](const viommu_event& event) mutable {
      if (self.left != 0) --self.left;
      if (self.left == 0 && !std::exchange(self.failed, true)) return true;
      return event.kind == VIOMMU_EVENT_MAP && self.model.holds_any(event.iova, event.last);
    };
  }
};

[[nodiscard]] std::uint64_t bytes_in(const MirrorModel& model) {
  std::uint64_t bytes = 0;
  for (const Extent& extent : model.extents()) bytes += extent.length;
  return bytes;
}

}  // namespace

TEST_CASE("an endpoint that goes to another domain has all of the old one withdrawn before any of the new one comes",
          "[consumer][mappings][S3.7]") {
  KeptWorld world;
  world.store.map(1, iova, page_4k, ram_base);
  world.store.map(2, iova, page_4k, ram_base);
  world.store.map(2, iova + mib_2, page_4k, ram_base + page_4k);
  MirrorModel model;
  std::vector<std::pair<std::uint32_t, std::size_t>> views;
  world.waist.host.on_view = [&](std::uint16_t, std::uint32_t view) { views.emplace_back(view, model.seen.size()); };
  world.attach(device_a, 1);
  views.clear();
  world.join(device_a, model);
  REQUIRE(model.take_seen() == Events{mapped(iova, page_4k, ram_base)});
  SECTION("from domain to domain, even what both map alike") {
    world.attach(device_a, 2);
    CHECK(model.take_seen() == Events{unmapped(iova, page_4k), mapped(iova, page_4k, ram_base),
                                      mapped(iova + mib_2, page_4k, ram_base + page_4k)});
  }
  SECTION("out of a domain and into one: the view changes in between") {
    world.attach(device_a, 0);
    CHECK(model.take_seen() == Events{unmapped(iova, page_4k)});
    world.attach(device_a, 2);
    CHECK(model.take_seen() ==
          Events{mapped(iova, page_4k, ram_base), mapped(iova + mib_2, page_4k, ram_base + page_4k)});
    CHECK(views ==
          std::vector<std::pair<std::uint32_t, std::size_t>>{{VIOMMU_VIEW_BLOCKED, 1}, {VIOMMU_VIEW_TRANSLATED, 0}});
  }
  SECTION("to where it is already: nothing") {
    world.attach(device_a, 1);
    CHECK(model.take_seen().empty());
  }
  CHECK(model.wrong.empty());
}

TEST_CASE("a domain with more than a slice of tables is mirrored to the end", "[consumer][mappings][S3.7]") {
  KeptWorld world;
  constexpr std::uint64_t tables = 5000;
  for (std::uint64_t i = 0; i < tables; ++i) world.store.map(1, i * mib_2, page_4k, ram_base + i * page_4k);
  MirrorModel model;
  world.contents[device_a] = KeptWorld::content(1);
  REQUIRE(world.consumers.add_device({device_a}, false) == consumer::Result::ok);
  world.join(device_a, model);
  CHECK(model.units() == tables);
  world.contents[device_a] = KeptWorld::content(2);
  REQUIRE(world.consumers.add_device({device_a}, false) == consumer::Result::ok);
  world.consumers.finish();
  CHECK(model.units() == 0);
}

TEST_CASE("a MAP that one of two consumers fails is taken back from the other, and works when the fault is cleared",
          "[consumer][mappings][S3.11][SEC-15]") {
  Two world;
  REQUIRE(world.map(1, iova, page_4k, ram_base));
  world.b.fails = [](const viommu_event& event) { return event.kind == VIOMMU_EVENT_MAP; };
  world.a.take_seen();
  CHECK_FALSE(world.map(1, iova + page_4k, mib_2, ram_base + page_4k));
  CHECK(world.restored);
  const Extent before{iova, page_4k, ram_base, 3};
  world.expect_both({before});
  CHECK(world.a.take_seen() == Events{mapped(iova + page_4k, mib_2 - page_4k, ram_base + page_4k),
                                      mapped(iova + mib_2, page_4k, ram_base + mib_2),
                                      unmapped(iova + page_4k, mib_2 - page_4k), unmapped(iova + mib_2, page_4k)});
  world.b.fails = nullptr;
  CHECK(world.map(1, iova + page_4k, mib_2, ram_base + page_4k));
  world.expect_both({{iova, page_4k + mib_2, ram_base, 3}});
}

TEST_CASE("what one consumer refuses the others do not hear of, and it ends with the first call that fails",
          "[consumer][mappings][S3.11]") {
  Two world;
  world.a.fails = [](const viommu_event&) { return true; };
  CHECK_FALSE(world.map(1, iova, gib_1, ram_base));
  CHECK(world.restored);
  CHECK(world.a.maps < 512);  // of 512, in batches
  CHECK(world.b.seen.empty());
  world.expect_both({});
}

TEST_CASE("an UNMAP that one of two consumers fails is undone with the other, and works when the fault is cleared",
          "[consumer][mappings][S3.11][SEC-15]") {
  Two world;
  REQUIRE(world.map(1, iova, 4 * page_4k, ram_base));
  REQUIRE(world.map(1, iova + mib_2, 4 * page_4k, ram_base + mib_2));
  const Extents before{{iova, 4 * page_4k, ram_base, 3}, {iova + mib_2, 4 * page_4k, ram_base + mib_2, 3}};
  world.b.fails = [](const viommu_event& event) {
    return event.kind == VIOMMU_EVENT_UNMAP && event.iova == iova + mib_2;
  };
  CHECK_FALSE(world.unmap(1, 0, ~std::uint64_t{0}));
  CHECK(world.restored);
  world.expect_both(before);
  world.b.fails = nullptr;
  CHECK(world.unmap(1, 0, ~std::uint64_t{0}));
  world.expect_both({});
  CHECK(world.map(1, iova, 4 * page_4k, ram_base));
  world.expect_both({before.front()});
}

TEST_CASE("a MAP beyond a consumer's quota is refused, and what it holds stays mapped meanwhile",
          "[consumer][mappings][S3.11]") {
  Two world{0, 0, 4};
  for (std::uint64_t i = 0; i < 4; ++i) REQUIRE(world.map(1, iova + 2 * i * page_4k, page_4k, ram_base));
  const Extents before = world.a.extents();
  REQUIRE(before.size() == 4);
  world.b.take_seen();
  CHECK_FALSE(world.map(1, iova + 9 * page_4k, page_4k, ram_base));
  CHECK(world.restored);
  world.expect_both(before);
  CHECK(world.b.take_seen().empty());
  REQUIRE(world.b.reports.size() == 1);
  CHECK(world.b.reports.front().what == VIOMMU_REPORT_QUOTA);
  CHECK(world.b.reports.front().event.iova == iova + 9 * page_4k);
  CHECK_FALSE(world.mirror(world.b).gave_up());
  // Of many that begin to fit, and of one that is a unit of its own.
  CHECK_FALSE(world.map(1, iova + gib_1, 16 * mib_2, ram_base + page_4k));
  CHECK(world.restored);
  world.expect_both(before);
  REQUIRE(world.unmap(1, iova, iova + page_4k - 1));
  CHECK(world.map(1, iova + 9 * page_4k, page_4k, ram_base));
  CHECK(world.a.extents() == world.b.extents());
}

TEST_CASE("units of 1 GiB count for the quota too, and as one", "[consumer][mappings][S3.11]") {
  const auto offset = GENERATE(std::uint64_t{0}, std::uint64_t{page_4k});
  Two world{0, gib_1, 2};
  REQUIRE(world.map(1, iova, gib_1, ram_base + offset));
  REQUIRE(world.map(1, iova + gib_1, gib_1, ram_base + offset));
  const Extents before = world.b.extents();
  CHECK_FALSE(world.map(1, iova + 4 * gib_1, gib_1, ram_base + offset));
  CHECK(world.restored);
  world.expect_both(before);
}

TEST_CASE("a long unit that a refused UNMAP has taken apart is whole again", "[consumer][mappings][S3.11][SEC-15]") {
  // Two mappings that go on alike are one unit of 20 slots; without the one in its middle it would be three.
  Two world{0, gib_1, 2};
  const std::uint64_t middle = iova + 10 * mib_2;
  world.store.map(1, iova, 10 * mib_2, ram_base);
  world.store.map(1, middle, page_4k, ram_base + 10 * mib_2);
  world.store.map(1, middle + page_4k, 10 * mib_2 - page_4k, ram_base + 10 * mib_2 + page_4k);
  world.attach(device_a, 0);
  world.attach(device_b, 0);
  world.attach(device_a, 1);
  world.attach(device_b, 1);
  REQUIRE(world.mappings_of(world.b) == 1);
  const Extents before{{iova, 20 * mib_2, ram_base, 3}};
  world.expect_both(before);
  CHECK_FALSE(world.unmap(1, middle, middle + page_4k - 1));
  CHECK(world.restored);
  world.expect_both(before);
  CHECK(world.bytes_of(world.b) == 20 * mib_2);
}

TEST_CASE("pieces that came back where a unit was may be more than the quota, but no more pieces come",
          "[consumer][mappings][S3.11]") {
  KeptWorld world;
  for (std::uint64_t i = 0; i < 5; ++i) world.store.map(1, iova + i * page_4k, page_4k, ram_base + i * page_4k);
  world.store.map(1, iova + mib_2, page_4k, ram_base);
  MirrorModel a;
  MirrorModel b;
  world.attach(device_a, 1);
  world.attach(device_b, 1);
  world.join(device_a, a, 0, 3);
  world.join(device_b, b);
  const Extents before = b.extents();
  REQUIRE(world.mappings_of(a) == 2);
  b.fails = [](const viommu_event&) { return true; };
  CHECK_FALSE(world.unmap(1, iova + page_4k, iova + 2 * page_4k - 1));
  CHECK(world.restored);
  CHECK(a.extents() == before);
  REQUIRE(world.mappings_of(a) == 4);
  b.fails = nullptr;
  CHECK_FALSE(world.map(1, iova + gib_1, page_4k, ram_base));
  CHECK(world.unmap(1, iova + 4 * page_4k, iova + 5 * page_4k - 1));
  CHECK(world.unmap(1, iova, iova + page_4k - 1));
  CHECK(world.unmap(1, iova + mib_2, iova + mib_2 + page_4k - 1));
  CHECK(world.map(1, iova + gib_1, page_4k, ram_base));
  CHECK(a.extents() == b.extents());
}

TEST_CASE("a consumer without MAP is told of what goes, when it goes", "[consumer][mappings][S3.11]") {
  Two world;
  MirrorModel cache;
  consumer::Subscription wanted;
  wanted.sink = consumer::sink_of(cache);
  wanted.declared.unmap = true;
  REQUIRE(world.consumers.subscribe({device_a}, wanted, cache.id) == consumer::Result::ok);
  REQUIRE(world.map(1, iova, page_4k, ram_base));
  CHECK(cache.take_seen().empty());
  world.b.fails = [](const viommu_event&) { return true; };
  CHECK_FALSE(world.unmap(1, iova, iova + page_4k - 1));
  CHECK(cache.take_seen().empty());
  world.b.fails = nullptr;
  SECTION("and what it fails is undone") {
    cache.fails = [](const viommu_event&) { return true; };
    CHECK_FALSE(world.unmap(1, iova, iova + page_4k - 1));
    CHECK(world.restored);
    world.expect_both({{iova, page_4k, ram_base, 3}});
  }
  SECTION("once") {
    CHECK(world.unmap(1, iova, iova + page_4k - 1));
    CHECK(cache.take_seen() == Events{unmapped(iova, page_4k)});
  }
}

TEST_CASE("whichever call of a host fails, everybody holds what was held before and knows what it holds",
          "[consumer][mappings][S3.11][SEC-15]") {
  struct Kind {
    std::uint32_t declares;
    std::uint64_t unit_bytes;
  };
  const auto kind = GENERATE(Kind{0, 0}, Kind{VIOMMU_CONSUMER_LEAF, 0}, Kind{VIOMMU_CONSUMER_SPLIT, 0},
                             Kind{VIOMMU_CONSUMER_POW2, 0}, Kind{0, gib_1});
  std::uint64_t refused = 0;
  std::uint64_t not_restored = 0;
  for (std::uint64_t k = 1;; ++k) {
    Two world{kind.declares, kind.unit_bytes};
    // Units with neighbours, a border of slots inside, and one of 1 GiB.
    REQUIRE(world.map(1, iova, 3 * page_4k, ram_base));
    REQUIRE(world.map(1, iova + 3 * page_4k, 2 * mib_2, ram_base + 3 * page_4k));
    REQUIRE(world.map(1, iova + gib_1, gib_1, ram_base));
    FailAt::arm(world.b, k);
    bool all = true;
    const auto step = [&](bool done) {
      all &= done;
      refused += done ? 0 : 1;
      not_restored += done || world.restored ? 0 : 1;
      CHECK((world.a.extents() == world.b.extents() || !world.restored));
      CHECK(world.bytes_of(world.a) == bytes_in(world.a));
      CHECK(world.bytes_of(world.b) == bytes_in(world.b));
      CHECK(world.a.wrong.empty());
      CHECK(world.b.wrong.empty());
    };
    step(world.unmap(1, iova + 3 * page_4k, iova + 3 * page_4k + 2 * mib_2 - 1));
    step(world.map(1, iova + 8 * page_4k, mib_2, ram_base));
    step(world.unmap(1, iova + gib_1, iova + 2 * gib_1 - 1));
    step(world.map(1, iova + 4 * gib_1, gib_1 + mib_2 + page_4k, ram_base + page_4k));
    if (all) break;
  }
  CHECK(refused >= 4);
  CHECK(not_restored == 0);
}

TEST_CASE("whenever the host has no memory for what a consumer is to remember, everybody holds what was held before",
          "[consumer][mappings][S3.11][SEC-15]") {
  std::uint64_t refused = 0;
  for (std::uint64_t k = 1; k < 400; ++k) {
    Two world;
    // A line of runs, so that one more takes a new list.
    for (std::uint64_t i = 0; i < 8; ++i) REQUIRE(world.map(1, iova + 2 * i * page_4k, page_4k, ram_base));
    const Extents before = world.a.extents();
    world.waist.host.allocator.fail_at(k);
    const bool done = world.map(1, iova + 16 * page_4k, gib_1, ram_base + 5 * page_4k);
    world.waist.host.allocator.fail_at(0);
    CHECK(world.restored);
    CHECK(world.a.extents() == world.b.extents());
    CHECK(world.bytes_of(world.b) == bytes_in(world.b));
    CHECK(world.a.wrong.empty());
    CHECK(world.b.wrong.empty());
    if (done) break;
    ++refused;
    CHECK(world.a.extents() == before);
    CHECK(world.map(1, iova + 16 * page_4k, gib_1, ram_base + 5 * page_4k));
  }
  CHECK(refused == 4);
}

TEST_CASE("a device whose domain is too large for its consumer is blocked, and does not stand in the way of others",
          "[consumer][mappings][S3.11]") {
  KeptWorld world;
  for (std::uint64_t i = 0; i < 8; ++i) world.store.map(1, iova + 2 * i * page_4k, page_4k, ram_base);
  MirrorModel a;
  MirrorModel b;
  world.attach(device_a, 1);
  world.attach(device_b, 1);
  world.join(device_a, a);
  world.join(device_b, b, 0, 4);
  CHECK(world.consumers.view({device_b}) == consumer::View::blocked);
  CHECK(b.extents().empty());
  b.take_seen();
  CHECK(world.map(1, iova + gib_1, page_4k, ram_base));
  CHECK(world.unmap(1, iova, iova + 16 * page_4k - 1));
  CHECK(b.take_seen().empty());
  CHECK(a.extents() == Extents{{iova + gib_1, page_4k, ram_base, 3}});
  world.attach(device_b, 1);
  CHECK(world.consumers.view({device_b}) == consumer::View::translated);
  CHECK(b.extents() == a.extents());
}

TEST_CASE("a unit of 1 GiB that did not come is held by nobody: it is not counted, and no UNMAP is told of it",
          "[consumer][mappings][S3.11][SEC-15]") {
  const auto declares = GENERATE(std::uint32_t{0}, std::uint32_t{VIOMMU_CONSUMER_LEAF});
  KeptWorld world;
  MirrorModel model{declares};
  world.attach(device_a, 1);
  world.join(device_a, model, gib_1);
  model.fails = [](const viommu_event& event) { return event.kind == VIOMMU_EVENT_MAP; };
  CHECK_FALSE(world.map(1, iova, gib_1, ram_base));
  CHECK(world.restored);
  CHECK(model.take_seen() == Events{mapped(iova, gib_1, ram_base)});
  CHECK(world.mappings_of(model) == 0);
  CHECK(world.bytes_of(model) == 0);
  model.fails = nullptr;
  CHECK(world.map(1, iova, gib_1, ram_base));
  CHECK(model.take_seen() == Events{mapped(iova, gib_1, ram_base)});
  CHECK(world.bytes_of(model) == gib_1);
}

TEST_CASE("what begins inside a page, where the consumer's range does, and did not go is what it was",
          "[consumer][mappings][S3.11][SEC-15]") {
  constexpr std::uint64_t cut = 0x800;
  KeptWorld world;
  MirrorModel model{0, iova + cut};
  world.attach(device_a, 1);
  world.join(device_a, model);
  REQUIRE(world.map(1, iova, 4 * page_4k, ram_base));
  const Extents before{{iova + cut, 4 * page_4k - cut, ram_base + cut, 3}};
  REQUIRE(model.extents() == before);
  model.fails = [](const viommu_event& event) { return event.kind == VIOMMU_EVENT_UNMAP; };
  model.take_seen();
  CHECK_FALSE(world.unmap(1, iova, iova + 4 * page_4k - 1));
  CHECK(world.restored);
  CHECK(model.take_seen() == Events{unmapped(iova + cut, 4 * page_4k - cut)});
  CHECK(model.extents() == before);
  model.fails = nullptr;
  CHECK(world.unmap(1, iova, iova + 4 * page_4k - 1));
  CHECK(model.extents().empty());
}

TEST_CASE("what is left out counts for the quota as before when a MAP beside it fails", "[consumer][mappings][S3.11]") {
  KeptWorld world;
  MirrorModel model;
  world.attach(device_a, 1);
  world.join(device_a, model, 0, 4);
  REQUIRE(world.map(1, iova, page_4k, bar_base));  // which it does not take
  REQUIRE(world.map(1, iova + 2 * page_4k, page_4k, ram_base));
  REQUIRE(world.map(1, iova + 4 * page_4k, page_4k, ram_base));
  model.fails = [](const viommu_event& event) { return event.kind == VIOMMU_EVENT_MAP; };
  CHECK_FALSE(world.map(1, iova + 6 * page_4k, page_4k, ram_base));
  CHECK(world.restored);
  model.fails = nullptr;
  CHECK(world.map(1, iova + 6 * page_4k, page_4k, ram_base));
  CHECK_FALSE(world.map(1, iova + 8 * page_4k, page_4k, ram_base));
  CHECK(world.restored);
  CHECK(model.reports.back().what == VIOMMU_REPORT_QUOTA);
  CHECK(world.mappings_of(model) == 3);
  // When it goes there is room for another.
  CHECK(world.unmap(1, iova, iova + page_4k - 1));
  CHECK(world.map(1, iova + 8 * page_4k, page_4k, ram_base));
  CHECK(model.wrong.empty());
}

}  // namespace viommu::test
