// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// A guest that invalidates exactly what it has changed, each time and at once, never sees anything but its tables as
// they are: whatever is cached of other pages, of tables above them, of neighbours and of other sizes must have gone
// with it or be right.
#include <array>
#include <catch2/catch.hpp>
#include <cstdint>
#include <map>
#include <vector>

#include "tests/core/test_waist.hpp"
#include "tests/support/guarded_region.hpp"
#include "tests/support/guest_tables.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/random.hpp"

namespace viommu::core {
namespace {

using caches::Scope;
using test::GuardedRegion;
using test::GuestTables;
using test::Random;
using test::TestWaist;
using Kind = Scope::Kind;

constexpr DomainId domain{5};
constexpr SourceId device{0x0110};

WaistOptions options_of(bool tiny, FillMode fill) {
  WaistOptions options = test::small_waist;
  options.iotlb_pages = tiny ? 1 : 4096;
  options.structures = tiny ? 1 : 64;
  options.fill = fill;
  options.rules = {52, false, true, true};
  return options;
}

class Guest {
 public:
  Guest(std::uint64_t seed, const WaistOptions& options) : waist_{options}, random_{seed} {
    REQUIRE(waist_.add(ram_) == RegionResult::ok);
  }

  void step() {
    while (waist_->reclaim()) {  // the worker's part: ends with the sweep
    }
    const test::WaistGuard guard{waist_.waist, reader_};
    const std::uint64_t dice = random_.below(32);
    if (dice < 6) return change();
    if (dice == 6) return waist_->drop(Scope{Kind::source_contexts, {}, all_iovas, device, 0});  // sizes unknown again
    if (dice < 16) return compare(at_ = {at_.value + page_size_bytes});                          // a stream
    if (dice < 20) return compare_batch();
    at_ = some_page();
    compare(at_);
  }
  [[nodiscard]] std::uint64_t count(Count which) { return waist_->count(which); }

 private:
  [[nodiscard]] Iova some_page() {
    return {(random_.below(2) << 30) + (random_.below(3) << 21) + (random_.below(24) << 12) + random_.below(4096)};
  }
  caches::AddressSpace& space() { return context().space(); }
  caches::ContextEntry context() {
    const caches::AddressSpaceKey key{domain, caches::Interpretation::second_stage, 2, {tree_.root}, {low_bits(39)}};
    caches::ContextEntry context = waist_->find_context(device);
    if (!context) context = waist_->insert_context(waist_->context_version(), device, key, false);
    REQUIRE(context);
    return context;
  }
  void check(Iova iova, Rights asked, const Translation& found) {
    const Translation now = waist_->translate_uncached(reader_, space().key, iova, asked);
    CAPTURE(iova.value, asked.bits());
    REQUIRE(found.outcome == now.outcome);
    if (now.outcome != Outcome::translated) return;
    REQUIRE(found.gpa == now.gpa);
    REQUIRE(found.rights == now.rights);
  }
  void compare(Iova iova) {
    const Rights asked = random_.pick(std::array{read_only, write_only, read_write});
    check(iova, asked, waist_->translate(reader_, space(), iova, asked));
  }
  void compare_batch() {
    std::vector<Miss> misses;
    for (std::uint64_t i = 1 + random_.below(20); i > 0; --i)
      misses.push_back({context(), some_page(), random_.pick(std::array{read_only, write_only, read_write})});
    waist_->walk_and_fill(reader_, misses);
    for (const Miss& miss : misses) check(miss.iova, miss.asked, miss.found);
  }

  /// The level of the leaf, or of the gap, that maps the page now; 1 for the last table.
  [[nodiscard]] unsigned leaf_level(Iova iova) {
    for (unsigned level = 3; level > 1; --level)
      if ((ram_.load_u64(tables_.slot(tree_, iova.value, level)).value_or(0) & test::entry_page_size) != 0)
        return level;
    return 1;
  }
  void change() {
    const Iova iova = some_page();
    unsigned level = leaf_level(iova);
    const bool was_large = level != 1;
    const std::uint64_t rights = random_.pick(std::array<std::uint64_t, 6>{3, 3, 3, 1, 2, 0});
    if (!was_large && random_.chance(1, 3)) level = static_cast<unsigned>(2 + random_.below(2));
    const std::uint64_t slot = tables_.slot(tree_, iova.value, level);
    const std::uint64_t mask = low_bits(12 + 9 * (level - 1));
    const std::uint64_t gpa = random_.below(64) << 32;
    const std::uint64_t first = iova.value & ~mask;
    if (level == 1) {
      // A few neighbours together, so that there are runs; each at its place behind one address.
      const std::uint64_t pages = random_.chance(1, 2) ? 1 : 1 + random_.below(8);
      for (std::uint64_t i = 0; i < pages; ++i)
        tables_.map(tree_, first + i * page_size_bytes, gpa + ((first + i * page_size_bytes) & low_bits(21)), rights);
      return invalidate({{first}, {first + pages * page_size_bytes - 1}}, random_.chance(1, 2));
    }
    const std::uint64_t before = ram_.load_u64(slot).value_or(0);
    if (was_large && random_.chance(2, 3)) {
      ram_.store_u64(slot, hidden_[slot]);  // the table comes back, with what it holds
    } else {
      if (!was_large) hidden_[slot] = before;
      ram_.store_u64(slot, gpa | rights | (rights == 0 ? 0 : test::entry_page_size));
      if (rights == 0) ram_.store_u64(slot, hidden_[slot]);
    }
    invalidate({{first}, {first | mask}}, false);
  }
  void invalidate(IovaRange range, bool only_leaves) {
    const Scope pages{Kind::pages, domain, range, {}, 0, only_leaves};
    switch (random_.below(6)) {
      case 0: return waist_->drop(Scope{Kind::domain, domain, all_iovas, {}, 0});
      case 1: return waist_->drop(Scope{Kind::translations, {}, all_iovas, {}, 0});
      case 2: {  // several at once, among them others
        const std::array scopes{caches::PageScope{range, {6}}, caches::PageScope{range, domain, only_leaves},
                                caches::PageScope{{{0x7000000000}, {0x7000000FFF}}, domain}};
        return waist_->drop(scopes);
      }
      default: return waist_->drop(pages);
    }
  }

  TestWaist waist_;
  Random random_;
  GuardedRegion ram_{0x100000, 0x40000};
  GuestTables tables_{test::words_of(ram_), 0x100000};
  test::Tree tree_ = tables_.create_tree(3);
  Reader& reader_ = waist_.reader();
  std::map<std::uint64_t, std::uint64_t> hidden_;  // tables that a large page stands in the place of
  Iova at_;
};

}  // namespace

TEST_CASE("a guest that invalidates exactly what it changed sees nothing but its tables as they are",
          "[core][waist][property][P1]") {
  const unsigned steps = test::run_whole() ? 5'000'000 : 8'000;
  for (const bool tiny : {false, true}) {
    for (const FillMode fill : {FillMode::exact, FillMode::line, FillMode::all}) {
      CAPTURE(tiny, static_cast<unsigned>(fill));
      Guest guest{31, options_of(tiny, fill)};
      for (unsigned step = 0; step < steps; ++step) guest.step();
      CHECK(guest.count(Count::iotlb_hits) > steps / 50);
      CHECK(guest.count(Count::fills) > steps / 50);
    }
  }
}

}  // namespace viommu::core
