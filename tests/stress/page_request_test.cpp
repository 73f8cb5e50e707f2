// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Two devices ask for pages while the guest answers them and its queue overflows: each group that was queued is
// answered once, with what the guest said.
#include <atomic>
#include <catch2/catch.hpp>
#include <chrono>
#include <cstdint>
#include <map>
#include <mutex>
#include <thread>
#include <utility>

#include "tests/behaviour/scalable_machine.hpp"

namespace viommu::test {
namespace {

using namespace scalable;
using Machine = ScalableMachine;

/// Groups that wait for their answer, by source and number.
struct Asked {
  using Group = std::pair<std::uint16_t, std::uint32_t>;
  std::mutex lock;
  std::map<Group, unsigned> open;
  std::uint64_t answered = 0;
  std::uint64_t wrong = 0;

  /// What the guest answers this group with.
  static std::uint32_t code_of(std::uint32_t group) {
    return group % 3 == 0 ? VIOMMU_PAGE_INVALID : VIOMMU_PAGE_SUCCESS;
  }
};

viommu_host host_of(Asked& asked) {
  viommu_host host = capi::empty_host();
  host.opaque = &asked;
  host.page_response = [](void* opaque, std::uint16_t source, std::uint32_t, std::uint32_t group, std::uint32_t code) {
    auto& self = *static_cast<Asked*>(opaque);
    const std::lock_guard held{self.lock};
    const auto found = self.open.find({source, group});
    if (found == self.open.end() || found->second == 0 || code != Asked::code_of(group)) {
      ++self.wrong;
      return;
    }
    --found->second;
    ++self.answered;
  };
  return host;
}

}  // namespace

TEST_CASE("while devices ask and the guest answers each queued group is answered once",
          "[stress][pages][S5.4][RVM-12]") {
  constexpr std::uint64_t dt = bit(2);
  constexpr std::uint64_t prs = bit(29);
  constexpr std::uint64_t pqh = 0xC0;
  constexpr std::uint64_t pqt = 0xC8;
  constexpr std::uint64_t pqa = 0xD0;
  constexpr std::uint64_t prs_register = 0xDC;
  constexpr std::uint64_t queue_bytes = 0x1000;
  Asked asked;
  Machine machine{capability, everything | dt | prs, 0x30, host_of(asked)};
  PasidEntry fields;
  fields.tree = machine.tables.create_tree(4);
  for (const std::uint16_t source : {Machine::device, Machine::upper_device})
    machine.attach(source, 4 | 16);  // DTE, PRE
  machine.set_pasid(0, fields);
  const std::uint64_t queue = machine.tables.allocate_page();
  REQUIRE(machine.engine.mmio_write(pqa, 8, queue) == VIOMMU_OK);
  machine.invalidate_all();

  std::atomic<bool> stop{false};
  std::atomic<std::uint64_t> queued{0};
  std::atomic<std::uint64_t> answered_at_once{0};
  const auto ask = [&](std::uint16_t source) {
    for (std::uint32_t group = 0; !stop; group = (group + 1) % 512) {
      viommu_page_request request{};
      request.iova = Machine::iova;
      request.source = source;
      request.group = static_cast<std::uint16_t>(group);
      request.access = VIOMMU_READ;
      request.last = 1;
      {
        const std::lock_guard held{asked.lock};
        unsigned& open = asked.open[{source, group}];
        if (open != 0) continue;  // a device does not use a number again that it waits for
        open = 1;
      }
      std::uint32_t code = 99;
      const viommu_result result = viommu_request_page(machine.engine.get(), &request, &code);
      if (result == VIOMMU_PAGE_QUEUED) {
        ++queued;
        continue;
      }
      const std::lock_guard held{asked.lock};
      asked.open[{source, group}] = 0;
      if (result == VIOMMU_PAGE_ANSWERED && code == VIOMMU_PAGE_SUCCESS)
        ++answered_at_once;
      else
        ++asked.wrong;
    }
  };
  std::thread one{ask, Machine::device};
  std::thread two{ask, Machine::upper_device};

  std::uint64_t head = 0;
  std::uint32_t waits = 1000;  // beyond those of the machine
  const auto answer_what_is_there = [&] {
    constexpr unsigned most_answers = 100;  // they and a wait have room in the queue
    const std::uint64_t tail = machine.engine.mmio_read(pqt, 8);
    for (unsigned i = 0; head != tail && i < most_answers; head = (head + 32) % queue_bytes, ++i) {
      const std::uint64_t low = machine.word(queue + head);
      const auto group = static_cast<std::uint32_t>(machine.word(queue + head + 8) >> 3 & 511);
      machine.add(0x9 | std::uint64_t{Asked::code_of(group)} << 12 | (low & 0xFFFF0000), std::uint64_t{group} << 3);
    }
    machine.add(0x25 | std::uint64_t{++waits} << 32, Machine::status_page);
    static_cast<void>(machine.engine.mmio_write(0x88, 8, machine.tail()));
    while (static_cast<std::uint32_t>(machine.word(Machine::status_page)) != waits)
      static_cast<void>(machine.engine.process());
    static_cast<void>(machine.engine.mmio_write(pqh, 8, head));
    static_cast<void>(machine.engine.mmio_write(prs_register, 4, 3));
  };
  const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds{600};
  unsigned round = 0;
  while (std::chrono::steady_clock::now() < end) {
    if (++round % 64 == 0) std::this_thread::sleep_for(std::chrono::milliseconds{2});  // so that the queue overflows
    answer_what_is_there();
  }
  stop = true;
  one.join();
  two.join();
  for (unsigned i = 0; i < 8; ++i) {
    static_cast<void>(machine.engine.process());
    answer_what_is_there();
  }
  const std::lock_guard held{asked.lock};
  CHECK(asked.wrong == 0);
  std::uint64_t left = 0;
  for (const auto& [group, open] : asked.open) left += open;
  CHECK(left == 0);
  CHECK(asked.answered == queued);
  CHECK(queued > 100);
  CHECK(answered_at_once > 0);
  CHECK(machine.engine.statistics().page_responses_dropped == 0);
}

}  // namespace viommu::test
