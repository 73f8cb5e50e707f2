// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What a driver, or memory that has gone, can do to a queue that ends its use until the device is reset.
#pragma once

#include <cstdint>
#include <string_view>

namespace viommu::virtqueue {

enum class Problem : std::uint8_t {
  none,
  ring_unreadable,
  ring_unwritable,
  available_index,  ///< ahead by more than the ring has entries
  head_index,       ///< not in the ring
  next_index,       ///< not in its table
  too_long,         ///< a loop, or more descriptors or segments than there may be
  readable_after_writable,
  indirect_not_negotiated,
  indirect_nested,
  indirect_length,  ///< 0, or not a multiple of a descriptor
  indirect_with_next,
  address_wraps,
  not_memory,   ///< a buffer or a table, or part of one
  memory_gone,  ///< a buffer that was there when it was taken
};

/// For the log.
[[nodiscard]] constexpr std::string_view text_of(Problem problem) noexcept {
  switch (problem) {
    case Problem::none:                    return "nothing";
    case Problem::ring_unreadable:         return "the ring cannot be read";
    case Problem::ring_unwritable:         return "the ring cannot be written";
    case Problem::available_index:         return "more buffers available than the queue has entries";
    case Problem::head_index:              return "an available buffer outside the queue";
    case Problem::next_index:              return "a next descriptor outside its table";
    case Problem::too_long:                return "a chain too long, or a loop";
    case Problem::readable_after_writable: return "a readable descriptor after a writable one";
    case Problem::indirect_not_negotiated: return "an indirect descriptor, which was not negotiated";
    case Problem::indirect_nested:         return "an indirect descriptor in an indirect table";
    case Problem::indirect_length:         return "an indirect table of no whole number of descriptors";
    case Problem::indirect_with_next:      return "an indirect descriptor with a next one";
    case Problem::address_wraps:           return "a buffer that wraps around the end of memory";
    case Problem::not_memory:              return "a buffer that is not memory";
    case Problem::memory_gone:             return "a buffer whose memory has gone";
  }
  return "nothing";
}

}  // namespace viommu::virtqueue
