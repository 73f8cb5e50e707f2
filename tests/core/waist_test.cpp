// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Lookups through the waist: what a hit, a walk and an invalidation answer, and what they cost.
#include "engine/core/waist.hpp"

#include <catch2/catch.hpp>
#include <cstdint>
#include <optional>

#include "tests/core/test_waist.hpp"
#include "tests/support/guarded_region.hpp"
#include "tests/support/guest_tables.hpp"

namespace viommu::core {
namespace {

using caches::Interpretation;
using caches::Scope;
using test::GuardedRegion;
using test::GuestTables;
using test::TestWaist;
using Kind = Scope::Kind;

constexpr Iova iova{0x40000000};
constexpr SourceId device{0x0110};
constexpr DomainId domain{5};

/// One device with a tree of three levels.
class Guest {
 public:
  explicit Guest(const WaistOptions& options = test::small_waist) : waist{options} {
    REQUIRE(waist.add(ram) == RegionResult::ok);
    waist->enter(reader);
  }
  Guest(const Guest&) = delete;
  Guest& operator=(const Guest&) = delete;
  ~Guest() { waist->leave(reader); }

  [[nodiscard]] caches::AddressSpaceKey key() const {
    return {domain, Interpretation::second_stage, 2, {tree.root}, {low_bits(39)}};
  }
  caches::AddressSpace& space(SourceId source = device) {
    caches::ContextEntry context = waist->find_context(source);
    if (!context) context = waist->insert_context(waist->context_version(), source, key(), false);
    REQUIRE(context);
    return context.space();
  }
  [[nodiscard]] caches::ContextEntry insert(Pasid pasid, SourceId source = device) {
    return waist->insert_context(waist->context_version(), caches::PasidKey{source, pasid}, key(), false);
  }
  Translation ask(Iova at = iova, Rights asked = read_only) { return waist->translate(reader, space(), at, asked); }
  void map(Iova at, std::uint64_t gpa, std::uint64_t rights = 3, unsigned level = 1) {
    tables.map(tree, at.value, gpa, rights, level);
  }
  /// The first large leaf of a size that an address space shows is announced and not filled: asks for one, far away.
  void announce(unsigned level) {
    constexpr Iova elsewhere{low_bits(39) & ~low_bits(30)};
    map(elsewhere, std::uint64_t{1} << 30, 3, level);
    CHECK(ask(elsewhere).outcome == Outcome::translated);
    tables.unmap(tree, elsewhere.value, level);
  }
  [[nodiscard]] std::uint64_t hits() const { return waist.waist.count(Count::iotlb_hits); }
  [[nodiscard]] std::uint64_t walks() const { return waist.waist.count(Count::walks); }

