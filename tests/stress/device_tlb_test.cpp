// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// A device that keeps translations, told by one thread, answering by another, translating by a third, while the guest
// moves its page: whenever the guest's wait is complete the device keeps nothing older.
#include <atomic>
#include <catch2/catch.hpp>
#include <chrono>
#include <cstdint>
#include <deque>
#include <mutex>
#include <thread>

#include "tests/behaviour/scalable_machine.hpp"

namespace viommu::test {
namespace {

using namespace scalable;

/// The device's TLB of one page, and the invalidations it was told of.
struct Device {
  std::mutex lock;
  std::uint64_t kept = 0;  ///< gpa, 0 for nothing
  std::deque<std::uint64_t> tickets;
};

viommu_host host_of(Device& device) {
  viommu_host host = capi::empty_host();
  host.opaque = &device;
  host.device_invalidate = [](void* opaque, std::uint64_t ticket, std::uint16_t, std::uint32_t, std::uint64_t,
                              std::uint64_t) -> std::int32_t {
    auto& self = *static_cast<Device*>(opaque);
    const std::lock_guard held{self.lock};
    self.tickets.push_back(ticket);
    return VIOMMU_DEVICE_PENDING;
  };
  return host;
}

}  // namespace

TEST_CASE("when a wait is complete no device keeps a translation that went before it",
          "[stress][device_tlb][SEC-11][RVM-11]") {
  using Machine = ScalableMachine;
  constexpr std::uint64_t dt = bit(2);
  Device device;
  Machine machine{capability, everything | dt, 0x30, host_of(device)};
  PasidEntry fields;
  fields.tree = machine.tables.create_tree(4);
  machine.attach(Machine::device, 4);  // DTE
  machine.map(fields.tree, Machine::iova, Machine::page_a, 3);
  machine.set_pasid(0, fields);
  machine.invalidate_all();

  std::atomic<bool> stop{false};
  std::atomic<std::uint64_t> translations{0};
  std::thread translating{[&] {
    Reader reader = *machine.engine.reader();
    while (!stop.load(std::memory_order_relaxed)) {
      const Guard guard = reader.guard();
      const viommu_ats_completion completion =
          reader.ats_translate(request(Machine::device, Machine::iova, VIOMMU_READ | VIOMMU_WRITE));
      if (translations % 4 == 0) std::this_thread::yield();  // what was answered is on its way for a while
      const std::lock_guard held{device.lock};
      device.kept = completion.gpa;
      ++translations;
    }
  }};
  std::thread answering{[&] {
    while (!stop.load(std::memory_order_relaxed)) {
      std::uint64_t ticket = 0;
      {
        const std::lock_guard held{device.lock};
        if (!device.tickets.empty()) {
          ticket = device.tickets.front();
          device.tickets.pop_front();
          device.kept = 0;
        }
      }
      if (ticket == 0)
        std::this_thread::yield();
      else if (viommu_device_invalidated(machine.engine.get(), ticket, VIOMMU_INVALIDATED) != VIOMMU_OK)
        stop = true;
    }
  }};

  std::uint64_t stale = 0;
  std::uint64_t rounds = 0;
  std::uint64_t old_page = Machine::page_a;
  std::uint64_t new_page = Machine::page_b;
  const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds{700};
  while (std::chrono::steady_clock::now() < end && !stop) {
    machine.map(fields.tree, Machine::iova, new_page, 3);
    machine.add(0x32 | std::uint64_t{fields.domain} << 16, Machine::iova);
    machine.add(0x3 | std::uint64_t{Machine::device} << 32, Machine::iova);
    const auto data = static_cast<std::uint32_t>(1000 + ++rounds);  // beyond the machine's own waits
    machine.add(0x25 | std::uint64_t{data} << 32, Machine::status_page);
    REQUIRE(machine.engine.mmio_write(0x88, 8, machine.tail()) == VIOMMU_OK);
    while (static_cast<std::uint32_t>(machine.word(Machine::status_page)) != data && !stop)
      static_cast<void>(machine.engine.process());
    const std::lock_guard held{device.lock};
    stale += static_cast<std::uint64_t>(device.kept == old_page);
    std::swap(old_page, new_page);
  }
  CHECK_FALSE(stop);
  stop = true;
  translating.join();
  answering.join();
  CHECK(stale == 0);
  CHECK(rounds > 20);
  CHECK(translations > 20);
  CHECK(machine.engine.statistics().device_tlb_invalidations == rounds);
}

}  // namespace viommu::test
