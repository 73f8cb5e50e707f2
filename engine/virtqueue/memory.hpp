// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Guest memory as rings and buffers need it: words that are published by others, bytes at any address, stores in order.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>

#include "engine/base/address.hpp"
#include "engine/base/bits.hpp"
#include "engine/base/guest_bytes.hpp"
#include "engine/base/guest_memory.hpp"
#include "engine/base/memory_view.hpp"
#include "engine/virtqueue/descriptor.hpp"

namespace viommu::virtqueue {

/// Made inside a guard, once for a run over a queue, and good until that guard ends. Loads acquire and stores release:
/// what an index announces is read behind it, and what a store announces stands before it.
class Memory {
 public:
  explicit Memory(const GuestMemory& guest) noexcept : guest_{&guest}, view_{guest.view()} {}

  /// One aligned field, as part of the word around it.
  [[nodiscard]] std::optional<std::uint16_t> load_u16(Gpa gpa) const noexcept { return part<std::uint16_t>(gpa); }
  [[nodiscard]] std::optional<std::uint32_t> load_u32(Gpa gpa) const noexcept { return part<std::uint32_t>(gpa); }

  /// A descriptor at any address. Of an aligned one the word with the flags is loaded first: in a packed ring that word
  /// says whether the other is the driver's yet.
  [[nodiscard]] std::optional<DescriptorWords> load_descriptor(Gpa gpa) const noexcept {
    if (gpa.value % descriptor_bytes != 0) return load_unaligned_descriptor(gpa);  // it may cross a page
    if (std::byte* const host = view_.find(gpa); host != nullptr) {
      const std::uint64_t high = load_mapped_u64(host + sizeof(std::uint64_t), std::memory_order_acquire);
      return DescriptorWords{{load_mapped_u64(host, std::memory_order_acquire)}, high};
    }
    const std::optional<std::uint64_t> high = view_.any_u64(view_.opaque, gpa + sizeof(std::uint64_t));
    if (!high) return std::nullopt;
    const std::optional<std::uint64_t> low = view_.any_u64(view_.opaque, gpa);
    if (!low) return std::nullopt;
    return DescriptorWords{{*low}, *high};
  }

  [[nodiscard]] bool load(Gpa gpa, std::span<std::byte> to) const noexcept { return load_bytes(view_, gpa, to); }
  [[nodiscard]] bool store(Gpa gpa, std::span<const std::byte> from) const noexcept {
    return store_bytes(*guest_, gpa, from);
  }
  [[nodiscard]] bool store_u16(Gpa gpa, std::uint16_t value) const noexcept { return guest_->store_u16(gpa, value); }
  [[nodiscard]] bool store_u32(Gpa gpa, std::uint32_t value) const noexcept { return guest_->store_u32(gpa, value); }
  [[nodiscard]] bool store_u64(Gpa gpa, std::uint64_t value) const noexcept { return guest_->store_u64(gpa, value); }
  [[nodiscard]] bool backed(GpaRange range, bool written) const noexcept { return guest_->backed(range, written); }

 private:
  [[nodiscard]] std::optional<std::uint64_t> load_u64(Gpa gpa) const noexcept {
    std::byte* const host = view_.find(gpa);
    return host != nullptr ? load_mapped_u64(host, std::memory_order_acquire) : view_.any_u64(view_.opaque, gpa);
  }
  template <class Part>
  [[nodiscard]] std::optional<Part> part(Gpa gpa) const noexcept {
    const auto offset = static_cast<unsigned>(gpa.value % sizeof(std::uint64_t));
    const std::optional<std::uint64_t> word = load_u64({gpa.value - offset});
    if (!word) return std::nullopt;
    return static_cast<Part>(from_byte_lane(*word, offset));
  }
  [[nodiscard]] std::optional<DescriptorWords> load_unaligned_descriptor(Gpa gpa) const noexcept {
    std::array<std::byte, descriptor_bytes> bytes{};
    if (!load(gpa, bytes)) return std::nullopt;
    DescriptorWords words;
    std::memcpy(&words.address.value, bytes.data(), sizeof words.address.value);
    std::memcpy(&words.high, bytes.data() + sizeof words.address.value, sizeof words.high);
    return words;
  }

  const GuestMemory* guest_;
  MemoryView view_;
};

}  // namespace viommu::virtqueue
