// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The paging-structure cache seen through the waist: how many words a walk loads, and what drops a cached table.
#include <catch2/catch.hpp>
#include <cstdint>

#include "tests/core/test_waist.hpp"
#include "tests/support/guarded_region.hpp"
#include "tests/support/guest_tables.hpp"

namespace viommu::core {
namespace {

using caches::Scope;
using test::GuardedRegion;
using test::GuestTables;
using test::TestWaist;
using Kind = Scope::Kind;

constexpr Iova iova{0x40000000};
constexpr SourceId device{0x0110};
constexpr DomainId domain{5};
constexpr std::uint64_t mib2 = 1 << 21;

WaistOptions exact_options() {
  WaistOptions options = test::small_waist;
  options.fill = FillMode::exact;
  options.rules = {52, false, true, true};
  return options;
}

/// One device with a tree of `levels`; each question is for a page that was not asked for before.
class Guest {
 public:
  explicit Guest(unsigned levels = 4, std::uint64_t ram_at = 0x100000)
      : ram{ram_at, 0x40000}, tables{test::words_of(ram), ram_at}, tree{tables.create_tree(levels)} {
    REQUIRE(waist.add(ram) == RegionResult::ok);
    waist->enter(reader);
  }
  Guest(const Guest&) = delete;
  Guest& operator=(const Guest&) = delete;
  ~Guest() { waist->leave(reader); }

  caches::AddressSpace& space() {
    const caches::AddressSpaceKey key{domain,
                                      caches::Interpretation::second_stage,
                                      static_cast<std::uint8_t>(tree.levels - 1),
                                      {tree.root},
                                      {low_bits(12 + 9 * tree.levels)}};
    caches::ContextEntry context = waist->find_context(device);
    if (!context) context = waist->insert_context(waist->context_version(), device, key, false);
    REQUIRE(context);
    return context.space();
  }
  /// Maps the page and asks for it. @return loads of its walk
  std::uint64_t loads(Iova at, unsigned level = 1) {
    const std::uint64_t gpa = (at.value + (std::uint64_t{1} << 33)) & ~low_bits(12 + 9 * (level - 1));
    tables.map(tree, at.value, gpa, 3, level);
    const std::uint64_t before = waist->count(Count::walk_loads);
    const Translation found = waist->translate(reader, space(), at, read_only);
    CHECK(found.outcome == Outcome::translated);
    CHECK(found.gpa == Gpa{gpa + (at.value & low_bits(12 + 9 * (level - 1)))});
    return waist->count(Count::walk_loads) - before;
  }
  /// The next page of the first gigabyte that nobody has asked for.
  Iova fresh() { return iova + page_size_bytes * ++asked_; }

  TestWaist waist{exact_options()};
  GuardedRegion ram;
  GuestTables tables;
  test::Tree tree;
  Reader& reader = waist.reader();