  TestWaist waist;
  GuardedRegion ram{0x100000, 0x40000};
  GuestTables tables{test::words_of(ram), 0x100000};
  test::Tree tree = tables.create_tree(3);
  Reader& reader = waist.reader();
};

}  // namespace

TEST_CASE("an answer is walked once and then found", "[core][waist]") {
  Guest guest;
  const unsigned level = GENERATE(1U, 2U, 3U);
  const std::uint64_t bytes = std::uint64_t{0x1000} << (9 * (level - 1));
  if (level != 1) guest.announce(level);
  guest.map(iova, 5 * bytes, 3, level);
  const std::uint64_t walks = guest.walks();
  const std::uint64_t loads = guest.waist->count(Count::walk_loads);
  for (unsigned round = 0; round < 3; ++round) {
    const Translation found = guest.ask(iova + 0x123);
    CHECK(found.outcome == Outcome::translated);
    CHECK(found.gpa == Gpa{5 * bytes + 0x123});
    CHECK(found.mask == bytes - 1);
    CHECK(found.rights == read_write);
    CHECK(guest.hits() == round);
    CHECK(guest.walks() == walks + 1);
  }
  CHECK(guest.waist->count(Count::walk_loads) == loads + 4 - level);
  CHECK(guest.waist->count(Count::fills) == 1);
}

TEST_CASE("a fault is decided on the tables, never on what is cached", "[core][waist][QVT-6]") {
  Guest guest;
  guest.map(iova, 0x5000, 1);
  CHECK(guest.ask(iova, read_only).outcome == Outcome::translated);
  CHECK(guest.ask(iova, write_only).outcome == Outcome::denied);
  guest.map(iova, 0x6000, 3);
  CHECK(guest.ask(iova, read_only).gpa == Gpa{0x5000});  // stale, as allowed until the guest invalidates
  const Translation now = guest.ask(iova, write_only);
  CHECK(now.outcome == Outcome::translated);
  CHECK(now.gpa == Gpa{0x6000});
  CHECK(guest.ask(iova, read_only).gpa == Gpa{0x6000});
}

TEST_CASE("faults are not cached", "[core][waist][B35]") {
  Guest guest;
  CHECK(guest.ask().outcome == Outcome::absent);
  guest.map(iova, 0x5000);
  CHECK(guest.ask().outcome == Outcome::translated);
}

TEST_CASE("each outcome is told apart", "[core][waist]") {
  Guest guest;
  CHECK(guest.ask({low_bits(39) + 1}).outcome == Outcome::beyond_width);
  CHECK(guest.ask({low_bits(39)}).outcome == Outcome::absent);
  guest.map(iova, 0x5000);
  guest.ram.store_u64(guest.tables.slot(guest.tree, iova.value, 1), 0x5003 | std::uint64_t{1} << 62);
  CHECK(guest.ask().outcome == Outcome::malformed);
  guest.ram.store_u64(guest.tables.slot(guest.tree, iova.value, 2), 0x40000003);
  CHECK(guest.ask().outcome == Outcome::table_unreadable);
  caches::AddressSpaceKey nowhere = guest.key();
  nowhere.root = {0x40000000};
  CHECK(guest.waist->translate_uncached(guest.reader, nowhere, iova, read_only).outcome ==
        Outcome::top_table_unreadable);
}

TEST_CASE("nothing asked is granted by any right", "[core][waist]") {
  Guest guest;
  for (const std::uint64_t rights : {1U, 2U, 3U}) {
    guest.map(iova, 0x5000, rights);
    guest.waist->drop(Scope{});
    CHECK(guest.ask(iova, {}).outcome == Outcome::translated);
    CHECK(guest.ask(iova, {}).outcome == Outcome::translated);
  }
  // A leaf with a right below a table with the other one grants none.
  guest.map(iova, 0x5000, 1);
  std::uint64_t const table = guest.tables.slot(guest.tree, iova.value, 2);
  guest.ram.store_u64(table, (guest.ram.load_u64(table).value_or(0) & ~std::uint64_t{3}) | 2);
  guest.waist->drop(Scope{});
  CHECK(guest.ask(iova, {}).outcome == Outcome::denied);
}

TEST_CASE("an invalidation drops what its scope names and nothing else", "[core][waist][P1][QVT-15]") {
  Guest guest;
  guest.map(iova, 0x5000);
  guest.map(iova + 0x1000, 0x7000);  // a translation of its own
  static_cast<void>(guest.ask());
  static_cast<void>(guest.ask(iova + 0x1000));
  const auto walks_again = [&guest](Iova at) {
    const std::uint64_t before = guest.walks();
    static_cast<void>(guest.ask(at));
    return guest.walks() != before;
  };
  SECTION("a page") {
    guest.waist->drop({Kind::pages, domain, {iova, iova + 0xFFF}, {}, 0});
    CHECK(walks_again(iova));
    CHECK_FALSE(walks_again(iova + 0x1000));
  }
  SECTION("a page of another domain") {
    guest.waist->drop({Kind::pages, {6}, {iova, iova + 0xFFF}, {}, 0});
    CHECK_FALSE(walks_again(iova));
  }
  SECTION("the domain") {
    guest.waist->drop({Kind::domain, domain, all_iovas, {}, 0});
    CHECK(walks_again(iova));
    CHECK(walks_again(iova + 0x1000));
    CHECK(guest.waist->find_context(device));
  }
  SECTION("another domain") {
    guest.waist->drop({Kind::domain, {6}, all_iovas, {}, 0});
    CHECK_FALSE(walks_again(iova));
  }
  SECTION("all translations") {
    guest.waist->drop({Kind::translations, {}, all_iovas, {}, 0});
    CHECK(walks_again(iova));
    CHECK(guest.waist->find_context(device));
  }
  SECTION("another device's context") {
    guest.waist->drop({Kind::source_contexts, {}, all_iovas, {0x0111}, 0});
    CHECK(guest.waist->find_context(device));
    CHECK_FALSE(walks_again(iova));
  }
  SECTION("everything") {
    guest.waist->drop(Scope{});
    CHECK_FALSE(guest.waist->find_context(device));
    CHECK(walks_again(iova));
    CHECK(walks_again(iova + 0x1000));
  }
}

TEST_CASE("translations that several devices share survive until the last of their contexts goes", "[core][waist]") {
  Guest guest;
  guest.map(iova, 0x5000);
  caches::AddressSpace& first = guest.space({1});
  CHECK(&guest.space({2}) == &first);
  static_cast<void>(guest.waist->translate(guest.reader, first, iova, read_only));
  guest.waist->drop({Kind::source_contexts, {}, all_iovas, {1}, 0});
  static_cast<void>(guest.waist->translate(guest.reader, guest.space({2}), iova, read_only));
  CHECK(guest.hits() == 1);
  CHECK(guest.waist->cache_figures().address_spaces == 1);
}

TEST_CASE("requests by PASID find their context, and share translations with their domain", "[core][waist][pasid]") {
  Guest guest;
  guest.map(iova, 0x5000);
  static_cast<void>(guest.ask());
  const caches::ContextEntry by_pasid = guest.insert({7});
  REQUIRE(by_pasid);
  CHECK(guest.waist->find_context(caches::PasidKey{device, {7}}) == by_pasid);
  CHECK_FALSE(guest.waist->find_context(caches::PasidKey{device, {8}}));
  CHECK(guest.waist->translate(guest.reader, by_pasid.space(), iova, read_only).gpa == Gpa{0x5000});
  CHECK(guest.hits() == 1);
  CHECK(guest.waist->cache_figures().address_spaces == 1);
}

TEST_CASE("an invalidation of PASIDs drops them and leaves contexts by source and translations",
          "[core][waist][pasid][P1]") {
  const Kind kind = GENERATE(Kind::pasids, Kind::domain_pasids, Kind::pasid);
  Guest guest;
  guest.map(iova, 0x5000);
  static_cast<void>(guest.ask());
  REQUIRE(guest.insert({7}));
  const std::uint64_t version = guest.waist->context_version();
  Scope scope{kind, domain, all_iovas, {}, 0};
  scope.pasid = {7};
  guest.waist->drop(scope);
  CHECK_FALSE(guest.waist->find_context(caches::PasidKey{device, {7}}));
  CHECK(guest.waist->find_context(device));
  const std::uint64_t walks = guest.walks();
  static_cast<void>(guest.ask());
  CHECK(guest.walks() == walks);
  CHECK_FALSE(guest.waist->insert_context(version, caches::PasidKey{device, {7}}, guest.key(), false));
  CHECK(guest.insert({7}));
}

namespace {

/// One domain with an address space of each kind, two pages in each of them.
class Stages {
 public:
  Stages() {
    caches::StageFlags privileged;  // their rights need no bit that a second stage's entries do not have
    privileged.privileged = true;
    add({domain, Interpretation::second_stage, 2, {guest.tree.root}, {low_bits(39)}, Pasid{7}});
    add({domain, Interpretation::first_stage, 3, {first_.root}, {low_bits(47)}, Pasid{7}, privileged});
    add({domain, Interpretation::first_stage, 3, {first_.root}, {low_bits(47)}, Pasid{8}, privileged});
    guest.map(iova, 0x5000);
    guest.map(iova + 0x1000, 0x9000);  // a translation of its own
    guest.tables.map(first_, iova.value, 0x5000, 3, 1);
    guest.tables.map(first_, iova.value + 0x1000, 0x9000, 3, 1);
    for (int pass = 0; pass < 2; ++pass)
      for (std::size_t i = 0; i < 6; ++i) static_cast<void>(walks(i));
  }
  /// Which of them walk again: bit 2 * i for the first page of address space i, the next for its second page.
  [[nodiscard]] unsigned walking() {
    unsigned bits = 0;
    for (std::size_t i = 0; i < 6; ++i) bits |= static_cast<unsigned>(walks(i)) << i;
    return bits;
  }

