// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What consumers of mappings are told, as the guest changes its tables, its contexts and the unit.
#include <catch2/catch.hpp>
#include <vector>

#include "tests/behaviour/mirrored.hpp"
#include "tests/behaviour/ring.hpp"
#include "tests/support/mirror_model.hpp"

namespace viommu::test {
namespace {

constexpr std::uint64_t page = 0x1000;
constexpr std::uint64_t mib2 = 0x20'0000;
constexpr std::uint64_t gib = 0x4000'0000;
constexpr std::uint16_t device_a = 0x100;
constexpr std::uint16_t device_b = 0x200;
constexpr std::uint64_t high_ram = 0x1'0000'0000;

/// RAM as the requirements have it: [0, 2 GiB) and [4 GiB, 6 GiB).
struct World : Machine {
  explicit World(const viommu_vtd_options& options = options_39()) : Machine{options} {
    add_ram(0, 0x8000'0000);
    add_ram(high_ram, 0x8000'0000);
  }
  void add_ram(std::uint64_t gpa, std::uint64_t length, std::uint64_t flags = VIOMMU_REGION_UNMAPPED) {
    const viommu_region region{gpa, length, nullptr, flags};
    REQUIRE(viommu_region_add(engine.get(), &region) == VIOMMU_OK);
  }
  Tree attach_39(std::uint16_t source, std::uint16_t domain) { return attach(source, domain, 3); }
  /// Context and page invalidations as they are, then a wait.
  void context(std::uint16_t source, std::uint16_t domain = 0) {
    driver.add_context_device(domain, source);
    driver.submit_and_wait();
  }
  void pages(std::uint16_t domain, std::uint64_t iova, unsigned mask = 0) {
    driver.add_page(domain, iova, mask);
    driver.submit_and_wait();
  }
  void domain(std::uint16_t id) {
    driver.add_domain(id);
    driver.submit_and_wait();
  }
  [[nodiscard]] std::uint32_t view(std::uint16_t source) {
    std::uint32_t view = ~0U;
    REQUIRE(viommu_view(engine.get(), source, &view) == VIOMMU_OK);
    return view;
  }
  /// The first device boots into domain 7 with nothing mapped and a consumer.
  Tree boot_with(MirrorModel& mirror) {
    const Tree tree = attach_39(device_a, 7);
    boot();
    mirror.join(engine, device_a);
    return tree;
  }
};

const std::vector<Seen> all_ram{mapped(0, 0x8000'0000, 0), mapped(high_ram, 0x8000'0000, high_ram)};
const std::vector<Seen> ram_gone{unmapped(0, 0x8000'0000), unmapped(high_ram, 0x8000'0000)};

}  // namespace

TEST_CASE("while translation is off a consumer has the sections of guest memory and no more",
          "[behaviour][S1.1][S1.23]") {
  World world;
  MirrorModel mirror;
  mirror.join(world.engine, device_a);
  CHECK(mirror.take_seen() == all_ram);
  CHECK(world.view(device_a) == VIOMMU_VIEW_SYSTEM);
  SECTION("memory that is added comes, and goes when it is removed") {
    world.add_ram(0x2'0000'0000, 0x1000'0000);
    CHECK(mirror.take_seen() == std::vector{mapped(0x2'0000'0000, 0x1000'0000, 0x2'0000'0000)});
    REQUIRE(world.engine.remove_region(0x2'0000'0000, 9) == VIOMMU_OK);
    CHECK(mirror.take_seen() == std::vector{unmapped(0x2'0000'0000, 0x1000'0000)});
  }
  CHECK(mirror.wrong.empty());
}

TEST_CASE("translation on and off withdraws one view before it delivers the other",
          "[behaviour][S1.2][S1.3][A07][A08]") {
  World world;
  MirrorModel mirror;
  mirror.join(world.engine, device_a);
  mirror.take_seen();
  world.boot();  // no root entry for A
  CHECK(mirror.take_seen() == ram_gone);
  CHECK(world.view(device_a) == VIOMMU_VIEW_BLOCKED);
  const Tree tree = world.attach_39(device_a, 7);
  world.tables.map(tree, page, 0x20'0000);
  world.tables.map(tree, mib2, gib, entry_read_write, 2);
  world.context(device_a);
  CHECK(mirror.take_seen() == std::vector{mapped(page, page, 0x20'0000), mapped(mib2, mib2, gib)});
  CHECK(world.view(device_a) == VIOMMU_VIEW_TRANSLATED);
  world.driver.enable_translation(false);
  CHECK(mirror.take_seen() == std::vector{unmapped(page, page), unmapped(mib2, mib2), mapped(0, 0x8000'0000, 0),
                                          mapped(high_ram, 0x8000'0000, high_ram)});
  world.driver.enable_translation(false);
  CHECK(mirror.take_seen().empty());
  CHECK(mirror.wrong.empty());
}

TEST_CASE("a late consumer gets all there is, ascending, and the others get nothing",
          "[behaviour][S1.4][S1.5][A09][B52][B55]") {
  World world;
  MirrorModel first;
  const Tree tree = world.boot_with(first);
  for (std::uint64_t i = 0; i < 512; ++i) world.tables.map(tree, 0x40'0000 + i * page, 0x10'0000 + (i ^ 1) * page);
  world.tables.map(tree, mib2, gib, entry_read_write, 2);
  world.domain(7);
  CHECK(first.units() == 513);
  first.take_seen();
  MirrorModel second{VIOMMU_CONSUMER_LEAF};
  second.join(world.engine, device_a);
  CHECK(second.maps == 513);
  CHECK(std::ranges::is_sorted(second.seen, {}, [](const Seen& event) { return event.what.iova; }));
  CHECK(second.extents() == first.extents());
  CHECK(first.seen.empty());
  SECTION("a device attached to that domain gets it with the context, and nothing more with the flush") {
    MirrorModel other{VIOMMU_CONSUMER_LEAF};
    other.join(world.engine, device_b);
    world.tables.attach(device_b, tree, {.domain_id = 7});
    world.context(device_b);
    CHECK(other.maps == 513);
    world.domain(7);
    CHECK(other.maps == 513);
    CHECK(other.unmaps == 0);
    CHECK(other.wrong.empty());
  }
  MirrorModel unmaps;
  unmaps.consumer.notify = VIOMMU_EVENT_UNMAP;
  unmaps.join(world.engine, device_a);
  CHECK(unmaps.seen.empty());
  CHECK(first.wrong.empty());
  CHECK(second.wrong.empty());
}

TEST_CASE("a changed leaf is an UNMAP and a MAP, once", "[behaviour][S1.8][S1.9][A11]") {
  World world;
  MirrorModel mirror;
  const Tree tree = world.boot_with(mirror);
  world.tables.map(tree, page, 0x20'0000);
  world.pages(7, page);
  CHECK(mirror.take_seen() == std::vector{mapped(page, page, 0x20'0000)});
  world.tables.map(tree, page, 0x20'5000);
  CHECK(mirror.seen.empty());
  world.pages(7, page);
  CHECK(mirror.take_seen() == std::vector{unmapped(page, page), mapped(page, page, 0x20'5000)});
  world.tables.map(tree, page, 0x20'5000, entry_read);
  world.pages(7, page);
  CHECK(mirror.take_seen() == std::vector{unmapped(page, page), mapped(page, page, 0x20'5000, VIOMMU_READ)});
  world.pages(7, page);
  world.domain(7);
  world.driver.add_global();
  world.driver.submit_and_wait();
  world.context(device_a, 7);
  world.driver.add_context_global();
  world.driver.submit_and_wait();
  CHECK(mirror.take_seen().empty());
}

TEST_CASE("a page invalidation looks at the pages it names", "[behaviour][S1.10]") {
  World world;
  MirrorModel mirror;
  const Tree tree = world.boot_with(mirror);
  for (std::uint64_t i = 0; i < 4; ++i) world.tables.map(tree, i * page, 0x20'0000 + i * page);
  world.domain(7);
  CHECK(mirror.take_seen() == std::vector{mapped(0, 4 * page, 0x20'0000)});
  world.tables.map(tree, page, 0x30'0000);
  world.tables.map(tree, 2 * page, 0x30'4000);
  world.pages(7, page);
  // The unit goes as a whole, and what did not change comes back as it was.
  CHECK(mirror.extents() ==
        std::vector<Extent>{{0, page, 0x20'0000, 3}, {page, page, 0x30'0000, 3}, {2 * page, 2 * page, 0x20'2000, 3}});
  SECTION("a large page is one leaf, whatever part of it is named") {
    world.tables.map(tree, mib2, gib, entry_read_write, 2);
    world.pages(7, mib2, 9);
    mirror.take_seen();
    world.tables.map(tree, mib2, gib + mib2, entry_read_write, 2);
    world.pages(7, mib2 + 5 * page);
    CHECK(mirror.take_seen() == std::vector{unmapped(mib2, mib2), mapped(mib2, mib2, gib + mib2)});
    world.tables.unmap(tree, mib2, 2);
    world.tables.map(tree, mib2 + page, gib + page);
    world.pages(7, mib2 + 5 * page);
    CHECK(mirror.take_seen() == std::vector{unmapped(mib2, mib2), mapped(mib2 + page, page, gib + page)});
  }
  CHECK(mirror.wrong.empty());
}

TEST_CASE("a page invalidation beyond the width of the tables looks at nothing", "[behaviour][S1.10]") {
  viommu_vtd_options options = usual_options();
  options.capability |= cap_caching_mode;
  World world{options};
  MirrorModel mirror{0, 0, 0xFFFF'FFFF'FFFF};
  const Tree tree = world.boot_with(mirror);
  world.tables.map(tree, page, 0x20'0000);
  world.pages(7, std::uint64_t{1} << 45, 18);
  CHECK(mirror.seen.empty());
  world.domain(7);
  CHECK(mirror.take_seen() == std::vector{mapped(page, page, 0x20'0000)});
}

TEST_CASE("an invalidation of a domain reaches the devices whose context in force names it", "[behaviour][S1.11]") {
  World world;
  MirrorModel a;
  MirrorModel b;
  const Tree tree = world.boot_with(a);
  b.join(world.engine, device_b);
  const Tree other = world.attach_39(device_b, 8);
  world.context(device_b);
  world.tables.map(tree, page, 0x20'0000);
  world.tables.map(other, page, 0x30'0000);
  world.domain(7);
  CHECK(a.take_seen() == std::vector{mapped(page, page, 0x20'0000)});
  CHECK(b.seen.empty());
  // Memory says domain 9 by now; the unit has not been told.
  world.tables.attach(device_a, tree, {.domain_id = 9});
  world.tables.unmap(tree, page);
  world.domain(9);
  CHECK(a.seen.empty());
  world.domain(7);
  CHECK(a.take_seen() == std::vector{unmapped(page, page)});
}

TEST_CASE("events are clipped to the range, and the target moves with the clip",
          "[behaviour][S1.12][A14][B48][B49][B54]") {
  World world;
  MirrorModel low{0, 0, 0xFEDF'FFFF};
  MirrorModel high{0, 0xFEF0'0000, 0x7F'FFFF'FFFF};
  const Tree tree = world.boot_with(low);
  high.join(world.engine, device_a);
  world.tables.map(tree, 0xFEE0'0000, gib, entry_read_write, 2);
  world.domain(7);
  CHECK(low.seen.empty());
  CHECK(high.take_seen() == std::vector{mapped(0xFEF0'0000, 0x10'0000, gib + 0x10'0000)});
  SECTION("one byte of a page, at either end") {
    MirrorModel byte{0, 0xFEF0'0FFF, 0xFEF0'0FFF};
    byte.join(world.engine, device_a);
    CHECK(byte.take_seen() == std::vector{mapped(0xFEF0'0FFF, 1, gib + 0x10'0FFF)});
    world.tables.unmap(tree, 0xFEE0'0000, 2);
    world.domain(7);
    CHECK(byte.take_seen() == std::vector{unmapped(0xFEF0'0FFF, 1)});
  }
  SECTION("a range beyond the width gets nothing and does no harm") {
    MirrorModel beyond{0, std::uint64_t{1} << 39, ~std::uint64_t{0}};
    beyond.join(world.engine, device_a);
    world.domain(7);
    world.driver.enable_translation(false);
    CHECK(beyond.seen.empty());
  }
}

TEST_CASE("the whole range goes in aligned powers of two", "[behaviour][S1.13][A14]") {
  World world;
  MirrorModel low{VIOMMU_CONSUMER_POW2, 0, 0xFEDF'FFFF};
  MirrorModel high{VIOMMU_CONSUMER_POW2, 0xFEF0'0000, 0x7F'FFFF'FFFF};
  const Tree tree = world.boot_with(low);
  high.join(world.engine, device_a);
  world.tables.map(tree, 0xFEE0'0000, gib, entry_read_write, 2);
  world.domain(7);
  low.take_seen();
  high.take_seen();
  world.driver.set_root_table(world.tables.root_table());
  std::vector<std::uint64_t> sizes;
  for (const Seen& event : low.seen)
    if (event.kind == VIOMMU_EVENT_UNMAP) sizes.push_back(event.what.length);
  CHECK(sizes == std::vector<std::uint64_t>{0x8000'0000, 0x4000'0000, 0x2000'0000, 0x1000'0000, 0x800'0000, 0x400'0000,
                                            0x200'0000, 0x80'0000, 0x40'0000, 0x20'0000});
  CHECK(high.unmaps == 9);
  CHECK(low.wrong.empty());
  CHECK(high.wrong.empty());
}

TEST_CASE("a context that does not translate leaves nothing mapped", "[behaviour][S1.14][B50]") {
  World world;
  MirrorModel mirror;
  const Tree tree = world.boot_with(mirror);
  world.tables.map(tree, page, 0x20'0000);
  world.domain(7);
  REQUIRE(mirror.take_seen().size() == 1);
  const std::uint64_t entry = world.tables.context_entry(device_a);
  SECTION("absent") { world.tables.detach(device_a); }
  SECTION("reserved bits") { REQUIRE(world.memory.store_u64(entry + 8, 0x701 | std::uint64_t{1} << 40)); }
  SECTION("a width that there is not") { REQUIRE(world.memory.store_u64(entry + 8, 0x707)); }
  SECTION("a table that cannot be read") {
    REQUIRE(world.memory.store_u64(world.tables.root_table() + 0x10, 0x70'0000'0001));
  }
  SECTION("no root entry") { REQUIRE(world.memory.store_u64(world.tables.root_table() + 0x10, 0)); }
  world.context(device_a, 7);
  CHECK(mirror.take_seen() == std::vector{unmapped(page, page)});
  CHECK(world.view(device_a) == VIOMMU_VIEW_BLOCKED);
  CHECK_FALSE(world.driver.take_fault());
}

TEST_CASE("consumers that only hear what goes get the ranges themselves", "[behaviour][S1.15][S0.6][B06]") {
  viommu_vtd_options options = options_39();
  options.capability &= ~cap_caching_mode;
  World world{options};
  MirrorModel mirror;
  mirror.consumer.notify = VIOMMU_EVENT_UNMAP;
  mirror.join(world.engine, device_a);
  world.attach_39(device_a, 7);
  world.boot();
  mirror.take_seen();
  const std::uint64_t walks = world.engine.statistics().walks;
  world.driver.add(0x7'00F2, mib2 | 9);
  world.driver.submit_and_wait();
  CHECK(mirror.take_seen() == std::vector{unmapped(mib2, mib2)});
  world.domain(7);
  world.driver.add_global();
  world.driver.submit_and_wait();
  CHECK(mirror.take_seen() == std::vector{unmapped(0, 0x80'0000'0000), unmapped(0, 0x80'0000'0000)});
  world.domain(8);
  CHECK(mirror.seen.empty());
  CHECK(world.engine.statistics().walks == walks);
}

TEST_CASE("a subscription that the unit cannot serve is refused, and all is as before",
          "[behaviour][S0.4][S0.7][S0.8][A04][B58]") {
  viommu_refusal refusal{};
  refusal.size = sizeof refusal;
  SECTION("MAP without caching mode") {
    viommu_vtd_options options = options_39();
    options.capability &= ~cap_caching_mode;
    World world{options};
    MirrorModel old;
    old.consumer.notify = VIOMMU_EVENT_UNMAP;
    old.join(world.engine, device_a);
    MirrorModel mirror;
    CHECK(mirror.subscribe(world.engine, device_a, &refusal) == VIOMMU_E_REFUSED);
    CHECK(refusal.code == VIOMMU_REFUSED_NOT_SUPPORTED);
    CHECK(std::string{refusal.text}.find("01:00.0") != std::string::npos);
    CHECK(std::string{refusal.text}.find("caching-mode") != std::string::npos);
    CHECK(viommu_unsubscribe(world.engine.get(), mirror.id) == VIOMMU_E_NOT_FOUND);
    world.attach_39(device_a, 7);
    world.boot();
    old.take_seen();
    world.domain(7);
    CHECK(old.seen.size() == 1);
  }
  SECTION("device TLBs where there are none") {
    World world;
    MirrorModel mirror;
    mirror.consumer.notify = VIOMMU_EVENT_DEVICE_UNMAP | VIOMMU_EVENT_UNMAP;
    CHECK(mirror.subscribe(world.engine, device_a, &refusal) == VIOMMU_E_REFUSED);
    CHECK(refusal.code == VIOMMU_REFUSED_NOT_SUPPORTED);
    viommu_vtd_options options = options_39();
    options.extended_capability |= ecap_device_tlb;
    World with{options};
    CHECK(mirror.subscribe(with.engine, device_a, &refusal) == VIOMMU_OK);
    with.boot();
    mirror.take_seen();
    with.driver.add(descriptor::device_tlb | std::uint64_t{device_a} << 32, page);
    with.driver.submit_and_wait();
    CHECK(mirror.take_seen() == std::vector<Seen>{{VIOMMU_EVENT_DEVICE_UNMAP, {page, page, 0, 0}}});
  }
  SECTION("snoop control") {
    viommu_vtd_options options = options_39();
    options.extended_capability |= 0x80;
    World world{options};
    MirrorModel mirror;
    CHECK(mirror.subscribe(world.engine, device_a, &refusal) == VIOMMU_E_REFUSED);
    CHECK(std::string{refusal.text}.find("Snoop Control") != std::string::npos);
    MirrorModel snooping{VIOMMU_CONSUMER_SNOOPS};
    CHECK(snooping.subscribe(world.engine, device_a, &refusal) == VIOMMU_OK);
  }
}

TEST_CASE("a device that moves between domains sees exactly the difference", "[behaviour][S1.6][S1.7][A10]") {
  World world;
  MirrorModel mirror;
  const Tree seven = world.boot_with(mirror);
  world.tables.map(seven, page, 0x20'0000);
  world.tables.map(seven, mib2, gib, entry_read_write, 2);
  world.domain(7);
  const Tree eight = world.tables.create_tree(3);
  world.tables.map(eight, page, 0x20'1000, entry_read);
  world.tables.map(eight, 3 * page, 0x20'2000);
  world.tables.map(eight, mib2, gib, entry_read_write, 2);
  mirror.take_seen();
  SECTION("in place") {
    world.tables.attach(device_a, eight, {.domain_id = 8});
    world.context(device_a, 7);
    CHECK(mirror.take_seen() == std::vector{unmapped(page, page), mapped(page, page, 0x20'1000, VIOMMU_READ),
                                            mapped(3 * page, page, 0x20'2000)});
  }
  SECTION("by way of nothing") {
    world.tables.detach(device_a);
    world.context(device_a, 7);
    world.domain(7);
    CHECK(mirror.take_seen() == std::vector{unmapped(page, page), unmapped(mib2, mib2)});
    world.tables.attach(device_a, eight, {.domain_id = 8});
    world.context(device_a);
    CHECK(mirror.take_seen() == std::vector{mapped(page, page, 0x20'1000, VIOMMU_READ),
                                            mapped(3 * page, page, 0x20'2000), mapped(mib2, mib2, gib)});
    world.domain(8);
    CHECK(mirror.seen.empty());
  }
  SECTION("to pass-through and back") {
    world.attach_pass_through(device_a, 5, 1);
    world.context(device_a, 7);
    CHECK(mirror.take_seen() == std::vector{unmapped(page, page), unmapped(mib2, mib2), mapped(0, 0x8000'0000, 0),
                                            mapped(high_ram, 0x8000'0000, high_ram)});
    CHECK(world.view(device_a) == VIOMMU_VIEW_SYSTEM);
    world.tables.attach(device_a, seven, {.domain_id = 7});
    world.context(device_a, 5);
    CHECK(mirror.extents() == std::vector<Extent>{{page, page, 0x20'0000, 3}, {mib2, mib2, gib, 3}});
  }
  CHECK(mirror.wrong.empty());
}

TEST_CASE("a failed MAP is reported, is not held, and is tried again", "[behaviour][S1.20][SEC-15]") {
  World world;
  MirrorModel mirror{VIOMMU_CONSUMER_LEAF};
  const Tree tree = world.boot_with(mirror);
  for (std::uint64_t i = 0; i < 5; ++i) world.tables.map(tree, i * page, 0x20'0000 + i * page);
  mirror.fails = [](const viommu_event& event) { return event.iova == 2 * page; };
  world.domain(7);
  CHECK(mirror.units() == 4);
  CHECK(mirror.reports.size() == 1);
  CHECK(mirror.reports.front().what == VIOMMU_REPORT_FAILED);
  mirror.fails = nullptr;
  mirror.take_seen();
  world.domain(7);
  CHECK(mirror.take_seen() == std::vector{mapped(2 * page, page, 0x20'2000)});
  SECTION("a failed UNMAP leaves what was there, and is tried again") {
    world.tables.unmap(tree, page);
    mirror.fails = [](const viommu_event& event) { return event.kind == VIOMMU_EVENT_UNMAP; };
    world.domain(7);
    CHECK(mirror.units() == 5);
    mirror.fails = nullptr;
    mirror.take_seen();
    world.domain(7);
    CHECK(mirror.take_seen() == std::vector{unmapped(page, page)});
  }
  CHECK(mirror.wrong.empty());
}

TEST_CASE("parts of memory that are discarded are not mapped, and memory that goes is withdrawn before it is given up",
          "[behaviour][S1.24][S5.8]") {
  World world;
  MirrorModel mirror;
  const Tree tree = world.boot_with(mirror);
  world.tables.map(tree, page, high_ram);
  world.tables.map(tree, 2 * page, 0x1000'0000);
  world.domain(7);
  mirror.take_seen();
  SECTION("removal waits for a hold") {
    world.take_effects();
    viommu_translation answer{};
    Hold hold = world.reader.hold(request(device_a, page, VIOMMU_READ), 1, answer);
    REQUIRE(hold);
    REQUIRE(world.engine.remove_region(high_ram, 7) == VIOMMU_OK);
    CHECK(mirror.take_seen() == std::vector{unmapped(page, page)});
    CHECK(world.take_effects().empty());
    hold = {};
    world.engine.process();
    CHECK(world.take_effects() == std::vector<Effect>{{Effect::gone, 7, 0}});
  }
  SECTION("discarded and populated again") {
    REQUIRE(viommu_region_part(world.engine.get(), 0x1000'0000, 0x1000'0000, VIOMMU_PART_DISCARDED, 1) == VIOMMU_OK);
    CHECK(mirror.take_seen() == std::vector{unmapped(2 * page, page)});
    CHECK(mirror.reports.size() == 1);
    REQUIRE(viommu_region_part(world.engine.get(), 0x1000'0000, 0x1000'0000, VIOMMU_PART_SHARED, 2) == VIOMMU_OK);
    CHECK(mirror.take_seen() == std::vector{mapped(2 * page, page, 0x1000'0000)});
  }
  SECTION("private memory is for those who take it, and is never read") {
    MirrorModel taking{VIOMMU_CONSUMER_PRIVATE};
    taking.join(world.engine, device_a);
    REQUIRE(viommu_region_part(world.engine.get(), 0x1000'0000, page, VIOMMU_PART_PRIVATE, 1) == VIOMMU_OK);
    CHECK(mirror.take_seen() == std::vector{unmapped(2 * page, page)});
    CHECK(taking.extents().size() == 2);
    REQUIRE(viommu_region_part(world.engine.get(), world.tables.root_table(), page, VIOMMU_PART_PRIVATE, 1) ==
            VIOMMU_OK);
    const std::uint64_t before = world.loads;
    CHECK(world.blocked(device_a, page) == 8);
    CHECK(world.loads == before);
  }
}

TEST_CASE("a device's BAR is for consumers that take it", "[behaviour][S1.26]") {
  World world;
  world.add_ram(0xC000'0000, 0x10000, VIOMMU_REGION_MMIO);
  MirrorModel taking{VIOMMU_CONSUMER_MMIO | VIOMMU_CONSUMER_LEAF};
  MirrorModel plain{VIOMMU_CONSUMER_LEAF};
  const Tree tree = world.boot_with(taking);
  plain.join(world.engine, device_a);
  world.tables.map(tree, page, 0x20'0000);
  world.tables.map(tree, 2 * page, 0xC000'0000);
  world.tables.map(tree, 3 * page, 0xD000'0000);
  world.domain(7);
  CHECK(taking.take_seen() ==
        std::vector{mapped(page, page, 0x20'0000), mapped(2 * page, page, 0xC000'0000, 3 | VIOMMU_MMIO)});
  CHECK(plain.take_seen() == std::vector{mapped(page, page, 0x20'0000)});
  CHECK(taking.reports.size() == 1);
  CHECK(plain.reports.size() == 2);
  world.domain(7);
  CHECK(plain.reports.size() == 2);  // told once
}

TEST_CASE("more than its quota is mapped for no consumer: it is blocked, with one report", "[behaviour][B59][SEC-7]") {
  viommu_vtd_options options = options_39();
  options.mapping_quota = 8;
  World world{options};
  MirrorModel mirror;
  const Tree tree = world.boot_with(mirror);
  for (std::uint64_t i = 0; i < 9; ++i) world.tables.map(tree, i * 2 * page, 0x20'0000 + i * page);
  world.domain(7);
  CHECK(mirror.units() == 0);
  CHECK(world.view(device_a) == VIOMMU_VIEW_BLOCKED);
  REQUIRE(mirror.reports.size() == 1);
  CHECK(mirror.reports.front().what == VIOMMU_REPORT_QUOTA);
  SECTION("until there is less") {
    world.tables.unmap(tree, 0);
    world.tables.detach(device_a);
    world.context(device_a);
    world.tables.attach(device_a, tree, {.domain_id = 7});
    world.context(device_a);
    CHECK(mirror.units() == 8);
    CHECK(world.view(device_a) == VIOMMU_VIEW_TRANSLATED);
  }
  CHECK(mirror.wrong.empty());
}

TEST_CASE("a reset empties what is translated, and keeps who listens", "[behaviour][S1.17]") {
  World world;
  MirrorModel mirror;
  const Tree tree = world.boot_with(mirror);
  world.tables.map(tree, page, 0x20'0000);
  world.domain(7);
  mirror.take_seen();
  REQUIRE(world.engine.reset() == VIOMMU_OK);
  CHECK(mirror.take_seen() ==
        std::vector{unmapped(page, page), mapped(0, 0x8000'0000, 0), mapped(high_ram, 0x8000'0000, high_ram)});
  CHECK(viommu_unsubscribe(world.engine.get(), mirror.id) == VIOMMU_OK);
}

TEST_CASE("without caching mode the first request tells of a pass-through context", "[behaviour][S1.19]") {
  viommu_vtd_options options = options_39();
  options.capability &= ~cap_caching_mode;
  World world{options};
  MirrorModel mirror;
  mirror.consumer.notify = VIOMMU_EVENT_UNMAP;
  mirror.join(world.engine, device_a);
  world.boot();
  CHECK(world.view(device_a) == VIOMMU_VIEW_BLOCKED);
  world.attach_pass_through(device_a, 5, 1);
  CHECK(world.lands(device_a, page) == page);
  CHECK(world.view(device_a) == VIOMMU_VIEW_BLOCKED);
  world.engine.process();
  CHECK(world.view(device_a) == VIOMMU_VIEW_SYSTEM);
}

}  // namespace viommu::test
