// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The invalidation queue by hand: any place, any size, any bits, and no waiting.
#pragma once

#include <cstdint>

#include "tests/behaviour/machine.hpp"

namespace viommu::test {

/// Descriptors as the specification draws them, first word.
namespace descriptor {
inline constexpr std::uint64_t context_global = 0x11;
inline constexpr std::uint64_t iotlb_global = 0x12;
[[nodiscard]] constexpr std::uint64_t iotlb_domain(std::uint16_t domain) { return 0x22 | std::uint64_t{domain} << 16; }
[[nodiscard]] constexpr std::uint64_t iotlb_page(std::uint16_t domain) { return 0x32 | std::uint64_t{domain} << 16; }
inline constexpr std::uint64_t device_tlb = 0x3;
inline constexpr std::uint64_t interrupt_entries_global = 0x4;
[[nodiscard]] constexpr std::uint64_t interrupt_entries(std::uint64_t index, std::uint64_t mask) {
  return 0x14 | mask << 27 | index << 32;
}
inline constexpr std::uint64_t wait_interrupt = 0x10;
inline constexpr std::uint64_t wait_status = 0x20;
inline constexpr std::uint64_t wait_fence = 0x40;
/// A wait with any of the three flags above, and its status data.
[[nodiscard]] constexpr std::uint64_t wait(std::uint64_t flags, std::uint32_t data = 0) {
  return 0x5 | flags | std::uint64_t{data} << 32;
}
}  // namespace descriptor

class Ring {
 public:
  /// @param size  QS: 2^QS pages
  explicit Ring(Machine& machine, std::uint64_t base = Machine::queue_page, unsigned size = 0)
      : machine_{&machine}, base_{base}, size_{size} {}

  void enable() {
    machine_->write(offset::queue_address, base_ | size_, 8);
    machine_->command(command::queue);
  }
  /// Into the next place, without telling the unit.
  void put(std::uint64_t low, std::uint64_t high = 0) {
    REQUIRE(machine_->memory.store_u64(base_ + tail_, low));
    REQUIRE(machine_->memory.store_u64(base_ + tail_ + 8, high));
    tail_ = (tail_ + 16) % bytes();
  }
  void put_wait(std::uint64_t flags, std::uint32_t data = 0) {
    put(descriptor::wait(flags, data), Machine::status_word);
  }
  void go() { machine_->write(offset::queue_tail, tail_, 8); }

  [[nodiscard]] std::uint64_t bytes() const { return std::uint64_t{4096} << size_; }
  [[nodiscard]] std::uint64_t tail() const { return tail_; }
  [[nodiscard]] std::uint64_t head() { return machine_->read(offset::queue_head, 8); }
  /// IQEI while IQE is set, else 0.
  [[nodiscard]] std::uint64_t error() {
    if ((machine_->read(offset::fault_status) & status::queue_error) == 0) return 0;
    return machine_->read(offset::queue_error_record, 8) & 0xF;
  }
  /// The guest overwrites the descriptor at the head and clears IQE.
  void repair_head(std::uint64_t low, std::uint64_t high = 0) {
    REQUIRE(machine_->memory.store_u64(base_ + head(), low));
    REQUIRE(machine_->memory.store_u64(base_ + head() + 8, high));
    machine_->write(offset::fault_status, status::queue_error);
  }

 private:
  Machine* machine_;
  std::uint64_t base_;
  unsigned size_;
  std::uint64_t tail_ = 0;
};

}  // namespace viommu::test
