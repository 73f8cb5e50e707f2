// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Lookups, fills and invalidations of pages, over the IOTLB itself; guards are the fenced ones.
#include <array>

#include "caches/address_spaces.hpp"
#include "caches/iotlb.hpp"
#include "engine/base/process_barrier.hpp"
#include "tests/harness/scenario.hpp"

namespace viommu::harness {
namespace {

using caches::PageSize;

constexpr caches::Tag tag = 1;
constexpr unsigned frame_shift = 30;  // frames of things are that far apart: any size fits

/// One page of the guest, its leaf, and what an engine has cached of it.
template <bool whole>
struct Table {
  explicit Table(std::size_t readers) {
    pairs_are_whole = whole;
    has_process_barrier = true;
    require(
        epochs.reset(arena(), {{words.data(), readers}, {}}, caches::Drain::fence) && iotlb.reset(arena(), 64, 1, 7),
        "the harness has memory");
    for (std::size_t i = 0; i < readers; ++i) epochs.use(words[i]);
    space.prefix.store(caches::Place::prefix_of(tag), std::memory_order_relaxed);
    space.fillable.store(caches::small_sizes, std::memory_order_relaxed);
  }

  /// What a miss does, with one load for the walk.
  std::uint64_t walk_and_fill(Iova iova, PageSize size, const Atomic<std::uint64_t>& leaf, std::uint8_t pages = 0) {
    const caches::Place place = space.place();
    const caches::Sizes fillable = space.fillable.load(std::memory_order_acquire);
    caches::FillGuard guard;
    iotlb.sample(place, iova, fillable, guard);
    const std::uint64_t frame = leaf.load(std::memory_order_acquire);
    if (caches::announce(space.sizes, space.fillable, fillable, size))
      iotlb.fill(guard, place, iova, {{frame << frame_shift}, size, read_write, pages}, nullptr);
    return frame;
  }
  /// The frame that a lookup finds, 0 for none.
  [[nodiscard]] std::uint64_t look_up(Iova iova) const {
    const auto found = iotlb.lookup(space.place(), iova, space.sizes.load(std::memory_order_relaxed));
    return found ? found->gpa.value >> frame_shift : 0;
  }
  void wait() {
    const std::uint64_t ticket = epochs.advance();
    while (!epochs.scan(ticket)) simulator().pause();
  }

  std::array<caches::GuardWord, 2> words{};
  caches::Epochs epochs;
  caches::Iotlb iotlb;
  caches::AddressSpace space;
};

constexpr const char* window =
    "once an invalidation is complete, nothing older is used, and no walk begun before fills";

/// Readers translate one page. The guest lets it point elsewhere, invalidates it and waits; then the old frame is
/// reused.
template <bool whole, PageSize size, std::size_t readers>
struct Page {
  static constexpr std::size_t fibers = readers + 1;
  Table<whole> table{readers};
  Atomic<std::uint64_t> leaf{1};
  std::array<Thing, 4> frames;

  Iova at = lone_page();

  /// An address whose large page lies in another group than its small one, which each invalidation of it changes.
  [[nodiscard]] Iova lone_page() {
    const caches::Place place = table.space.place();
    const auto versions = [&](Iova iova) {
      caches::FillGuard guard;
      table.iotlb.sample(place, iova, caches::all_sizes, guard);
      return guard;
    };
    for (Iova iova{0};; iova = iova + (std::uint64_t{1} << 21)) {
      const caches::FillGuard before = versions(iova);
      table.iotlb.drop_pages(place, {iova, iova}, table.space.sizes);
      if (versions(iova).mib2 == before.mib2) return iova;
    }
  }
  void fiber(std::size_t number) {
    if (number == readers) return invalidate();
    for (int i = 0; i < 2; ++i) {
      table.epochs.enter(table.words[number]);
      std::uint64_t frame = table.look_up(at);
      if (frame == 0) frame = table.walk_and_fill(at, size, leaf);
      frames[frame].use("a frame");
      table.epochs.leave(table.words[number]);
    }
  }
  void invalidate() {
    for (std::uint64_t next = 2; next <= (readers == 1 ? 3 : 2); ++next) {
      leaf.store(next, std::memory_order_release);
      full_fence();  // B1, as the waist makes it
      table.iotlb.drop_pages(table.space.place(), {at, at + (caches::mask_of(PageSize::kib4))}, table.space.sizes);
      table.wait();
      frames[next - 1].end("a frame that the guest has taken back");
    }
  }
  void check() {
    const std::uint64_t frame = table.look_up(at);
    require(frame == 0 || !frames[frame].gone(), "nothing is left in the table of what was invalidated");
  }
};

/// One walk announces a size, another may fill it, and the page is invalidated: without guards, so that nothing but
/// this protocol is in the way.
struct Announce {
  static constexpr std::size_t fibers = 3;
  Page<true, PageSize::mib2, 1> page;
  Atomic<std::uint64_t> other{3};

