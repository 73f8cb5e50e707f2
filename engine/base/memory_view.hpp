// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Guest memory as code sees it that reads many words at once: a few mapped pieces to read from without a call, and
// functions for everything else. Plain data, so that vector code can take it apart.
#pragma once

#include "engine/base/address.hpp"

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace viommu {

inline constexpr std::size_t words_per_line = 8;
inline constexpr std::size_t line_bytes = words_per_line * sizeof(std::uint64_t);

/// One aligned 64-byte line of guest memory. Each word is one atomic load; the words need not be of one instant.
struct alignas(line_bytes) Line {
  std::array<std::uint64_t, words_per_line> words;  // not set to zero: it is about to be loaded
};

/// A mapped piece of guest memory, of whole pages on both sides.
struct MemorySpan {
  Gpa first{};
  std::uint64_t last_offset = 0;  ///< of its last byte
  std::byte* host = nullptr;

  [[nodiscard]] constexpr bool contains(Gpa gpa) const noexcept { return gpa.value - first.value <= last_offset; }
  [[nodiscard]] std::byte* at(Gpa gpa) const noexcept { return host + (gpa.value - first.value); }
};

/// Most pieces a view has: RAM below and above 4 GiB, a ROM or two. More are read through the functions.
inline constexpr std::size_t view_spans = 4;

/// One atomic word of mapped guest memory.
[[nodiscard]] inline std::uint64_t load_mapped_u64(std::byte* host, std::memory_order order) noexcept {
  return std::atomic_ref{*reinterpret_cast<std::uint64_t*>(host)}.load(order);
}

/// Eight of them.
inline void load_mapped_line(std::byte* host, Line& line, std::memory_order order) noexcept {
  for (std::size_t i = 0; i < words_per_line; ++i)
    line.words[i] = load_mapped_u64(host + i * sizeof(std::uint64_t), order);
}

/// Outcome of a compare-exchange on guest memory.
enum class Exchange : std::uint8_t {
  done,
  lost,    ///< another value was there; nothing is written
  failed,  ///< nothing writable is there
};

/// Made by GuestMemory::view() inside a guard, and good until that guard ends. Its loads are relaxed: an address that
/// comes out of one load orders the next one behind it, and who looks at anything else afterwards puts an acquire fence
/// in between.
struct MemoryView {
  std::span<const MemorySpan> spans;  ///< at most `view_spans`, the largest first
  const void* opaque = nullptr;       ///< first argument of the functions
  /// As GuestMemory::load_u64 and load_line, of any address. Nothing, or false: there is no memory, or no line of it.
  std::optional<std::uint64_t> (*any_u64)(const void* opaque, Gpa gpa) noexcept = nullptr;
  bool (*any_line)(const void* opaque, Gpa gpa, Line& line) noexcept = nullptr;
  /// As GuestMemory::compare_exchange_u64, of any address, spans included: a span does not say whether it may be
  /// written, and writes are rare enough for a call. Null: nothing is writable.
  Exchange (*any_exchange)(const void* opaque, Gpa gpa, std::uint64_t& expected,
                           std::uint64_t desired) noexcept = nullptr;

  /// Where `gpa` is mapped; null when that is in no span.
  [[nodiscard]] std::byte* find(Gpa gpa) const noexcept {
    for (const MemorySpan& span : spans)
      if (span.contains(gpa)) return span.at(gpa);
    return nullptr;
  }
  [[nodiscard]] std::optional<std::uint64_t> load_u64(Gpa gpa) const noexcept {
    std::byte* const host = find(gpa);
    return host != nullptr ? load_mapped_u64(host, std::memory_order_relaxed) : any_u64(opaque, gpa);
  }
  /// `expected` receives what was found when the exchange is lost.
  [[nodiscard]] Exchange compare_exchange_u64(Gpa gpa, std::uint64_t& expected, std::uint64_t desired) const noexcept {
    return any_exchange != nullptr ? any_exchange(opaque, gpa, expected, desired) : Exchange::failed;
  }
  /// @return false where no region is; `line` is then as it was
  [[nodiscard]] bool load_line(Gpa gpa, Line& line) const noexcept {
    std::byte* const host = find(gpa);
    if (host == nullptr) return any_line(opaque, gpa, line);
    load_mapped_line(host, line, std::memory_order_relaxed);
    return true;
  }
};

}  // namespace viommu
