// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// QEMU's shape: register writes and the invalidation queue.
#include "bench/peers/qemu_shape.hpp"

namespace viommu::bench {
namespace {

enum Command : std::uint32_t {
  translate_bit = 1u << 31,
  set_root_bit = 1u << 30,
  queue_bit = 1u << 26,
  remap_interrupts_bit = 1u << 25,
  set_interrupt_table_bit = 1u << 24,
  compatibility_bit = 1u << 23,
};

enum DescriptorType : unsigned { context = 1, iotlb = 2, device_tlb = 3, interrupt_entry = 4, wait = 5 };

enum Granularity : unsigned { global = 1, domain = 2, selective = 3 };

[[nodiscard]] constexpr unsigned granularity(std::uint64_t low) noexcept { return static_cast<unsigned>(low >> 4 & 3); }

[[nodiscard]] constexpr std::uint16_t word(std::uint64_t value, unsigned shift) noexcept {
  return static_cast<std::uint16_t>(value >> shift);
}

}  // namespace

std::uint64_t QemuShape::read(std::uint64_t offset, unsigned size) {
  const std::lock_guard lock{mutex_};
  return registers_.read(offset, size);
}

void QemuShape::write(std::uint64_t offset, unsigned size, std::uint64_t value) {
  const std::lock_guard lock{mutex_};
  const auto low = static_cast<std::uint32_t>(value);
  switch (offset) {
    case reg::global_command: return write_global_command(low);
    case reg::fault_status:   registers_.write_fault_status(low); return run_queue();
    case reg::fault_control:  return registers_.write_fault_control(low);
    case reg::queue_tail:     return write_queue_tail(low);
    case reg::root_table:
    case reg::queue_address:
    case reg::interrupt_table:
      if (size == 8) return registers_.store(offset, value);
      [[fallthrough]];
    case reg::root_table + 4:
    case reg::queue_address + 4:
    case reg::interrupt_table + 4:
    case reg::fault_data:
    case reg::fault_address:
    case reg::fault_address + 4:   return registers_.store(offset, low);
    default:
      if (registers_.is_record_end(offset)) registers_.write_record(offset, low);
  }
}

void QemuShape::write_global_command(std::uint32_t value) {
  auto status = registers_.load<std::uint32_t>(reg::global_status);
  const std::uint32_t changed =
      (status ^ value) & (translate_bit | queue_bit | remap_interrupts_bit | compatibility_bit);
  if ((value & set_root_bit) != 0) {
    root_table_ = registers_.load<std::uint64_t>(reg::root_table);
    next_generation();
    iotlb_.drop_all();
    status |= set_root_bit;
  }
  if ((value & set_interrupt_table_bit) != 0) status |= set_interrupt_table_bit;
  if ((changed & queue_bit) != 0) {
    queue_enabled_ = (value & queue_bit) != 0;
    const auto address = registers_.load<std::uint64_t>(reg::queue_address);
    queue_base_ = address & 0x000ffffffffff000;
    queue_entries_ = queue_enabled_ ? 256u << (address & 7) : 0;
    queue_head_ = 0;
    registers_.store(reg::queue_head, std::uint64_t{0});
  }
  if ((changed & translate_bit) != 0) {
    translating_ = (value & translate_bit) != 0;
    next_generation();
    iotlb_.drop_all();
  }
  registers_.store(reg::global_status, status ^ changed);
  run_queue();
}

void QemuShape::write_queue_tail(std::uint32_t value) {
  queue_tail_ = value >> 4 & 0x7fff;
  registers_.store(reg::queue_tail, std::uint64_t{queue_tail_} << 4);
  run_queue();
}

void QemuShape::run_queue() {
  if (!queue_enabled_ || registers_.queue_error()) return;
  if (queue_tail_ >= queue_entries_) return registers_.raise_queue_error();
  while (queue_head_ != queue_tail_) {  // ends: the tail does not move meanwhile, and the head goes round the ring
    Descriptor descriptor;
    if (!memory_.read(queue_base_ + 16 * std::uint64_t{queue_head_}, &descriptor, sizeof descriptor) ||
        !process(descriptor)) {
      return registers_.raise_queue_error();
    }
    queue_head_ = (queue_head_ + 1) % queue_entries_;
    registers_.store(reg::queue_head, std::uint64_t{queue_head_} << 4);
  }
}

bool QemuShape::process(const Descriptor& descriptor) {
  switch (static_cast<unsigned>((descriptor.low & 0xf) | (descriptor.low >> 5 & 0x70))) {
    case context:         return invalidate_context(descriptor);
    case iotlb:           return invalidate_iotlb(descriptor);
    case wait:            return complete_wait(descriptor);
    case device_tlb:
    case interrupt_entry: return true;  // nothing is kept that they could concern
    default:              return false;
  }
}

bool QemuShape::invalidate_context(const Descriptor& descriptor) {
  switch (granularity(descriptor.low)) {
    case global:
    case domain:    next_generation(); return true;
    case selective: break;
    default:        return false;
  }
  // The function mask names how many low bits of the function number do not count, from the top.
  constexpr unsigned ignored[4] = {0, 4, 6, 7};
  const unsigned ignore = ignored[descriptor.low >> 48 & 3];
  const std::uint16_t source = word(descriptor.low, 32);
  const auto& bus = buses_[source >> 8];
  if (!bus) return true;
  for (unsigned function = 0; function < 256; ++function) {
    if (((function ^ source) & 0xff & ~ignore) == 0 && bus->devices[function]) bus->devices[function]->generation = 0;
  }
  return true;
}

bool QemuShape::invalidate_iotlb(const Descriptor& descriptor) {
  const std::uint16_t domain_id = word(descriptor.low, 16);
  switch (granularity(descriptor.low)) {
    case global:    iotlb_.drop_all(); return true;
    case domain:    iotlb_.drop_domain(domain_id); return true;
    case selective: {
      const auto order = static_cast<unsigned>(descriptor.high & 0x3f);
      if (order > (unit_.capability >> 48 & 0x3f)) return false;
      iotlb_.drop_pages(domain_id, descriptor.high, order);
      return true;
    }
    default: return false;
  }
}

bool QemuShape::complete_wait(const Descriptor& descriptor) {
  constexpr std::uint64_t interrupt_flag = 1u << 4;
  constexpr std::uint64_t status_flag = 1u << 5;
  constexpr std::uint64_t fence_flag = 1u << 6;
  if ((descriptor.low & (interrupt_flag | status_flag | fence_flag)) == 0) return false;
  if ((descriptor.low & status_flag) == 0) return true;
  auto data = static_cast<std::uint32_t>(descriptor.low >> 32);
  return memory_.write(descriptor.high & ~std::uint64_t{3}, &data, sizeof data);
}

}  // namespace viommu::bench
