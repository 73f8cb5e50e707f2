// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Threads that translate by a viommu_iotlb while another feeds it: every answer is one that was true during the look,
// what does not change is found, and nothing is in use any more when its invalidation has drained.
#include <algorithm>
#include <array>
#include <atomic>
#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdint>
#include <thread>
#include <vector>

#include "engine/base/build.hpp"
#include "tests/support/message_iotlb.hpp"
#include "tests/support/random.hpp"

namespace viommu::test {
namespace {

constexpr std::size_t pages = 1024;
constexpr std::size_t reader_count = 2;
constexpr unsigned page_bits = 12;
constexpr unsigned turn_shift = 32;  // of a target: the turn that made it, then the page

/// What is known of a page: the last change of it that is done, and the last that has begun. Turns are numbered
/// through; an odd one is an update.
struct Page {
  std::atomic<std::uint64_t> begun{0};
  std::atomic<std::uint64_t> done{0};
};

/// What a reader has in use: 0, or a target.
struct alignas(128) InUse {
  std::atomic<std::uint64_t> target{0};
};

class Bed {
 public:
  void complain(const char* what) { complaint.store(what, std::memory_order_relaxed); }

  void change(Random& random) {
    const std::uint64_t kind = random.below(2);
    turn = turn + 1 + ((turn + 1 + kind) % 2);  // the next one of its kind
    const std::uint64_t first = random.below(pages);
    const std::uint64_t last = std::min<std::uint64_t>(first + random.below(random.chance(1, 8) ? 200 : 6), pages - 1);
    for (std::uint64_t page = first; page <= last; ++page) state[page].begun.store(turn, std::memory_order_release);
    const std::uint64_t from = first << page_bits;
    const std::uint64_t to = (last << page_bits) + 0xFFF;
    std::uint64_t ticket = 0;
    const bool updates = turn % 2 == 1;
    if (updates) {
      if (iotlb.update(from, to, turn << turn_shift | from, rights_of(turn)) != VIOMMU_OK)
        complain("an update is refused");
    } else {
      viommu_iotlb_invalidate(iotlb.iotlb, from, to, &ticket);
    }
    for (std::uint64_t page = first; page <= last; ++page) state[page].done.store(turn, std::memory_order_release);
    if (updates || !random.chance(1, 4)) return;
    std::uint32_t drained = 0;
    while (drained == 0) {
      viommu_iotlb_drained(iotlb.iotlb, ticket, &drained);
      if (drained == 0) std::this_thread::yield();
    }
    for (const InUse& use : in_use) {
      const std::uint64_t target = use.target.load(std::memory_order_acquire);
      const std::uint64_t page = (target & 0xFFFF'FFFF) >> page_bits;
      if (target != 0 && target >> turn_shift < turn && page >= first && page <= last)
        complain("in use after it has drained");
    }
    ++drains;
  }

  void look(viommu_iotlb_reader* reader, InUse& use, Random& random) {
    const std::uint64_t page = random.below(pages - 8);
    const std::uint64_t count = 1 + random.below(8);
    std::array<std::uint64_t, 8> before;
    viommu_iotlb_enter(reader);
    for (std::size_t i = 0; i < count; ++i) before[i] = state[page + i].done.load(std::memory_order_acquire);
    std::array<viommu_iotlb_piece, 8> found;
    viommu_iotlb_end end;
    viommu_iotlb_translate_range(reader, page << page_bits, count << page_bits, VIOMMU_READ, found.data(), 8, &end);
    if (end.pieces != 0) use.target.store(found[0].target, std::memory_order_release);
    std::size_t at = 0;
    for (std::uint32_t i = 0; i < end.pieces; ++i) {
      const viommu_iotlb_piece& piece = found[i];
      if (piece.length % (1 << page_bits) != 0 || piece.iova != (page + at) << page_bits) complain("a torn piece");
      const std::uint64_t made = piece.target >> turn_shift;
      if ((piece.target & 0xFFFF'FFFF) != piece.iova) complain("another page's target");
      if (made % 2 == 0 || piece.rights != rights_of(made)) complain("rights of another time");
      for (const std::size_t last = at + (piece.length >> page_bits); at < last; ++at) {
        const std::uint64_t after = state[page + at].begun.load(std::memory_order_acquire);
        if (made < before[at] || made > after) complain("a target of another time");
        hits.fetch_add(1, std::memory_order_relaxed);
      }
    }
    if (end.stopped == VIOMMU_IOTLB_MISSING) {
      const std::uint64_t after = state[page + at].begun.load(std::memory_order_acquire);
      if (before[at] % 2 == 1 && before[at] == after) lost.fetch_add(1, std::memory_order_relaxed);
    }
    use.target.store(0, std::memory_order_release);
    viommu_iotlb_leave(reader);
  }

  [[nodiscard]] static std::uint32_t rights_of(std::uint64_t turn) {
    return (turn >> 1) % 2 == 0 ? reads : reads_and_writes;
  }

  MessageIotlb iotlb{[] {
    viommu_iotlb_options options{};
    options.ranges = pages;  // no range is ever pushed out
    options.miss = [](void*, std::uint64_t, std::uint64_t, std::uint32_t) {};
    return options;
  }()};
  std::array<Page, pages> state;
  std::array<InUse, reader_count> in_use;
  std::uint64_t turn = 0;
  std::uint64_t drains = 0;
  std::atomic<const char*> complaint{nullptr};
  std::atomic<std::uint64_t> hits{0};
  std::atomic<std::uint64_t> lost{0};  ///< looks that did not find what was there all the time
  std::atomic<bool> stop{false};
};

}  // namespace

TEST_CASE("what is translated while messages come was true at that time", "[message-iotlb][stress][VMM-2][VMM-3][P1]") {
  Bed bed;
  std::vector<std::thread> threads;
  threads.reserve(reader_count);
  std::array<std::atomic<std::uint64_t>, reader_count> looks{};
  for (std::size_t i = 0; i < reader_count; ++i)
    threads.emplace_back([&bed, &looks, i] {
      viommu_iotlb_reader* reader = nullptr;
      if (viommu_iotlb_reader_create(bed.iotlb.iotlb, &reader) != VIOMMU_OK) return bed.complain("no reader");
      Random random{i + 1};
      while (!bed.stop.load(std::memory_order_relaxed)) {
        bed.look(reader, bed.in_use[i], random);
        looks[i].fetch_add(1, std::memory_order_relaxed);
      }
      viommu_iotlb_reader_destroy(reader);
    });
  for (const std::atomic<std::uint64_t>& count : looks)
    while (count.load(std::memory_order_relaxed) < 100) std::this_thread::yield();
  constexpr int changes = thread_sanitizer ? 20'000 : 200'000;
  Random random{7};
  for (int i = 0; i < changes && bed.complaint.load(std::memory_order_relaxed) == nullptr; ++i) bed.change(random);
  bed.stop.store(true, std::memory_order_relaxed);
  for (std::thread& thread : threads) thread.join();
  const char* const complaint = bed.complaint.load();
  CHECK(complaint == nullptr);
  if (complaint != nullptr) FAIL(complaint);
  CHECK(bed.hits.load() > 1000);
  CHECK(bed.drains > 1000);
  // Only where the feeding thread lost its core in the middle of a change.
  CHECK(bed.lost.load() <= 5 + bed.hits.load() / 50'000);
}

}  // namespace viommu::test