  void fiber(std::size_t number) {
    Table<true>& table = page.table;
    const Iova at = page.at;
    switch (number) {
      case 0:  // another page of that size
        static_cast<void>(table.walk_and_fill(at + (std::uint64_t{16} << 21), PageSize::mib2, other));
        return;
      case 1:
        for (int i = 0; i < 2; ++i) static_cast<void>(table.walk_and_fill(at, PageSize::mib2, page.leaf));
        return;
      default:
        page.leaf.store(2, std::memory_order_relaxed);
        full_fence();  // B1, as the waist makes it
        table.iotlb.drop_pages(table.space.place(), {at, at + low_bits(page_shift)}, table.space.sizes);
    }
  }
  void check() const {
    require(page.table.look_up(page.at) != 1, "nothing is left in the table of what was invalidated");
  }
};

/// One fiber alone: what it fills is found, of each size.
struct Alone {
  static constexpr std::size_t fibers = 1;
  Table<true> table{1};
  Atomic<std::uint64_t> leaf{1};

  void fiber(std::size_t /*number*/) {
    for (const PageSize size : {PageSize::kib4, PageSize::mib2, PageSize::gib1}) {
      const Iova at{static_cast<std::uint64_t>(size) << 34};
      leaf.store(1 + static_cast<std::uint64_t>(size), std::memory_order_relaxed);
      for (int i = 0; i < 2; ++i) static_cast<void>(table.walk_and_fill(at, size, leaf));
      require(table.look_up(at) == 1 + static_cast<std::uint64_t>(size), "what was filled is found");
    }
  }
  void check() {}
};

/// Two pages of one block, filled into the same entry; one of them is invalidated.
template <bool whole>
struct Block {
  static constexpr std::size_t fibers = 3;
  Table<whole> table{2};
  std::array<Atomic<std::uint64_t>, 2> leaves{1, 1};
  std::array<Thing, 3> frames;  ///< of page 0; page 1 stays

  void fiber(std::size_t number) {
    if (number == 2) return invalidate();
    const Iova iova{number << page_shift};
    for (int i = 0; i < 2; ++i) {
      table.epochs.enter(table.words[number]);
      std::uint64_t frame = table.look_up(iova);
      if (frame == 0)
        frame = table.walk_and_fill(iova, PageSize::kib32, leaves[number], static_cast<std::uint8_t>(1U << number));
      if (number == 0) frames[frame].use("a frame");
      require(number == 0 || frame == 1, "the neighbour is what it was");
      table.epochs.leave(table.words[number]);
    }
  }
  void invalidate() {
    leaves[0].store(2, std::memory_order_release);
    full_fence();
    table.iotlb.drop_pages(table.space.place(), {{0}, {low_bits(page_shift)}}, table.space.sizes);
    table.wait();
    frames[1].end("a frame that the guest has taken back");
  }
  void check() { require(table.look_up({0}) != 1, "nothing is left in the table of what was invalidated"); }
};

/// One set, four pages that push each other out; whoever looks one up is given that one.
template <bool whole>
struct Replace {
  static constexpr std::size_t fibers = 3;
  Table<whole> table{1};
  std::array<Iova, 6> pages{};  ///< of one set
  std::array<Atomic<std::uint64_t>, 6> leaves{1, 2, 3, 4, 5, 6};

