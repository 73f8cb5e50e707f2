// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Mappings that a front end keeps, as consumers of each kind are told of them.
#include "engine/consumer/kept_mappings.hpp"

#include <catch2/catch.hpp>
#include <cstdint>
#include <vector>

#include "tests/consumer/kept_world.hpp"
#include "tests/support/mirror_model.hpp"

namespace viommu::test {
namespace {

using Events = std::vector<Seen>;
constexpr std::uint16_t device = 0x0300;
constexpr std::uint16_t domain = 1;
constexpr std::uint64_t iova = 2 * gib_1;
constexpr unsigned mmio = VIOMMU_MMIO;

struct One : KeptWorld {
  explicit One(std::uint32_t declares = 0, std::uint64_t unit_bytes = 0, std::uint64_t quota = 1 << 20)
      : model{declares} {
    attach(device, domain);
    join(device, model, unit_bytes, quota);
  }
  [[nodiscard]] std::vector<std::uint32_t> reported() const {
    std::vector<std::uint32_t> what;
    what.reserve(model.reports.size());
    for (const viommu_consumer_report& report : model.reports) what.push_back(report.what);
    return what;
  }
  MirrorModel model;
};

[[nodiscard]] Events in_parts(std::uint64_t bytes, std::uint64_t part, std::uint64_t gpa) {
  Events events;
  for (std::uint64_t at = 0; at < bytes; at += part) events.push_back(mapped(iova + at, part, gpa + at));
  return events;
}

}  // namespace

TEST_CASE("a mapping that a front end keeps is one MAP when it comes and one UNMAP when it goes",
          "[consumer][mappings][S3.11]") {
  const auto declares =
      GENERATE(std::uint32_t{0}, std::uint32_t{VIOMMU_CONSUMER_LEAF}, std::uint32_t{VIOMMU_CONSUMER_SPLIT},
               std::uint32_t{VIOMMU_CONSUMER_POW2}, std::uint32_t{VIOMMU_CONSUMER_SPLIT | VIOMMU_CONSUMER_POW2});
  const auto bytes = GENERATE(std::uint64_t{page_4k}, 16 * page_4k, std::uint64_t{mib_2});
  One world{declares};
  REQUIRE(world.map(domain, iova, bytes, ram_base));
  CHECK(world.model.take_seen() == Events{mapped(iova, bytes, ram_base)});
  CHECK(world.bytes_of(world.model) == bytes);
  REQUIRE(world.unmap(domain, iova, iova + bytes - 1));
  CHECK(world.model.take_seen() == Events{unmapped(iova, bytes)});
  CHECK(world.mappings_of(world.model) == 0);
  CHECK(world.model.wrong.empty());
}

TEST_CASE("a mapping of 1 GiB is one MAP for who takes that, and 512 of 2 MiB for the others",
          "[consumer][mappings][S3.11]") {
  SECTION("units of one table") {
    One world;
    REQUIRE(world.map(domain, iova, gib_1, ram_base));
    CHECK(world.model.take_seen() == in_parts(gib_1, mib_2, ram_base));
  }
  SECTION("units of 1 GiB") {
    One world{0, gib_1};
    REQUIRE(world.map(domain, iova, gib_1, ram_base));
    CHECK(world.model.take_seen() == Events{mapped(iova, gib_1, ram_base)});
    REQUIRE(world.unmap(domain, iova, iova + gib_1 - 1));
    CHECK(world.model.take_seen() == Events{unmapped(iova, gib_1)});
  }
  SECTION("leaves") {
    One world{VIOMMU_CONSUMER_LEAF};
    REQUIRE(world.map(domain, iova, gib_1, ram_base));
    CHECK(world.model.take_seen() == Events{mapped(iova, gib_1, ram_base)});
  }
  SECTION("as long as it goes on") {
    One world{VIOMMU_CONSUMER_SPLIT};
    REQUIRE(world.map(domain, iova, gib_1, ram_base));
    CHECK(world.model.take_seen() == Events{mapped(iova, gib_1, ram_base)});
  }
}

TEST_CASE("a target that is aligned to pages only changes how long units are, not what is mapped",
          "[consumer][mappings][S3.11]") {
  constexpr std::uint64_t gpa = ram_base + 5 * page_4k;
  SECTION("2 MiB") {
    One world;
    REQUIRE(world.map(domain, iova, mib_2, gpa));
    CHECK(world.model.take_seen() == Events{mapped(iova, mib_2, gpa)});
  }
  SECTION("1 GiB, leaves: what one table would have") {
    One world{VIOMMU_CONSUMER_LEAF};
    REQUIRE(world.map(domain, iova, gib_1, gpa));
    CHECK(world.model.take_seen() == in_parts(gib_1, mib_2, gpa));
  }
  SECTION("1 GiB, units of 1 GiB") {
    One world{0, gib_1};
    REQUIRE(world.map(domain, iova, gib_1, gpa));
    CHECK(world.model.take_seen() == Events{mapped(iova, gib_1, gpa)});
  }
  SECTION("an address that is not aligned either") {
    One world;
    REQUIRE(world.map(domain, iova + mib_2 - page_4k, 2 * page_4k, gpa));
    CHECK(world.model.take_seen() ==
          Events{mapped(iova + mib_2 - page_4k, page_4k, gpa), mapped(iova + mib_2, page_4k, gpa + page_4k)});
  }
}

TEST_CASE("mappings that go on alike are one unit, but a leaf is one mapping", "[consumer][mappings][S3.7]") {
  const auto told = [](std::uint32_t declares) {
    KeptWorld world;
    world.store.map(domain, iova, page_4k, ram_base);
    world.store.map(domain, iova + page_4k, 2 * page_4k, ram_base + page_4k);
    world.store.map(domain, iova + 3 * page_4k, page_4k, ram_base + 3 * page_4k, 1);
    world.attach(device, domain);
    MirrorModel model{declares};
    world.join(device, model);
    CHECK(model.wrong.empty());
    return model.take_seen();
  };
  const Seen read_only = mapped(iova + 3 * page_4k, page_4k, ram_base + 3 * page_4k, 1);
  const Events joined{mapped(iova, 3 * page_4k, ram_base), read_only};
  CHECK(told(0) == joined);
  CHECK(told(VIOMMU_CONSUMER_SPLIT) == joined);
  CHECK(told(VIOMMU_CONSUMER_LEAF) ==
        Events{mapped(iova, page_4k, ram_base), mapped(iova + page_4k, 2 * page_4k, ram_base + page_4k), read_only});
  const Events powers{mapped(iova, 2 * page_4k, ram_base), mapped(iova + 2 * page_4k, page_4k, ram_base + 2 * page_4k),
                      read_only};
  CHECK(told(VIOMMU_CONSUMER_POW2) == powers);
  CHECK(told(VIOMMU_CONSUMER_SPLIT | VIOMMU_CONSUMER_POW2) == powers);
}

TEST_CASE("units that go on over tables are as few powers of two as there are, for who can split them",
          "[consumer][mappings][S3.7]") {
  constexpr std::uint64_t most = 4 * mib_2;  // aligned to it
  const auto told = [](std::uint64_t at, std::uint64_t bytes) {
    KeptWorld world;
    for (std::uint64_t page = 0; page < bytes; page += page_4k)
      world.store.map(domain, at + page, page_4k, ram_base + page);
    world.attach(device, domain);
    MirrorModel model{VIOMMU_CONSUMER_SPLIT | VIOMMU_CONSUMER_POW2};
    world.join(device, model);
    CHECK(model.wrong.empty());
    CHECK(model.extents() == std::vector{Extent{at, bytes, ram_base, 3}});
    return model.take_seen();
  };
  CHECK(told(most, 2 * mib_2) == Events{mapped(most, 2 * mib_2, ram_base)});
  CHECK(told(most + page_4k, 2 * page_4k) ==
        Events{mapped(most + page_4k, page_4k, ram_base), mapped(most + 2 * page_4k, page_4k, ram_base + page_4k)});
  CHECK(told(most + mib_2 - page_4k, mib_2 + 3 * page_4k) ==
        Events{mapped(most + mib_2 - page_4k, page_4k, ram_base), mapped(most + mib_2, mib_2, ram_base + page_4k),
               mapped(most + 2 * mib_2, 2 * page_4k, ram_base + page_4k + mib_2)});
}

TEST_CASE("a look at part of a unit in which nothing has changed tells nothing", "[consumer][mappings][S1.8]") {
  const auto unit_bytes = GENERATE(std::uint64_t{0}, std::uint64_t{gib_1});
  const auto declares =
      GENERATE(std::uint32_t{0}, std::uint32_t{VIOMMU_CONSUMER_LEAF}, std::uint32_t{VIOMMU_CONSUMER_SPLIT},
               std::uint32_t{VIOMMU_CONSUMER_POW2}, std::uint32_t{VIOMMU_CONSUMER_SPLIT | VIOMMU_CONSUMER_POW2});
  One world{declares, unit_bytes};
  REQUIRE(world.map(domain, iova, 4 * mib_2 + 16 * page_4k, ram_base + page_4k));
  const Extent all{iova, 4 * mib_2 + 16 * page_4k, ram_base + page_4k, 3};
  const std::uint64_t mappings = world.mappings_of(world.model);
  world.model.take_seen();
  for (const std::uint64_t at : {iova, iova + mib_2 + 5 * page_4k, iova + 2 * mib_2 - page_4k, iova + 4 * mib_2}) {
    CHECK(world.consumers.mappings_changed({domain}, {{at}, {at + 2 * page_4k - 1}}, false));
    CHECK(world.model.take_seen().empty());
  }
  CHECK(world.mappings_of(world.model) == mappings);
  CHECK(world.model.extents() == std::vector{all});
}

TEST_CASE("a consumer holds whole pages that one mapping has, and is told once of what it cannot hold",
          "[consumer][mappings][S3.11]") {
  One world;
  const auto unsupported = [&] {
    std::uint64_t count = 0;
    for (const std::uint32_t what : world.reported()) count += what == VIOMMU_REPORT_UNSUPPORTED ? 1U : 0U;
    return count;
  };
  SECTION("a mapping that begins and ends inside pages") {
    REQUIRE(world.map(domain, iova + 0x800, 3 * page_4k, ram_base + 0x800));
    CHECK(world.model.take_seen() == Events{mapped(iova + page_4k, 2 * page_4k, ram_base + page_4k)});
    CHECK(unsupported() == 2);
    REQUIRE(world.map(domain, iova + 4 * page_4k, page_4k, ram_base));
    CHECK(unsupported() == 2);
    REQUIRE(world.unmap(domain, iova + 0x800, iova + 0x800 + 3 * page_4k - 1));
    CHECK(world.bytes_of(world.model) == page_4k);
  }
  SECTION("a target inside a page") {
    REQUIRE(world.map(domain, iova, 3 * page_4k, ram_base + 1));
    CHECK(world.model.take_seen().empty());
    REQUIRE(unsupported() == 1);
    CHECK(world.model.reports.front().event.iova == iova);
    CHECK(world.model.reports.front().event.last == iova + 3 * page_4k - 1);
  }
  SECTION("a page of many mappings: asked for once") {
    for (std::uint64_t i = 0; i < page_4k; ++i) world.store.map(domain, iova + i, 1, ram_base + i);
    world.store.questions = 0;
    REQUIRE(world.consumers.mappings_changed({domain}, {{iova}, {iova + page_4k - 1}}, false));
    CHECK(world.model.take_seen().empty());
    CHECK(unsupported() == 1);
    CHECK(world.store.questions < 8);
  }
  SECTION("a target beyond what a frame can say is not cut to one that it can") {
    REQUIRE(world.map(domain, iova, page_4k, (std::uint64_t{1} << 52) + ram_base));
    REQUIRE(world.map(domain, iova + gib_1, gib_1, (std::uint64_t{1} << 52) + ram_base));
    REQUIRE(world.map(domain, iova + 4 * gib_1, 2 * page_4k, ~std::uint64_t{0} - 0xFFF));
    CHECK(world.model.take_seen().empty());
    CHECK(unsupported() >= 3);
  }
  SECTION("rights that grant nothing") {
    REQUIRE(world.map(domain, 0, std::uint64_t{1} << 62, ram_base, 0));
    CHECK(world.model.take_seen().empty());
    CHECK(world.reported().empty());
    CHECK(world.mirror(world.model).figures().tables < 8);
  }
  CHECK(world.model.wrong.empty());
}

TEST_CASE("what memory is decides what a consumer gets of a mapping, now and when it changes",
          "[consumer][mappings][S3.11]") {
  SECTION("a device's memory") {
    One without;
    REQUIRE(without.map(domain, iova, page_4k, bar_base));
    CHECK(without.model.take_seen().empty());
    CHECK(without.reported() == std::vector<std::uint32_t>{VIOMMU_REPORT_MMIO});
    One with{VIOMMU_CONSUMER_MMIO};
    REQUIRE(with.map(domain, iova, page_4k, bar_base));
    CHECK(with.model.take_seen() == Events{mapped(iova, page_4k, bar_base, 3 | mmio)});
  }
  SECTION("memory that cannot be written") {
    One world;
    REQUIRE(world.map(domain, iova, 2 * page_4k, rom_base));
    REQUIRE(world.map(domain, iova + gib_1, 2 * page_4k, rom_base, 2));
    CHECK(world.model.take_seen() == Events{mapped(iova, 2 * page_4k, rom_base, 1)});
  }
  SECTION("over the border of two regions, and where there is nothing") {
    One world{VIOMMU_CONSUMER_MMIO};
    REQUIRE(world.map(domain, iova, 16 * page_4k, bar_base - 8 * page_4k));
    REQUIRE(world.map(domain, iova + mib_2, 16 * page_4k, bar_base + bar_bytes - 8 * page_4k));
    CHECK(world.model.take_seen() ==
          Events{mapped(iova, 8 * page_4k, bar_base - 8 * page_4k),
                 mapped(iova + 8 * page_4k, 8 * page_4k, bar_base, 3 | mmio),
                 mapped(iova + mib_2, 8 * page_4k, bar_base + bar_bytes - 8 * page_4k, 3 | mmio)});
    CHECK(world.reported() == std::vector<std::uint32_t>{VIOMMU_REPORT_NO_MEMORY});
  }
  SECTION("a hole up to some memory is left out as long as it is, and no further") {
    One world;
    REQUIRE(world.map(domain, iova, 16 * page_4k, rom_base - 8 * page_4k));
    CHECK(world.model.take_seen() == Events{mapped(iova + 8 * page_4k, 8 * page_4k, rom_base, 1)});
    REQUIRE(world.map(domain, iova + mib_2, 4 * page_4k, rom_base - 8 * page_4k));
    CHECK(world.model.take_seen().empty());
    REQUIRE(world.reported() == std::vector<std::uint32_t>{VIOMMU_REPORT_NO_MEMORY, VIOMMU_REPORT_NO_MEMORY});
    CHECK(world.model.reports[0].event.iova == iova);
    CHECK(world.model.reports[0].event.last == iova + 8 * page_4k - 1);
    CHECK(world.model.reports[1].event.iova == iova + mib_2);
    CHECK(world.model.reports[1].event.last == iova + mib_2 + 4 * page_4k - 1);
  }
  SECTION("memory that comes under a mapping, and goes") {
    One world;
    REQUIRE(world.map(domain, iova, mib_2, 8 * gib_1));
    CHECK(world.model.take_seen().empty());
    REQUIRE(world.waist.add(8 * gib_1, 4 * page_4k) == core::RegionResult::ok);
    world.settle();
    CHECK(world.model.take_seen() == Events{mapped(iova, 4 * page_4k, 8 * gib_1)});
    REQUIRE(world.waist->remove_region({8 * gib_1}, 1) == core::RegionResult::ok);
    world.settle();
    CHECK(world.model.take_seen() == Events{unmapped(iova, 4 * page_4k)});
  }
  SECTION("other rights are a MAP after an UNMAP") {
    One world;
    REQUIRE(world.map(domain, iova, page_4k, ram_base));
    REQUIRE(world.unmap(domain, iova, iova + page_4k - 1));
    REQUIRE(world.map(domain, iova, page_4k, ram_base, 1));
    CHECK(world.model.take_seen() ==
          Events{mapped(iova, page_4k, ram_base), unmapped(iova, page_4k), mapped(iova, page_4k, ram_base, 1)});
  }
}

TEST_CASE("what is mapped beyond 57 bits is held by nobody", "[consumer][mappings][S3.11]") {
  KeptWorld world;
  MirrorModel model{0, 0, ~std::uint64_t{0}};
  world.attach(device, domain);
  world.join(device, model);
  constexpr std::uint64_t reach = std::uint64_t{1} << 57;
  REQUIRE(world.map(domain, reach - page_4k, page_4k, ram_base));
  CHECK(model.take_seen() == Events{mapped(reach - page_4k, page_4k, ram_base)});
  REQUIRE(world.map(domain, reach, page_4k, ram_base));
  REQUIRE(world.map(domain, ~std::uint64_t{0} - 0xFFF, page_4k, ram_base));
  CHECK(model.take_seen().empty());
  REQUIRE(world.unmap(domain, 0, ~std::uint64_t{0}));
  CHECK(model.take_seen() == Events{unmapped(reach - page_4k, page_4k)});
}

TEST_CASE("a MAP costs the same in a domain of 1,024 mappings and of 262,144", "[consumer][mappings]") {
  const auto cost = [](std::uint64_t mappings) {
    KeptWorld world;
    MirrorModel model;
    for (std::uint64_t i = 0; i < mappings; ++i) world.store.map(domain, iova + 2 * i * page_4k, page_4k, ram_base);
    world.attach(device, domain);
    world.store.questions = 0;
    world.join(device, model);
    CHECK(world.store.questions <= mappings + mappings / 128);
    const std::uint64_t tables = world.mirror(model).figures().tables;
    world.store.questions = 0;
    REQUIRE(world.map(domain, iova + (mappings + 1) * page_4k, page_4k, ram_base));
    CHECK(world.mirror(model).figures().tables == tables + 1);
    return world.store.questions;
  };
  // One for each level on the way, and one for the page.
  constexpr std::uint64_t most = 5;
  CHECK(cost(1024) <= most);
  CHECK(cost(262'144) <= most);
}

}  // namespace viommu::test
