// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/base/guest_bytes.hpp"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <optional>

namespace viommu {
namespace {

template <class Word>
[[nodiscard]] Word word_at(const std::byte* bytes) noexcept {
  Word word = 0;
  std::memcpy(&word, bytes, sizeof word);
  return word;
}

}  // namespace

bool load_bytes(const MemoryView& memory, Gpa gpa, std::span<std::byte> to) noexcept {
  constexpr std::size_t word_bytes = sizeof(std::uint64_t);
  if (to.empty()) return true;
  // All of it in one piece, which is usual, is looked up once: its words are where its bytes are, in whole pages.
  const std::size_t skipped = gpa.value % word_bytes;
  const Gpa first{gpa.value - skipped};
  std::byte* host = nullptr;
  for (const MemorySpan& span : memory.spans)
    if (span.contains(first) && span.contains(gpa + (to.size() - 1))) host = span.at(first);
  const auto load = [&](std::size_t offset) {
    return host != nullptr ? std::optional{load_mapped_u64(host + offset, std::memory_order_relaxed)}
                           : memory.load_u64(first + offset);
  };
  std::size_t done = 0;
  for (std::size_t offset = 0; done < to.size(); offset += word_bytes) {
    const std::optional<std::uint64_t> word = load(offset);
    if (!word) return false;
    const std::size_t before = offset == 0 ? skipped : 0;
    const std::size_t count = std::min(word_bytes - before, to.size() - done);
    if (count == word_bytes) {
      std::memcpy(to.data() + done, &*word, word_bytes);
    } else {
      std::memcpy(to.data() + done, reinterpret_cast<const std::byte*>(&*word) + before, count);
    }
    done += count;
  }
  return true;
}

bool store_bytes(const GuestMemory& memory, Gpa gpa, std::span<const std::byte> from) noexcept {
  for (std::size_t done = 0; done < from.size();) {
    const Gpa at = gpa + done;
    const std::byte* const bytes = from.data() + done;
    const auto fits = [&](std::size_t size) { return at.value % size == 0 && size <= from.size() - done; };
    std::size_t size = sizeof(std::uint64_t);
    while (!fits(size)) size /= 2;  // ends: one byte fits
    const bool stored = size == 8   ? memory.store_u64(at, word_at<std::uint64_t>(bytes))
                        : size == 4 ? memory.store_u32(at, word_at<std::uint32_t>(bytes))
                        : size == 2 ? memory.store_u16(at, word_at<std::uint16_t>(bytes))
                                    : memory.store_u8(at, word_at<std::uint8_t>(bytes));
    if (!stored) return false;
    done += size;
  }
  return true;
}

}  // namespace viommu