  Replace() {
    const auto set_of = [&](Iova iova) {
      return table.iotlb.small_set(table.space.place(), iova) ^ caches::page_in_block(iova);
    };
    std::size_t found = 0;
    for (Iova iova{0}; found < pages.size(); iova = iova + (std::uint64_t{1} << page_shift))
      if (set_of(iova) == set_of({0})) pages[found++] = iova;
    for (std::size_t i = 0; i < 4; ++i) fill(i);
  }
  void fill(std::size_t i) { static_cast<void>(table.walk_and_fill(pages[i], PageSize::kib4, leaves[i])); }
  void fiber(std::size_t number) {
    if (number == 0) {
      for (std::size_t i = 0; i < 6; ++i) {
        const std::uint64_t frame = table.look_up(pages[i % 2]);
        require(frame == 0 || frame == i % 2 + 1, "a lookup returns what was put in for its page");
      }
      return;
    }
    for (std::size_t i = 0; i < 3; ++i) fill(number == 1 ? i + 3 : i);
  }
  void check() {
    for (std::size_t i = 0; i < pages.size(); ++i) {
      const std::uint64_t frame = table.look_up(pages[i]);
      require(frame == 0 || frame == i + 1, "the table holds what was put in");
    }
  }
};

/// A page goes, and another one comes into its place, while the first is looked up.
template <bool whole>
struct Exchange {
  static constexpr std::size_t fibers = 2;
  Table<whole> table{1};
  std::array<Iova, 2> pages{};
  std::array<Atomic<std::uint64_t>, 2> leaves{1, 2};

  Exchange() {
    table.iotlb.set_live(tag, true);
    const auto set_of = [&](Iova iova) {
      return table.iotlb.small_set(table.space.place(), iova) ^ caches::page_in_block(iova);
    };
    pages[1] = pages[0] + (std::uint64_t{1} << page_shift);
    while (set_of(pages[1]) != set_of(pages[0])) pages[1] = pages[1] + (std::uint64_t{1} << page_shift);
    Iova other = pages[1];
    for (int filled = 0; filled < 3;) {  // the other ways are taken, by pages that stay
      other = other + (std::uint64_t{1} << page_shift);
      if (set_of(other) != set_of(pages[0])) continue;
      static_cast<void>(table.walk_and_fill(other, PageSize::kib4, leaves[1]));
      ++filled;
    }
    static_cast<void>(table.walk_and_fill(pages[0], PageSize::kib4, leaves[0]));
  }
  void fiber(std::size_t number) {
    if (number == 0) {
      for (std::size_t i = 0; i < 2; ++i) {
        const std::uint64_t frame = table.look_up(pages[i]);
        require(frame == 0 || frame == i + 1, "a lookup returns what was put in for its page");
      }
      return;
    }
    for (std::size_t i = 0; i < 2; ++i) {
      table.iotlb.drop_pages(table.space.place(), {pages[i], pages[i]}, table.space.sizes);
      static_cast<void>(table.walk_and_fill(pages[1 - i], PageSize::kib4, leaves[1 - i]));
    }
  }
  void check() {}
};

constexpr std::array scenarios{
    scenario<Page<true, PageSize::kib4, 1>>("page", window),
    scenario<Page<true, PageSize::kib4, 2>>("page-2", window),
    scenario<Page<false, PageSize::kib4, 2>>("page-2-portable", window),
    scenario<Page<true, PageSize::mib2, 1>>("large-page", window),
    scenario<Page<true, PageSize::mib2, 2>>("large-page-2", window),
    scenario<Page<false, PageSize::mib2, 2>>("large-page-2-portable", window),
    scenario<Alone>("alone", "what nobody disturbs is filled and found", 50),
    scenario<Announce>("announce", window),
    scenario<Block<true>>("block", window),
    scenario<Block<false>>("block-portable", window),
    scenario<Exchange<true>>("exchange", "a lookup returns what was put in as one, for the page that was asked for"),
    scenario<Exchange<false>>("exchange-portable", "a lookup returns what was put in as one, for the page asked for"),
    scenario<Replace<true>>("replace", "a lookup returns what was put in as one, for the page that was asked for"),
    scenario<Replace<false>>("replace-portable", "a lookup returns what was put in as one, for the page asked for"),
};

}  // namespace

std::span<const Scenario> iotlb_scenarios() { return scenarios; }

}  // namespace viommu::harness
