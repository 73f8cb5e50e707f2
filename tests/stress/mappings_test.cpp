// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Threads that look mappings up while another maps and unmaps: every answer is one that was true during the look.
#include <array>
#include <atomic>
#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdint>
#include <thread>
#include <vector>

#include "engine/base/build.hpp"
#include "engine/virtio_iommu/mappings.hpp"
#include "tests/caches/test_epochs.hpp"
#include "tests/support/counting_allocator.hpp"
#include "tests/support/random.hpp"

namespace viommu::virtio_iommu {
namespace {

/// A range that is mapped and unmapped: an odd turn maps it. Where a mapping leads says of which range and turn it is.
struct Slot {
  IovaRange range;
  std::uint64_t number = 0;
  std::atomic<std::uint64_t> begun{0};
  std::atomic<std::uint64_t> done{0};

  [[nodiscard]] Mapping mapping(std::uint64_t turn) const {
    return {range,
            {turn << 36 | number << 24 | (range.first.value & low_bits(page_shift))},
            Rights::in(turn >> 1),
            turn % 4 == 1};
  }
};

constexpr std::size_t dense = 300;
constexpr std::size_t runs = 60;
constexpr std::size_t odd = 100;
constexpr std::size_t slot_count = dense + runs + odd;
constexpr std::size_t readers = 2;

class Bed {
 public:
  Bed() {
    for (std::size_t i = 0; i < slot_count; ++i) {
      const std::uint64_t page = i < dense ? i : i < dense + runs ? 400 + (i - dense) * 8 : 5000 + i * 100;
      const std::uint64_t pages = i < dense ? 1 : i < dense + runs ? 2 + i % 7 : 1 + i % 50;
      const std::uint64_t off = i < dense + runs ? 0 : i % 100 * 7;
      slots[i].number = i;
      slots[i].range = {{page * page_size_bytes + off}, {(page + pages) * page_size_bytes - 1 - off}};
    }
  }

  /// Maps or unmaps, and drains as a queue does.
  void change(Slot& slot) {
    const std::uint64_t turn = slot.done.load(std::memory_order_relaxed) + 1;
    slot.begun.store(turn, std::memory_order_release);
    if (turn % 2 == 0) {
      if (mappings.remove(slot.range, 10, [](const Mapping&) {}) != Removed::all) complain("an UNMAP is refused");
    } else {
      Inserted result = mappings.insert(slot.mapping(turn));
      for (; result == Inserted::later; result = mappings.insert(slot.mapping(turn))) {
        ++waited;
        drain();
      }
      if (result != Inserted::ok) complain("a MAP is refused");
    }
    slot.done.store(turn, std::memory_order_release);
    if (turn % 8 == 0) drain();
  }
  void drain() {
    const std::uint64_t ticket = epochs->advance();
    nodes.seal(ticket);
    static_cast<void>(epochs->scan(ticket));
    static_cast<void>(nodes.reclaim(epochs->completed(), 1000));
  }

  void look(std::size_t reader, test::Random& random) {
    Slot& slot = slots[random.below(slot_count)];
    const std::uint64_t bytes = slot.range.last.value - slot.range.first.value + 1;
    const Iova iova = slot.range.first + random.below(bytes);
    epochs.enter(reader);
    const std::uint64_t before = slot.done.load(std::memory_order_acquire);
    const std::optional<Mapping> found = mappings.find(iova);
    const std::uint64_t after = slot.begun.load(std::memory_order_acquire);
    epochs.leave(reader);
    if (!found) {
      if (before % 2 == 1 && before == after) complain("a mapping was not found");
      return;
    }
    hits.fetch_add(1, std::memory_order_relaxed);
    const std::uint64_t turn = found->gpa.value >> 36;
    if (turn < before || turn > after || turn % 2 == 0) complain("a mapping of another time");
    const Mapping whole = slot.mapping(turn);
    if (found->rights != whole.rights || found->mmio != whole.mmio) complain("rights of another time");
    if (!found->range.contains(iova) || found->range.first < whole.range.first || whole.range.last < found->range.last)
      complain("a range of something else");
    if (found->gpa != whole.gpa + (found->range.first.value - whole.range.first.value)) complain("another target");
  }

  void complain(const char* what) { complaint.store(what, std::memory_order_relaxed); }

  std::array<Slot, slot_count> slots;
  test::TestEpochs<readers> epochs;
  test::CountingAllocator memory;
  // So little memory that nodes are used again at once, and that a MAP has to wait now and then.
  MappingNodes nodes{memory.functions(), {slot_count, 60'000}};
  Mappings mappings{nodes};
  std::atomic<const char*> complaint{nullptr};
  std::atomic<std::uint64_t> hits{0};
  std::atomic<bool> stop{false};
  std::uint64_t waited = 0;
};

}  // namespace

TEST_CASE("what is looked up while mappings come and go was true at that time",
          "[virtio-iommu][stress][S3.15][P1][SEC-10]") {
  Bed bed;
  std::vector<std::thread> threads;
  threads.reserve(readers);
  std::array<std::atomic<std::uint64_t>, readers> looks{};
  for (std::size_t reader = 0; reader < readers; ++reader)
    threads.emplace_back([&bed, &looks, reader] {
      test::Random random{reader + 1};
      while (!bed.stop.load(std::memory_order_relaxed)) {
        bed.look(reader, random);
        looks[reader].fetch_add(1, std::memory_order_relaxed);
      }
    });
  for (const std::atomic<std::uint64_t>& count : looks)
    while (count.load(std::memory_order_relaxed) < 100) std::this_thread::yield();

  constexpr int rounds = thread_sanitizer ? 100 : 2000;
  test::Random random{7};
  for (int round = 0; round < rounds && bed.complaint.load(std::memory_order_relaxed) == nullptr; ++round) {
    // Some at random; then all that are there go, or all come, so that leaves take every form.
    for (int i = 0; i < 300; ++i) bed.change(bed.slots[random.below(slot_count)]);
    for (Slot& slot : bed.slots)
      if (slot.done.load(std::memory_order_relaxed) % 2 == static_cast<std::uint64_t>(round) % 2) bed.change(slot);
  }
  bed.stop.store(true, std::memory_order_relaxed);
  for (std::thread& thread : threads) thread.join();
  const char* const complaint = bed.complaint.load();
  CHECK(complaint == nullptr);
  if (complaint != nullptr) FAIL(complaint);
  CHECK(bed.hits.load() > 1000);
  CHECK(bed.memory.mistakes() == 0);
  CHECK(bed.waited > 0);
  bed.mappings.clear();
  bed.drain();
  CHECK_FALSE(bed.nodes.waiting());
}

}  // namespace viommu::virtio_iommu
