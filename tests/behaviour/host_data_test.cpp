// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What the guest is shown is made of what the guest has given and of what the specifications say: two engines whose
// host memory and stack held other bytes before, and lie elsewhere, show the same.
#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <new>
#include <optional>
#include <string>
#include <vector>

#include "tests/behaviour/scalable_machine.hpp"
#include "tests/behaviour/virtio_machine.hpp"
#include "tests/support/random.hpp"

namespace viommu::test {
namespace {

/// What the host's memory holds before it is given out, and what the stack holds below the test.
std::byte old_contents{};

[[gnu::noinline]] void fill_stack() {
  std::array<volatile std::byte, 0x8000> below;  // NOLINT(cppcoreguidelines-pro-type-member-init): it is filled
  for (volatile std::byte& one : below) one = old_contents;
}

/// Given back at the end alone: no two engines have memory at one address.
struct Block {
  void* memory;
  std::align_val_t alignment;
};
std::vector<Block> blocks;

[[nodiscard]] viommu_host with_old_contents() {
  viommu_host host = capi::empty_host();
  host.allocate = [](void*, std::size_t size, std::size_t alignment) -> void* {
    void* const memory = ::operator new(size, std::align_val_t{alignment});
    std::memset(memory, std::to_integer<int>(old_contents), size);
    blocks.push_back({memory, std::align_val_t{alignment}});
    return memory;
  };
  host.deallocate = [](void*, void*, std::size_t, std::size_t) {};
  return host;
}

/// Everything that a guest was shown, by what it was shown in.
struct Shown {
  std::vector<std::uint64_t> registers;
  std::vector<std::uint64_t> messages;
  std::vector<Bytes> replies;
  std::vector<std::byte> memory;
  // That the test is about something.
  std::uint64_t faults = 0;
  std::uint64_t page_requests = 1;
};

void compare(const Shown& one, const Shown& other) {
  CHECK(one.registers == other.registers);
  CHECK(one.messages == other.messages);
  CHECK(one.replies == other.replies);
  const auto [at, in_other] = std::ranges::mismatch(one.memory, other.memory);
  INFO("byte " << at - one.memory.begin() << " of the guest's memory");
  CHECK((at == one.memory.end() && in_other == other.memory.end()));
  CHECK(one.faults != 0);
  CHECK(one.page_requests != 0);
}

template <class Story>
[[gnu::noinline]] Shown tell_deeper(const Story& story) {
  std::array<volatile std::byte, 0x8000> above;
  above.front() = old_contents;
  Shown shown = story();
  above.back() = old_contents;
  return shown;
}

/// @param story  called on other memory, of other contents, each time, and the same else
template <class Story>
void tell_twice(const Story& story) {
  old_contents = std::byte{0x5A};
  const Shown first = story();
  old_contents = std::byte{0xA5};
  compare(first, tell_deeper(story));
  for (const auto& [memory, alignment] : blocks) ::operator delete(memory, alignment);
  blocks.clear();
}

using Unit = ScalableMachine;
namespace ecap = scalable;

constexpr std::uint64_t device_tlb = ecap::bit(2);
constexpr std::uint64_t page_requests = ecap::bit(29) | ecap::bit(42);
constexpr std::uint64_t page_queue = 0xD0;
constexpr std::uint64_t page_event = 0xE0;

[[nodiscard]] Shown tell_vtd(unsigned seed) {
  Shown shown;
  shown.page_requests = 0;
  viommu_host host = with_old_contents();
  host.opaque = &shown;
  host.msi = [](void* opaque, std::uint64_t address, std::uint32_t data) {
    static_cast<Shown*>(opaque)->messages.insert(static_cast<Shown*>(opaque)->messages.end(), {address, data});
  };
  Unit unit{ecap::capability, ecap::everything | device_tlb | page_requests, 0x30, host};
  const Tree tree = unit.tables.create_tree(4);
  unit.map(tree, Unit::iova, Unit::page_a);
  unit.attach(Unit::device, 4 | 8 | 16);  // DTE, PASIDE, PRE
  PasidEntry fields;
  fields.type = ecap::first_stage;
  fields.tree = tree;
  unit.set_pasid(0, fields);
  unit.set_pasid(5, fields);
  REQUIRE(unit.engine.mmio_write(page_queue, 8, unit.tables.allocate_page()) == VIOMMU_OK);
  REQUIRE(unit.engine.mmio_write(page_event, 4, 0) == VIOMMU_OK);
  const std::array<std::uint64_t, 5> tables{Unit::queue_page, Unit::root_page, Unit::directory_page,
                                            unit.tables.slot(tree, Unit::iova, 1) & ~std::uint64_t{0xFFF},
                                            unit.pasid_entry(5) & ~std::uint64_t{0xFFF}};
  Random random{seed};
  for (unsigned step = 0; step < 3000; ++step) {
    fill_stack();
    const auto source = static_cast<std::uint16_t>(random.chance(1, 4) ? random.below(4) : std::uint64_t{Unit::device});
    const std::uint64_t iova = Unit::iova + (random.below(4) << 12) + random.below(0x1000);
    switch (random.below(8)) {
      case 0: unit.put(random.pick(tables) + 8 * random.below(512), random.next()); break;
      case 1: {
        viommu_page_request asked{};
        asked.iova = iova;
        asked.source = source;
        asked.group = static_cast<std::uint16_t>(random.below(512));
        asked.access = VIOMMU_WRITE;
        asked.last = static_cast<std::uint8_t>(random.below(2));
        asked.flags = VIOMMU_HAS_PASID;
        asked.pasid = static_cast<std::uint32_t>(5 + random.below(2));
        std::uint32_t code = 0;
        static_cast<void>(viommu_request_page(unit.engine.get(), &asked, &code));
        if (code == VIOMMU_PAGE_QUEUED) ++shown.page_requests;
        break;
      }
      case 2:
        static_cast<void>(
            viommu_mmio_write(unit.engine.get(), random.below(0xC0) * 4, 4, random.pick(tables) | random.next() % 16));
        break;
      case 3:  // a wait whose status goes anywhere, behind descriptors of any kind
        unit.put(Unit::queue_page + random.below(128) * 32, 0x25 | random.next() << 32);
        static_cast<void>(viommu_mmio_write(unit.engine.get(), 0x88, 8, random.below(128) * 32));
        break;
      default:
        if (unit.ask_by_pasid(random.chance(1, 2) ? 5 : 7, iova, static_cast<std::uint8_t>(random.below(3)), 0, source)
                .kind == VIOMMU_FAULT)
          ++shown.faults;
    }
    fill_stack();
    static_cast<void>(unit.engine.process());
  }
  for (std::uint64_t at = 0; at < viommu_mmio_size(unit.engine.get()); at += 4)
    shown.registers.push_back(unit.engine.mmio_read(at, 4));
  const auto* const ram = reinterpret_cast<const std::byte*>(unit.ram.data());
  shown.memory.assign(ram, ram + unit.ram.length());
  return shown;
}

[[nodiscard]] Shown tell_virtio(unsigned seed) {
  Shown shown;
  VirtioMachine machine{virtio_options(), VirtioMachine::Records::no, with_old_contents()};
  machine.negotiate();
  for (const std::uint16_t source : {VirtioMachine::pf, VirtioMachine::vf}) REQUIRE(machine.plug(source) == VIOMMU_OK);
  Random random{seed};
  for (unsigned step = 0; step < 1500; ++step) {
    const auto endpoint = static_cast<std::uint32_t>(
        random.pick(std::array<std::uint32_t, 3>{VirtioMachine::pf, VirtioMachine::vf, VirtioMachine::vf + 1}));
    const auto domain = static_cast<std::uint32_t>(1 + random.below(3));
    const std::uint64_t first = random.below(16) << 12;
    const std::uint64_t last = first + ((1 + random.below(4)) << 12) - 1;
    Bytes request;
    std::size_t room = 4;
    switch (random.below(7)) {
      case 0: request = attach_bytes(domain, endpoint, static_cast<std::uint32_t>(random.below(2))); break;
      case 1: request = detach_bytes(domain, endpoint); break;
      case 2: request = map_bytes(domain, first, last, random.below(64) << 12); break;
      case 3: request = unmap_bytes(domain, first, last); break;
      case 4:
        request = probe_bytes(endpoint);
        room = 516;
        break;
      case 5:  // no request, or one with too little room for its answer
        request.resize(random.below(64), static_cast<std::uint8_t>(random.next()));
        room = random.below(520);
        break;
      default: break;
    }
    fill_stack();
    if (!request.empty()) shown.replies.push_back(machine.ask(request, room));
    fill_stack();
    if (machine.translate(static_cast<std::uint16_t>(endpoint), first).kind == VIOMMU_FAULT) ++shown.faults;
    if (random.chance(1, 100)) REQUIRE(viommu_virtio_config_write(machine.engine, 36, 1, random.below(2)) == VIOMMU_OK);
  }
  CHECK(machine.events.size() > 10);
  std::ranges::copy(machine.events, std::back_inserter(shown.replies));
  for (std::uint64_t at = 0; at < 64; ++at) {
    std::uint64_t value = 0;
    static_cast<void>(viommu_virtio_config_read(machine.engine, at, 1, &value));
    shown.registers.push_back(value);
  }
  return shown;
}

}  // namespace

TEST_CASE("what a unit shows its guest does not depend on what the host's memory held", "[behaviour][vtd][SEC-13]") {
  for (const unsigned seed : {1U, 2U, 3U}) tell_twice([seed] { return tell_vtd(seed); });
}

TEST_CASE("what a virtio-iommu shows its guest does not depend on what the host's memory held",
          "[behaviour][virtio][SEC-13]") {
  for (const unsigned seed : {1U, 2U, 3U}) tell_twice([seed] { return tell_virtio(seed); });
}

}  // namespace viommu::test
