// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// VT-d, "Queued Invalidation Interface": the ring that IQA_REG describes. Head and tail are byte offsets into it.
#pragma once

#include <cstdint>
#include <optional>

#include "engine/base/address.hpp"
#include "engine/vtd/capabilities.hpp"
#include "engine/vtd/register_layouts.hpp"

namespace viommu::vtd {

struct QueueGeometry {
  Gpa base;
  std::uint32_t size_bytes = 0;   ///< 4 KiB to 512 KiB, a power of two
  std::uint32_t entry_bytes = 0;  ///< 16 or 32

  [[nodiscard]] static constexpr QueueGeometry of(QueueAddress address) noexcept {
    const unsigned size_bits = page_shift + get(address, iqa::size);
    return {get(address, iqa::base), static_cast<std::uint32_t>(low_bits(size_bits) + 1),
            get(address, iqa::wide) ? 32u : 16u};
  }
  [[nodiscard]] constexpr std::uint32_t entries() const noexcept { return size_bytes / entry_bytes; }
  [[nodiscard]] constexpr bool wide() const noexcept { return entry_bytes == 32; }
  [[nodiscard]] constexpr Gpa entry_at(std::uint32_t head) const noexcept { return base + head; }
  /// The offset behind `head`; 0 behind the last entry, which is what the guest reads there too.
  [[nodiscard]] constexpr std::uint32_t next(std::uint32_t head) const noexcept {
    const std::uint32_t behind = head + entry_bytes;
    return behind >= size_bytes ? 0 : behind;
  }
  /// Entries from `head` up to `tail`, both inside the ring: less than `entries()`, so a run over them ends.
  [[nodiscard]] constexpr std::uint32_t waiting(std::uint32_t head, std::uint32_t tail) const noexcept {
    return (tail >= head ? tail - head : size_bytes - head + tail) / entry_bytes;
  }

  friend constexpr bool operator==(const QueueGeometry&, const QueueGeometry&) = default;
};

/// What keeps the unit from fetching at all, or nothing. To be asked before each run over the ring: once it passes,
/// `tail` is inside the ring and on an entry. Checked in the order table mode, width, tail alignment, tail range.
[[nodiscard]] constexpr std::optional<QueueErrorCode> queue_problem(const QueueGeometry& queue, std::uint32_t tail,
                                                                    TableMode mode,
                                                                    const Capabilities& capabilities) noexcept {
  const bool mode_exists = mode == TableMode::legacy || (mode == TableMode::scalable && capabilities.scalable_mode) ||
                           (mode == TableMode::abort_dma && capabilities.abort_mode);
  if (!mode_exists) return QueueErrorCode::invalid_table_mode;
  const bool wide_exists = capabilities.scalable_mode || capabilities.abort_mode;
  if (queue.wide() ? !wide_exists : mode != TableMode::legacy) return QueueErrorCode::invalid_width;
  if (tail % queue.entry_bytes != 0) return QueueErrorCode::misaligned_tail;
  if (tail >= queue.size_bytes) return QueueErrorCode::invalid_tail;
  return std::nullopt;
}

}  // namespace viommu::vtd
