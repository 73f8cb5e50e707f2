// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The register window of QEMU's shape: a byte array behind offsets, and the fault recording registers in it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace viommu::bench {

namespace reg {
inline constexpr std::uint32_t version = 0x00;
inline constexpr std::uint32_t capability = 0x08;
inline constexpr std::uint32_t extended_capability = 0x10;
inline constexpr std::uint32_t global_command = 0x18;
inline constexpr std::uint32_t global_status = 0x1c;
inline constexpr std::uint32_t root_table = 0x20;
inline constexpr std::uint32_t fault_status = 0x34;
inline constexpr std::uint32_t fault_control = 0x38;
inline constexpr std::uint32_t fault_data = 0x3c;
inline constexpr std::uint32_t fault_address = 0x40;
inline constexpr std::uint32_t queue_head = 0x80;
inline constexpr std::uint32_t queue_tail = 0x88;
inline constexpr std::uint32_t queue_address = 0x90;
inline constexpr std::uint32_t completion_control = 0xa0;
inline constexpr std::uint32_t interrupt_table = 0xb8;
}  // namespace reg

/// Where the unit's own interrupts go.
struct MessageSink {
  void* opaque = nullptr;
  void (*send)(void* opaque, std::uint64_t address, std::uint32_t data) = nullptr;
};

/// One blocked request.
struct BlockedRequest {
  std::uint64_t iova = 0;
  std::uint16_t source = 0;
  std::uint8_t reason = 0;
  bool is_write = false;
};

class QemuRegisters {
 public:
  QemuRegisters(std::uint32_t version, std::uint64_t capability, std::uint64_t extended_capability, MessageSink sink);

  void reset();

  template <class Word>
  [[nodiscard]] Word load(std::uint64_t offset) const noexcept {
    Word word;
    std::memcpy(&word, &bytes_[offset], sizeof word);
    return word;
  }
  template <class Word>
  void store(std::uint64_t offset, Word word) noexcept {
    std::memcpy(&bytes_[offset], &word, sizeof word);
  }

  /// Any access of 1, 2, 4 or 8 bytes inside the window; 0 elsewhere.
  [[nodiscard]] std::uint64_t read(std::uint64_t offset, unsigned size) const noexcept;

  /// Puts a fault into the next recording register, unless one of its source is pending or the register is in use.
  void record(const BlockedRequest& blocked);
  /// Sets the invalidation queue error.
  void raise_queue_error();
  [[nodiscard]] bool queue_error() const noexcept;

  void write_fault_status(std::uint32_t value);
  void write_fault_control(std::uint32_t value);
  /// A dword write to the last quarter of a recording register: clears its fault when bit 31 is set.
  void write_record(std::uint64_t offset, std::uint32_t value);
  [[nodiscard]] bool is_record_end(std::uint64_t offset) const noexcept;

 private:
  [[nodiscard]] std::uint64_t record_offset(unsigned index) const noexcept {
    return first_record_ + 16 * std::uint64_t{index};
  }
  [[nodiscard]] bool any_pending() const noexcept;
  void fault_event(std::uint32_t status_before);
  void send_fault_message() const;

  std::array<std::uint8_t, 8192> bytes_{};
  std::uint32_t version_;
  std::uint64_t capability_;
  std::uint64_t extended_capability_;
  MessageSink sink_;
  std::uint64_t first_record_;
  unsigned records_;
  unsigned next_record_ = 0;
};

}  // namespace viommu::bench