  Guest guest;

 private:
  void add(const caches::AddressSpaceKey& key) {
    const SourceId source{static_cast<std::uint16_t>(++sources_)};
    const caches::ContextEntry entry = guest.waist->insert_context(guest.waist->context_version(), source, key, false);
    REQUIRE(entry);
    spaces_.push_back(&entry.space());
  }
  bool walks(std::size_t i) {
    const std::uint64_t before = guest.walks();
    const Translation found =
        guest.waist->translate(guest.reader, *spaces_[i / 2], iova + i % 2 * page_size_bytes, read_only);
    CHECK(found.gpa == Gpa{i % 2 == 0 ? 0x5000U : 0x9000U});
    return guest.walks() != before;
  }

  std::vector<caches::AddressSpace*> spaces_;
  unsigned sources_ = 0;
  test::Tree first_ = guest.tables.create_tree(4);
};

}  // namespace

TEST_CASE("what an IOTLB invalidation drops depends on the stage and on the PASID",
          "[core][waist][pasid][Invalidation Granularity][normative]") {
  struct Row {
    Kind kind;
    std::uint32_t pasid;
    unsigned walking;
  };
  // Second stage of PASID 7, first stage of 7, first stage of 8.
  const Row row = GENERATE(Row{Kind::translations, 0, 0b11'11'11}, Row{Kind::domain, 0, 0b11'11'11},
                           Row{Kind::pages, 0, 0b11'11'01}, Row{Kind::pasid_translations, 7, 0b00'11'11},
                           Row{Kind::pasid_translations, 8, 0b11'00'00}, Row{Kind::pasid_translations, 9, 0},
                           Row{Kind::pasid_pages, 7, 0b00'01'00}, Row{Kind::pasid_pages, 8, 0b01'00'00});
  const bool named = GENERATE(true, false);
  Stages stages;
  REQUIRE(stages.walking() == 0);
  Scope scope{row.kind, named ? domain : DomainId{6}, {iova, iova + 0xFFF}, {}, 0};
  scope.pasid = {row.pasid};
  if (row.kind == Kind::pages && GENERATE(true, false))
    stages.guest.waist->drop(std::vector<caches::PageScope>{{scope.range, scope.domain}});
  else
    stages.guest.waist->drop(scope);
  CHECK(stages.walking() == (named || row.kind == Kind::translations ? row.walking : 0));
}

TEST_CASE("an invalidation of PASIDs drops contexts by source that came from a PASID entry",
          "[core][waist][pasid][P1]") {
  struct Row {
    Kind kind;
    std::uint16_t domain;
    std::uint32_t pasid;
    bool drops;
  };
  const Row row = GENERATE(Row{Kind::pasids, 0, 0, true}, Row{Kind::domain_pasids, 5, 0, true},
                           Row{Kind::domain_pasids, 6, 0, false}, Row{Kind::pasid, 5, 7, true},
                           Row{Kind::pasid, 5, 8, false}, Row{Kind::pasid, 6, 7, false},
                           Row{Kind::domain_contexts, 6, 0, true});  // a scalable context entry names no domain
  Guest guest;
  caches::AddressSpaceKey key = guest.key();
  key.pasid = Pasid{7};
  REQUIRE(guest.waist->insert_context(guest.waist->context_version(), device, key, false));
  Scope scope{row.kind, {row.domain}, all_iovas, {}, 0};
  scope.pasid = {row.pasid};
  guest.waist->drop(scope);
  CHECK(static_cast<bool>(guest.waist->find_context(device)) != row.drops);
}

TEST_CASE("removing a region drops what was cached from its tables", "[core][waist][SEC-1]") {
  Guest guest;
  guest.map(iova, 0x5000);
  CHECK(guest.ask().outcome == Outcome::translated);
  REQUIRE(guest.waist->remove_region({0x100000}, 1) == RegionResult::ok);
  CHECK(guest.ask().outcome == Outcome::top_table_unreadable);
}

TEST_CASE("a pass-through address space answers each address with itself, up to its width", "[core][waist]") {
  Guest guest;
  const caches::AddressSpaceKey key{domain, Interpretation::pass_through, 0, {}, {low_bits(48)}};
  const caches::ContextEntry context = guest.waist->insert_context(guest.waist->context_version(), {7}, key, false);
  REQUIRE(context);
  for (const Iova at : {Iova{0}, Iova{0x12345678}, Iova{low_bits(48)}}) {
    for (const bool cached : {false, true}) {
      const Translation found = cached ? guest.waist->translate(guest.reader, context.space(), at, read_write)
                                       : guest.waist->translate_uncached(guest.reader, key, at, read_write);
      CHECK(found.outcome == Outcome::translated);
      CHECK(found.gpa == Gpa{at.value});
      CHECK(found.rights == read_write);
    }
  }
  CHECK(guest.waist->translate_uncached(guest.reader, key, {low_bits(48) + 1}, read_only).outcome ==
        Outcome::beyond_width);
  CHECK(guest.walks() == 0);
}

TEST_CASE("a page that comes out in the interrupt window is blocked there and only there", "[core][waist][B28]") {
  Guest guest;
  SECTION("4 KiB") {
    guest.map(iova, 0xFEE01000);
    guest.map(iova + 0x1000, 0xFEDFF000);
    guest.map(iova + 0x2000, 0xFEF00000);
    CHECK(guest.ask().outcome == Outcome::output_in_interrupt_window);
    CHECK(guest.ask(iova + 0x1000).outcome == Outcome::translated);
    CHECK(guest.ask(iova + 0x2000).outcome == Outcome::translated);
  }
  SECTION("2 MiB around it") {
    guest.map(iova, 0xFEE00000, 3, 2);
    for (unsigned round = 0; round < 2; ++round) {
      CHECK(guest.ask().outcome == Outcome::output_in_interrupt_window);
      CHECK(guest.ask(iova + 0xFFFFF).outcome == Outcome::output_in_interrupt_window);
      const Translation beside = guest.ask(iova + 0x123456);
      CHECK(beside.outcome == Outcome::translated);
      CHECK(beside.gpa == Gpa{0xFEF23456});
      CHECK(beside.mask == low_bits(20));
    }
    CHECK(guest.hits() == 0);  // walked each time
  }
}

TEST_CASE("a large page around the interrupt window of the input side is answered in blocks clear of it",
          "[core][waist][B28]") {
  Guest guest;
  guest.map({0xC0000000}, 0x40000000, 3, 3);
  for (unsigned round = 0; round < 2; ++round) {
    const Translation found = guest.ask({0xFEF00000});
    CHECK(found.outcome == Outcome::translated);
    CHECK(found.gpa == Gpa{0x7EF00000});
    CHECK(found.mask == low_bits(20));
    CHECK(guest.ask({0xC0000000}).mask == low_bits(29));
  }
}

TEST_CASE("when address spaces or tags are used up, answers are walked and right", "[core][waist][P6]") {
  WaistOptions options = test::small_waist;
  options.address_spaces = 1;
  Guest guest{options};
  guest.map(iova, 0x5000);
  static_cast<void>(guest.space());
  caches::AddressSpaceKey other = guest.key();
  other.domain = {6};
  CHECK_FALSE(guest.waist->insert_context(guest.waist->context_version(), {9}, other, false));
  for (unsigned round = 0; round < 2; ++round) {
    const Translation found = guest.waist->translate_uncached(guest.reader, other, iova, read_only);
    CHECK(found.outcome == Outcome::translated);
    CHECK(found.gpa == Gpa{0x5000});
  }
  CHECK(guest.hits() == 0);
  CHECK(guest.waist->count(Count::fills) == 0);
}

TEST_CASE("the caches take the memory they say", "[core][waist][P6]") {
  Guest guest;
  const std::uint64_t bytes = guest.waist->cache_figures().bytes;
  CHECK(bytes > 0);
  CHECK(bytes <= guest.waist.host.allocator.open_bytes());
  WaistOptions more = test::small_waist;
  more.pasid_entries = 4096;
  const std::uint64_t entries_more = more.pasid_entries - test::small_waist.pasid_entries;
  CHECK(Guest{more}.waist->cache_figures().bytes == bytes + entries_more * sizeof(std::uint64_t));
}

}  // namespace viommu::core