 private:
  std::uint64_t asked_ = 0;
};

}  // namespace

TEST_CASE("a walk begins at the nearest table that is cached", "[core][waist][structures]") {
  const unsigned levels = GENERATE(3U, 4U, 5U);
  Guest guest{levels};
  CHECK(guest.loads(guest.fresh()) == levels);    // announces
  CHECK(guest.loads(guest.fresh()) == levels);    // fills
  CHECK(guest.loads(guest.fresh()) == 1);         // the leaf alone
  CHECK(guest.loads(iova + 5 * mib2) == levels);  // another leaf table: the gigabyte's table is not cached by that
  CHECK(guest.loads(iova + 5 * mib2 + 0x1000) == 1);
}

TEST_CASE("a walk to a large page caches the table that its leaf lies in", "[core][waist][structures]") {
  Guest guest{5};
  CHECK(guest.loads(iova, 2) == 4);
  CHECK(guest.loads(iova + mib2, 2) == 4);
  CHECK(guest.loads(iova + 2 * mib2, 2) == 1);
  CHECK(guest.loads(iova + 3 * mib2) == 2);  // a small page: by way of the same table
  CHECK(guest.loads(iova + 3 * mib2 + 0x1000) == 2);
  CHECK(guest.loads(iova + 3 * mib2 + 0x2000) == 1);
}

TEST_CASE("cached tables are dropped by what covers them", "[core][waist][structures][P1][QVT-15]") {
  Guest guest;
  for (unsigned round = 0; round < 2; ++round) static_cast<void>(guest.loads(guest.fresh()));
  REQUIRE(guest.loads(guest.fresh()) == 1);
  const IovaRange page{iova + 0x100000, iova + 0x100FFF};  // no page that was asked for, but its table
  unsigned expected = 4;
  SECTION("pages of the domain") { guest.waist->drop(Scope{Kind::pages, domain, page, {}, 0}); }
  SECTION("pages of another domain") {
    guest.waist->drop(Scope{Kind::pages, {6}, page, {}, 0});
    expected = 1;
  }
  SECTION("pages elsewhere") {
    guest.waist->drop(Scope{Kind::pages, domain, {iova + 2 * mib2, iova + (3 * mib2 - 1)}, {}, 0});
    expected = 1;
  }
  SECTION("pages, of which only leaves have changed") {
    guest.waist->drop(Scope{Kind::pages, domain, page, {}, 0, true});
    expected = 1;
  }
  SECTION("more pages than are dropped one by one") {
    guest.waist->drop(Scope{Kind::pages, domain, {iova, iova + low_bits(30)}, {}, 0, true});
  }
  SECTION("the domain") { guest.waist->drop(Scope{Kind::domain, domain, all_iovas, {}, 0}); }
  SECTION("another domain") {
    guest.waist->drop(Scope{Kind::domain, {6}, all_iovas, {}, 0});
    expected = 1;
  }
  SECTION("all translations") { guest.waist->drop(Scope{Kind::translations, {}, all_iovas, {}, 0}); }
  SECTION("the context of the last device") {
    guest.waist->drop(Scope{Kind::source_contexts, {}, all_iovas, device, 0});
  }
  SECTION("everything") { guest.waist->drop(Scope{}); }
  CHECK(guest.loads(guest.fresh()) == expected);
}

TEST_CASE("a removed region is reached through no cached table", "[core][waist][structures][SEC-1]") {
  Guest guest;
  for (unsigned round = 0; round < 3; ++round) static_cast<void>(guest.loads(guest.fresh()));
  REQUIRE(guest.waist->remove_region({0x100000}, 1) == RegionResult::ok);
  const Translation found = guest.waist->translate(guest.reader, guest.space(), iova + 0x1000, read_only);
  CHECK(found.outcome == Outcome::top_table_unreadable);
}

TEST_CASE("a cached table in the last page of 52 bits is read where it is", "[core][waist][structures]") {
  Guest guest{4, (std::uint64_t{1} << 52) - 0x40000};
  for (std::uint64_t round = 0; round < 2; ++round) static_cast<void>(guest.loads(iova + round * 2 * mib2 + 0x1FF000));
  for (std::uint64_t round = 0; round < 2; ++round) CHECK(guest.loads(iova + round * 2 * mib2 + 0x1FE000) >= 1);
  CHECK(guest.loads(iova + 0x1FD000) == 1);
}

TEST_CASE("a fault that a cached table leads to is decided on the path as it is", "[core][waist][structures][P4]") {
  Guest guest;
  for (unsigned round = 0; round < 3; ++round) static_cast<void>(guest.loads(guest.fresh()));
  constexpr Iova absent = iova + 0x1F0000;
  const std::uint64_t before = guest.waist->count(Count::walk_loads);
  const auto ask = [&] { return guest.waist->translate(guest.reader, guest.space(), absent, read_only); };
  CHECK(ask().outcome == Outcome::absent);
  CHECK(guest.waist->count(Count::walk_loads) - before == 4);  // the leaf once, and the three above it
  const std::uint64_t slot = guest.tables.slot(guest.tree, absent.value, 2);
  const std::uint64_t entry = guest.ram.load_u64(slot).value_or(0);
  SECTION("a large page instead of the table") {
    guest.ram.store_u64(slot, 0x40000083);
    const Translation found = ask();
    CHECK(found.outcome == Outcome::translated);
    CHECK(found.gpa == Gpa{0x401F0000});
    CHECK(found.mask == mib2 - 1);
  }
  SECTION("another table") {
    const std::uint64_t other = guest.tables.allocate_page();
    guest.ram.store_u64(other + (absent.value >> 12 & 511) * 8, 0x77003);
    guest.ram.store_u64(slot, other | 3);
    CHECK(ask().gpa == Gpa{0x77000});
  }
  SECTION("a table out of memory") {
    guest.ram.store_u64(slot, 0x7000000003);
    CHECK(ask().outcome == Outcome::table_unreadable);
  }
  SECTION("nothing") {
    guest.ram.store_u64(slot, 0);
    CHECK(ask().outcome == Outcome::absent);
  }
  SECTION("an entry with a reserved bit") {
    guest.ram.store_u64(slot, entry | std::uint64_t{1} << 62);
    CHECK(ask().outcome == Outcome::malformed);
  }
  SECTION("fewer rights, and then more") {
    guest.tables.map(guest.tree, absent.value, 0x5000, 3);
    guest.waist->drop(Scope{});
    guest.ram.store_u64(slot, (entry & ~std::uint64_t{3}) | 1);
    for (unsigned round = 0; round < 3; ++round) CHECK(ask().outcome == Outcome::translated);
    const auto write = [&] { return guest.waist->translate(guest.reader, guest.space(), absent, write_only); };
    CHECK(write().outcome == Outcome::denied);
    guest.ram.store_u64(slot, entry);
    CHECK(write().outcome == Outcome::translated);
  }
}

TEST_CASE("an uncached engine caches no table either", "[core][waist][structures]") {
  WaistOptions options = exact_options();
  options.uncached = true;
  TestWaist waist{options};
  GuardedRegion ram{0x100000, 0x10000};
  REQUIRE(waist.add(ram) == RegionResult::ok);
  GuestTables tables{test::words_of(ram), 0x100000};
  const test::Tree tree = tables.create_tree(3);
  tables.map(tree, iova.value, 0x5000);
  Reader& reader = waist.reader();
  const test::WaistGuard guard{waist.waist, reader};
  const caches::AddressSpaceKey key{domain, caches::Interpretation::second_stage, 2, {tree.root}, {low_bits(39)}};
  const caches::ContextEntry context = waist->insert_context(waist->context_version(), device, key, false);
  REQUIRE(context);
  for (std::uint64_t round = 1; round <= 5; ++round) {
    CHECK(waist->translate(reader, context.space(), iova, read_only).outcome == Outcome::translated);
    CHECK(waist->count(Count::walks) == round);
    CHECK(waist->count(Count::walk_loads) == 3 * round);
  }
  CHECK(waist->count(Count::fills) == 0);
}

}  // namespace viommu::core
