// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// One mapping of a domain, and the word in which the store keeps where it leads.
#pragma once

#include "engine/base/access.hpp"
#include "engine/base/address.hpp"
#include "engine/base/bits.hpp"

#include <cstdint>

namespace viommu::virtio_iommu {

/// What a MAP request asks for. Any granule down to one byte, and up to all 2^64 of them: no size is ever computed.
struct Mapping {
  IovaRange range;
  Gpa gpa;  ///< of range.first
  Rights rights;
  bool mmio = false;

  friend constexpr bool operator==(const Mapping&, const Mapping&) = default;
};

/// Where a mapping, or one page of it, leads. Eight bytes, so that it comes and goes in one store.
struct MappingWord {
  std::uint64_t raw = 0;
};
namespace mapping_word {
inline constexpr Field<MappingWord, bool> live{"live", {0, 0}};
inline constexpr Field<MappingWord, bool> read{"read", {1, 1}};
inline constexpr Field<MappingWord, bool> write{"write", {2, 2}};
inline constexpr Field<MappingWord, bool> mmio{"mmio", {3, 3}};
inline constexpr Field<MappingWord, bool> begins{"begins", {4, 4}};        // the mapping's first page
inline constexpr Field<MappingWord, bool> ends{"ends", {5, 5}};            // its last one
inline constexpr Field<MappingWord, bool> more_bits{"more_bits", {6, 6}};  // the address has bits below a page
inline constexpr Field<MappingWord, unsigned> unused{"unused", {11, 7}};   // of a word without a value
inline constexpr Field<MappingWord, Gpa> page{"page", {63, 12}};
inline constexpr auto rows = layout(live, read, write, mmio, begins, ends, more_bits, unused, page);
}  // namespace mapping_word

/// The word of a mapping that leads to `gpa`; its bits below a page are left out.
[[nodiscard]] constexpr MappingWord word_of(const Mapping& mapping, Gpa gpa) noexcept {
  MappingWord word = with(MappingWord{}, mapping_word::live, true);
  word = with(word, mapping_word::read, mapping.rights.read());
  word = with(word, mapping_word::write, mapping.rights.write());
  word = with(word, mapping_word::mmio, mapping.mmio);
  word = with(word, mapping_word::more_bits, (gpa.value & low_bits(page_shift)) != 0);
  return with(word, mapping_word::page, gpa);
}

[[nodiscard]] constexpr Mapping mapping_of(IovaRange range, Gpa gpa, MappingWord word) noexcept {
  return {range, gpa, Rights{get(word, mapping_word::read), get(word, mapping_word::write)},
          get(word, mapping_word::mmio)};
}

}  // namespace viommu::virtio_iommu
