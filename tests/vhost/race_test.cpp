// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// A guest that remaps, an engine that feeds, and a back end with threads of its own: once the guest's wait is complete
// nobody finds anything older.
#include <viommu/viommu_vhost.h>

#include <array>
#include <atomic>
#include <catch2/catch.hpp>
#include <chrono>
#include <cstdint>
#include <thread>
#include <vector>

#include "tests/capi/machine.hpp"
#include "tests/support/random.hpp"

namespace viommu::test {
namespace {

constexpr std::uint64_t page = 0x1000;
constexpr std::uint64_t pages = 64;
constexpr std::uint16_t domain = 1;
constexpr std::size_t threads = 2;
constexpr unsigned turn_shift = 24;  // of a target: the turn that made it, then the page

/// The last change of a page whose wait is complete, and the last that has begun. Each fourth turn unmaps.
struct Page {
  std::atomic<std::uint64_t> begun{0};
  std::atomic<std::uint64_t> done{0};
};

struct Bed {
  Bed() {
    viommu_iotlb_options made{};
    made.size = sizeof made;
    made.opaque = this;
    made.miss = [](void* opaque, std::uint64_t first, std::uint64_t last, std::uint32_t access) {
      auto& self = *static_cast<Bed*>(opaque);
      self.misses.fetch_add(1, std::memory_order_relaxed);
      // One that is blocked or overtaken is told again.
      if (viommu_vhost_feeder_miss(self.feeder, first, last, access) != VIOMMU_OK)
        viommu_iotlb_failed(self.iotlb, first, last);
    };
    REQUIRE(viommu_iotlb_create(&made, &iotlb) == VIOMMU_OK);
    viommu_vhost_options options{};
    options.size = sizeof options;
    options.opaque = this;
    options.source = capi::device;
    options.ahead = 3;
    options.send = [](void* opaque, const void* bytes, std::size_t length) {
      auto& self = *static_cast<Bed*>(opaque);
      if (self.sending.exchange(true, std::memory_order_acquire)) self.complain("two messages at a time");
      viommu_vhost_message message{};
      if (viommu_vhost_message_read(VIOMMU_VHOST_PLAIN, bytes, length, &message) != VIOMMU_OK ||
          viommu_vhost_apply(self.iotlb, &message, nullptr) != VIOMMU_OK)
        self.complain("a message that makes no sense");
      self.sending.store(false, std::memory_order_release);
    };
    REQUIRE(viommu_vhost_feeder_create(machine.engine.get(), &options, nullptr, &feeder) == VIOMMU_OK);
  }
  Bed(const Bed&) = delete;
  Bed& operator=(const Bed&) = delete;
  ~Bed() {
    CHECK(viommu_vhost_feeder_destroy(feeder) == VIOMMU_OK);
    CHECK(viommu_iotlb_destroy(iotlb) == VIOMMU_OK);
  }

  void complain(const char* what) { complaint.store(what, std::memory_order_relaxed); }

  /// The guest changes pages in a row and waits until that is in force.
  void change(Random& random) {
    ++turn;
    const std::uint64_t first = random.below(pages);
    const std::uint64_t last = std::min(first + random.below(6), pages - 1);
    for (std::uint64_t i = first; i <= last; ++i) state[i].begun.store(turn, std::memory_order_release);
    for (std::uint64_t i = first; i <= last; ++i) {
      const std::uint64_t iova = capi::base_iova + i * page;
      if (turn % 4 != 0)
        machine.map(iova, turn << turn_shift | i * page);
      else
        machine.tables.unmap(machine.tree, iova);
      machine.driver.add_page(domain, iova);
    }
    if (random.chance(1, 16)) machine.driver.add_domain(domain);
    machine.driver.submit_and_wait();
    for (std::uint64_t i = first; i <= last; ++i) state[i].done.store(turn, std::memory_order_release);
  }

  void look(viommu_iotlb_reader* reader, Random& random) {
    const std::uint64_t number = random.below(pages);
    viommu_iotlb_piece piece{};
    viommu_iotlb_end end{};
    const std::uint64_t before = state[number].done.load(std::memory_order_acquire);
    viommu_iotlb_translate_range(reader, capi::base_iova + number * page + 8, 8, VIOMMU_READ, &piece, 1, &end);
    if (end.pieces == 0) return;
    const std::uint64_t after = state[number].begun.load(std::memory_order_acquire);
    const std::uint64_t made = piece.target >> turn_shift;
    if ((piece.target & low) != number * page + 8) complain("another page's target");
    if (made < before || made > after || made % 4 == 0) complain("a translation that the guest had withdrawn");
    hits.fetch_add(1, std::memory_order_relaxed);
  }

  static constexpr std::uint64_t low = (std::uint64_t{1} << turn_shift) - 1;
  capi::Machine machine;
  viommu_iotlb* iotlb = nullptr;
  viommu_vhost_feeder* feeder = nullptr;
  std::array<Page, pages> state;
  std::uint64_t turn = 0;
  std::atomic<bool> sending{false};
  std::atomic<bool> stop{false};
  std::atomic<const char*> complaint{nullptr};
  std::atomic<std::uint64_t> hits{0};
  std::atomic<std::uint64_t> misses{0};
};

}  // namespace

TEST_CASE("when a wait is complete no back end finds what went before it", "[vhost][feeder][stress][P1][B103]") {
  Bed bed;
  std::vector<std::thread> io;
  io.reserve(threads);
  std::array<std::atomic<std::uint64_t>, threads> looks{};
  for (std::size_t i = 0; i < threads; ++i)
    io.emplace_back([&bed, &looks, i] {
      viommu_iotlb_reader* reader = nullptr;
      if (viommu_iotlb_reader_create(bed.iotlb, &reader) != VIOMMU_OK) return bed.complain("no reader");
      Random random{i + 1};
      while (!bed.stop.load(std::memory_order_relaxed)) {
        bed.look(reader, random);
        if (looks[i].fetch_add(1, std::memory_order_relaxed) % 64 == 0) std::this_thread::yield();
      }
      viommu_iotlb_reader_destroy(reader);
    });
  for (const std::atomic<std::uint64_t>& count : looks)
    while (count.load(std::memory_order_relaxed) < 100) std::this_thread::yield();
  Random random{9};
  const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds{700};
  while (std::chrono::steady_clock::now() < end && bed.complaint.load(std::memory_order_relaxed) == nullptr) {
    bed.change(random);
    if (random.chance(1, 8)) std::this_thread::yield();
  }
  bed.stop.store(true, std::memory_order_relaxed);
  for (std::thread& thread : io) thread.join();
  const char* const complaint = bed.complaint.load();
  CHECK(complaint == nullptr);
  if (complaint != nullptr) FAIL(complaint);
  viommu_vhost_figures figures{};
  figures.size = sizeof figures;
  REQUIRE(viommu_vhost_figures_get(bed.feeder, &figures) == VIOMMU_OK);
  CAPTURE(bed.hits, bed.misses, figures.overtaken);
  CHECK(bed.hits.load() > 1000);
  CHECK(figures.updates > 100);
  CHECK(figures.invalidations >= bed.turn);
}

}  // namespace viommu::test
