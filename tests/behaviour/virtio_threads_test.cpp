// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// A virtio-iommu under everybody at once: devices that access memory, functions that are plugged and unplugged, and a
// driver that maps and unmaps.
#include <atomic>
#include <catch2/catch.hpp>
#include <cstdint>
#include <cstdlib>
#include <thread>
#include <vector>

#include "tests/behaviour/virtio_machine.hpp"
#include "tests/support/random.hpp"

namespace viommu::test {
namespace {

namespace st = virtio_status;
constexpr std::uint16_t pf = VirtioMachine::pf;
constexpr std::uint16_t vf = VirtioMachine::vf;
constexpr std::uint64_t iova = 0x10'0000;
/// Page `page` of a domain leads here in its n-th life: who sees it knows from when it is.
[[nodiscard]] constexpr std::uint64_t target(std::uint32_t domain, std::uint64_t life, std::uint64_t page) {
  return std::uint64_t{domain} << 44 | life << 20 | page << 12;
}

[[nodiscard]] unsigned rounds() { return std::getenv("VIOMMU_LONG") != nullptr ? 10'000 : 300; }

/// With host functions that any thread may call.
struct Busy {
  Busy() {
    viommu_host host{};
    host.size = sizeof host;
    const viommu_virtio_options options = virtio_options();
    REQUIRE(viommu_create_virtio(&options, &host, nullptr, 0, &engine) == VIOMMU_OK);
    REQUIRE(viommu_virtio_negotiate(engine, all_virtio_features) == VIOMMU_OK);
  }
  Busy(const Busy&) = delete;
  Busy& operator=(const Busy&) = delete;
  ~Busy() { CHECK(viommu_destroy(engine) == VIOMMU_OK); }

  /// Its status, however long the answer takes.
  [[nodiscard]] std::uint8_t status(const Bytes& request) const {
    std::uint8_t reply[4] = {0xAA, 0xAA, 0xAA, 0xAA};
    std::uint32_t used = 0;
    while (viommu_virtio_request(engine, request.data(), request.size(), reply, sizeof reply, &used) == VIOMMU_E_BUSY)
      std::this_thread::yield();  // ends: guards are short
    return used == 4 ? reply[0] : std::uint8_t{0xFF};
  }
  void plug(std::uint16_t source) const {
    viommu_device device{};
    device.size = sizeof device;
    device.source = source;
    while (viommu_device_add(engine, &device, nullptr) == VIOMMU_E_BUSY) std::this_thread::yield();
  }
  void unplug(std::uint16_t source) const {
    while (viommu_device_remove(engine, source) == VIOMMU_E_BUSY) std::this_thread::yield();
  }
  viommu_engine* engine = nullptr;
};

}  // namespace

TEST_CASE(
    "functions come and go while others translate and the driver maps, and no answer is from a domain that is gone",
    "[virtio][threads][stress][S3.15][S3.6][A17]") {
  Busy busy;
  busy.plug(pf);
  REQUIRE(busy.status(attach_bytes(1, pf)) == st::ok);
  constexpr unsigned readers = 3;
  constexpr std::uint64_t pages = 8;
  std::atomic<bool> over{false};
  // The life of the function's domain that began last, and the last one whose end was answered.
  std::atomic<std::uint64_t> begun{0};
  std::atomic<std::uint64_t> ended{0};
  std::atomic<std::uint64_t> wrong{0};
  std::atomic<std::uint64_t> found{0};
  std::atomic<std::uint64_t> blocked{0};

  std::vector<std::thread> threads;
  threads.reserve(readers + 1);
  for (unsigned number = 0; number < readers; ++number) {
    threads.emplace_back([&, number] {
      viommu_reader* reader = nullptr;
      if (viommu_reader_create(busy.engine, &reader) != VIOMMU_OK) {
        ++wrong;
        return;
      }
      Random random{number + 1};
      while (!over.load()) {
        viommu_enter(reader);
        for (unsigned i = 0; i < 16; ++i) {
          const std::uint16_t source = random.next() % 2 == 0 ? pf : vf;
          const std::uint64_t page = random.next() % pages;
          const std::uint64_t ended_before = ended.load();
          const viommu_request request{iova + (page << 12), 0, 0, source, VIOMMU_READ, VIOMMU_NO_REPORT};
          viommu_translation answer{};
          const viommu_result result = viommu_translate(reader, &request, &answer);
          if (result == VIOMMU_E_FAULT) {
            ++blocked;
            continue;
          }
          ++found;
          const std::uint64_t life = answer.gpa >> 20 & 0xFF'FFFF;
          const std::uint32_t domain = source == pf ? 1 : 2;
          const bool named = answer.gpa == target(domain, life, page);
          // Older than what had ended before the question: nobody may see it any more.
          if (!named || (source == vf && (life <= ended_before || life > begun.load()))) ++wrong;
        }
        viommu_leave(reader);
      }
      static_cast<void>(viommu_reader_destroy(reader));
    });
  }
  std::atomic<bool> mapping_over{false};
  threads.emplace_back([&] {  // the driver, of the other domain
    Random random{99};
    std::uint64_t life = 0;
    while (!mapping_over.load()) {
      const std::uint64_t page = random.next() % pages;
      const std::uint64_t at = iova + (page << 12);
      if (busy.status(map_bytes(1, at, at + 0xFFF, target(1, ++life & 0xFF'FFFF, page))) != st::ok) ++wrong;
      if (busy.status(unmap_bytes(1, at, at + 0xFFF)) != st::ok) ++wrong;
    }
  });
  // As many rounds as are asked for, and until each has seen both; bounded, whatever the scheduler does.
  const auto goes_on = [&](unsigned round) {
    return round <= rounds() || ((found.load() == 0 || blocked.load() == 0) && round <= 1000 * rounds());
  };
  for (unsigned round = 1; goes_on(round); ++round) {
    busy.plug(vf);
    begun.store(round);
    if (busy.status(attach_bytes(2, vf)) != st::ok) ++wrong;
    for (std::uint64_t page = 0; page < pages; ++page) {
      const std::uint64_t at = iova + (page << 12);
      if (busy.status(map_bytes(2, at, at + 0xFFF, target(2, round, page))) != st::ok) ++wrong;
    }
    busy.unplug(vf);
    // What began before may go on; a request that is answered now says that it has ended.
    if (busy.status(detach_bytes(2, vf)) != st::ok) ++wrong;
    ended.store(round);
  }
  mapping_over.store(true);
  threads.back().join();
  threads.pop_back();
  over.store(true);
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong.load() == 0);
  CHECK(found.load() != 0);
  CHECK(blocked.load() != 0);
}

TEST_CASE("reports from many threads are each whole, and no more than there are buffers", "[virtio][threads][events]") {
  VirtioMachine machine;
  machine.negotiate(0x1'1000'0077);
  REQUIRE(machine.plug(pf) == VIOMMU_OK);
  constexpr std::uint16_t entries = 64;
  SplitDriver driver{machine.guest, entries, false};
  const virtqueue::Config config = driver.config();
  const viommu_virtio_queue queue{config.descriptor_area.value, config.driver_area.value, config.device_area.value,
                                  config.size, 0};
  constexpr std::uint64_t buffers = RingGuest::first + 0x30000;
  for (std::uint64_t i = 0; i < entries; ++i) driver.add(direct({{buffers + 32 * i, 24, true}}));
  driver.publish();
  REQUIRE(viommu_virtio_queue_set(machine.engine, VIOMMU_VIRTIO_EVENTS, &queue) == VIOMMU_OK);
  REQUIRE(viommu_virtio_start(machine.engine) == VIOMMU_OK);
  constexpr unsigned many = 4;
  constexpr unsigned each = 40;
  std::atomic<unsigned> recorded{0};
  std::atomic<unsigned> dropped{0};
  std::vector<std::thread> threads;
  threads.reserve(many);
  for (std::uint64_t number = 0; number < many; ++number)
    threads.emplace_back([&, number] {
      for (std::uint64_t i = 0; i < each; ++i) {
        const viommu_request request{number << 32 | i << 12, 0, 0, pf, VIOMMU_READ, 0};
        viommu_translation answer{};
        static_cast<void>(viommu_translate_once(machine.engine, &request, &answer));
        if (answer.status == VIOMMU_FAULT_RECORDED) ++recorded;
        if (answer.status == VIOMMU_FAULT_NO_BUFFER) ++dropped;
      }
    });
  for (std::thread& thread : threads) thread.join();
  static_cast<void>(machine.process());
  CHECK(recorded.load() == entries);
  CHECK(dropped.load() == many * each - entries);
  const auto used = driver.collect();
  CHECK(used.size() == entries);
  for (std::uint64_t i = 0; i < entries; ++i) {
    CHECK(machine.guest.get<std::uint32_t>(buffers + 32 * i) == 1);
    CHECK(machine.guest.get<std::uint32_t>(buffers + 32 * i + 8) == pf);
    CHECK((machine.guest.get<std::uint64_t>(buffers + 32 * i + 16) & 0xFFF) == 0);
  }
}

}  // namespace viommu::test
