// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// One guest word for a walk, as a plain copy. g++ 12 puts a std::optional that comes from two places together in
// memory, part by part, and waits for these stores when it reads the whole: walks took up to four times as long.
#pragma once

#include "engine/base/address.hpp"
#include "engine/base/memory_view.hpp"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>

namespace viommu::walkers {

/// @tparam Memory  has load_u64 as MemoryView does, or a load_word like this
/// @return false where no memory is; `word` is then 0, or as it was
template <class Memory>
[[nodiscard]] bool load_word(const Memory& memory, Gpa gpa, std::uint64_t& word) noexcept {
  if constexpr (requires { memory.load_word(gpa, word); }) {
    return memory.load_word(gpa, word);
  } else {
    const std::optional<std::uint64_t> loaded = memory.load_u64(gpa);
    word = loaded.value_or(0);
    return loaded.has_value();
  }
}
[[nodiscard]] inline bool load_word(const MemoryView& memory, Gpa gpa, std::uint64_t& word) noexcept {
  if (std::byte* const host = memory.find(gpa); host != nullptr) {
    word = load_mapped_u64(host, std::memory_order_relaxed);
    return true;
  }
  const std::optional<std::uint64_t> loaded = memory.any_u64(memory.opaque, gpa);
  word = loaded.value_or(0);
  return loaded.has_value();
}

}  // namespace viommu::walkers
