// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "bench/peers/qemu_registers.hpp"

namespace viommu::bench {
namespace {

constexpr std::uint32_t overflow = 1u << 0;
constexpr std::uint32_t pending = 1u << 1;
constexpr std::uint32_t queue_error_bit = 1u << 4;
constexpr std::uint32_t event_causes = 0x73;
constexpr std::uint32_t cleared_by_one = 0x71;
constexpr std::uint32_t interrupt_mask = 1u << 31;
constexpr std::uint32_t interrupt_pending = 1u << 30;
constexpr std::uint64_t record_fault = std::uint64_t{1} << 63;
constexpr std::uint64_t record_read = std::uint64_t{1} << 62;

}  // namespace

QemuRegisters::QemuRegisters(std::uint32_t version, std::uint64_t capability, std::uint64_t extended_capability,
                             MessageSink sink)
    : version_{version},
      capability_{capability},
      extended_capability_{extended_capability},
      sink_{sink},
      first_record_{16 * ((capability >> 24) & 0x3ff)},
      records_{static_cast<unsigned>((capability >> 40) & 0xff) + 1} {
  if (record_offset(records_) > bytes_.size()) records_ = 1;
  if (record_offset(records_) > bytes_.size()) first_record_ = 0x220;
  reset();
}

void QemuRegisters::reset() {
  bytes_.fill(0);
  store(reg::version, version_);
  store(reg::capability, capability_);
  store(reg::extended_capability, extended_capability_);
  store(reg::fault_control, interrupt_mask);
  store(reg::completion_control, interrupt_mask);
  next_record_ = 0;
}

std::uint64_t QemuRegisters::read(std::uint64_t offset, unsigned size) const noexcept {
  if (offset + size > bytes_.size()) return 0;
  std::uint64_t value = 0;
  std::memcpy(&value, &bytes_[offset], size);
  return value;
}

bool QemuRegisters::any_pending() const noexcept {
  for (unsigned index = 0; index < records_; ++index) {
    if ((load<std::uint64_t>(record_offset(index) + 8) & record_fault) != 0) return true;
  }
  return false;
}

void QemuRegisters::record(const BlockedRequest& blocked) {
  const auto status = load<std::uint32_t>(reg::fault_status);
  if ((status & overflow) != 0) return;
  for (unsigned index = 0; index < records_; ++index) {
    const auto high = load<std::uint64_t>(record_offset(index) + 8);
    if ((high & record_fault) != 0 && (high & 0xffff) == blocked.source) return;
  }
  const std::uint64_t at = record_offset(next_record_);
  if ((load<std::uint64_t>(at + 8) & record_fault) != 0) {
    store(reg::fault_status, status | overflow);
    return;
  }
  store(at, blocked.iova & ~std::uint64_t{0xfff});
  store(at + 8, record_fault | (blocked.is_write ? 0 : record_read) | (std::uint64_t{blocked.reason} << 32) |
                    std::uint64_t{blocked.source});
  const unsigned recorded = next_record_;
  next_record_ = (next_record_ + 1) % records_;
  if ((status & pending) != 0) return;
  store(reg::fault_status, (status & ~0xff00u) | (recorded << 8) | pending);
  fault_event(status);
}

void QemuRegisters::raise_queue_error() {
  const auto status = load<std::uint32_t>(reg::fault_status);
  store(reg::fault_status, status | queue_error_bit);
  if ((status & queue_error_bit) == 0) fault_event(status);
}

bool QemuRegisters::queue_error() const noexcept {
  return (load<std::uint32_t>(reg::fault_status) & queue_error_bit) != 0;
}

void QemuRegisters::fault_event(std::uint32_t status_before) {
  if ((status_before & event_causes) != 0) return;
  const auto control = load<std::uint32_t>(reg::fault_control);
  if ((control & interrupt_mask) != 0) {
    store(reg::fault_control, control | interrupt_pending);
    return;
  }
  store(reg::fault_control, control & ~interrupt_pending);
  send_fault_message();
}

void QemuRegisters::send_fault_message() const {
  sink_.send(sink_.opaque, load<std::uint64_t>(reg::fault_address), load<std::uint32_t>(reg::fault_data));
}

void QemuRegisters::write_fault_status(std::uint32_t value) {
  const std::uint32_t status = load<std::uint32_t>(reg::fault_status) & ~(value & cleared_by_one);
  store(reg::fault_status, status);
  if ((status & event_causes) == 0) {
    store(reg::fault_control, load<std::uint32_t>(reg::fault_control) & ~interrupt_pending);
  }
}

void QemuRegisters::write_fault_control(std::uint32_t value) {
  const auto control = load<std::uint32_t>(reg::fault_control);
  std::uint32_t now = (control & interrupt_pending) | (value & interrupt_mask);
  const bool send = (now & interrupt_pending) != 0 && (now & interrupt_mask) == 0;
  if (send) now &= ~interrupt_pending;
  store(reg::fault_control, now);
  if (send) send_fault_message();
}

bool QemuRegisters::is_record_end(std::uint64_t offset) const noexcept {
  return offset >= first_record_ && offset < record_offset(records_) && offset % 16 == 12;
}

void QemuRegisters::write_record(std::uint64_t offset, std::uint32_t value) {
  if ((value >> 31) == 0) return;
  store(offset, load<std::uint32_t>(offset) & 0x7fffffffu);
  const auto status = load<std::uint32_t>(reg::fault_status);
  if (!any_pending()) store(reg::fault_status, status & ~pending);
  if ((load<std::uint32_t>(reg::fault_status) & event_causes) == 0) {
    store(reg::fault_control, load<std::uint32_t>(reg::fault_control) & ~interrupt_pending);
  }
}

}  // namespace viommu::bench
