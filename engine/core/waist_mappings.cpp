// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Misses of address spaces whose mappings a front end keeps: a look into its store instead of a walk.
//
// The order that keeps late fills out is that of a walk: versions are sampled first (F0), the store is looked at behind
// that, and whoever removes a mapping drops its pages afterwards (I1).
#include <algorithm>
#include <bit>

#include "engine/base/tracepoint.hpp"
#include "engine/core/mapping_store.hpp"
#include "engine/core/waist.hpp"

namespace viommu::core {
namespace {

using caches::PageSize;

/// log2 of the largest aligned block around the address in which every address of the mapping translates alike.
[[nodiscard]] unsigned block_shift_of(const StoredMapping& mapping, Iova iova) noexcept {
  // A block of 2^k reaches across a border if the address and what lies behind the border agree from bit k on.
  const auto up_to = [&](std::uint64_t behind) {
    return static_cast<unsigned>(std::bit_width(iova.value ^ behind)) - 1;
  };
  constexpr unsigned all = 64;
  const unsigned below = mapping.range.first.value == 0 ? all : up_to(mapping.range.first.value - 1);
  const unsigned above = mapping.range.last.value == ~std::uint64_t{0} ? all : up_to(mapping.range.last.value + 1);
  const auto alike = static_cast<unsigned>(std::countr_zero(mapping.gpa.value - mapping.range.first.value));
  return std::min({below, above, alike});
}

/// What of the mapping an entry of the IOTLB can hold. @return false: nothing, its pages are no pages
[[nodiscard]] bool page_of(const StoredMapping& mapping, Iova iova, unsigned shift, bool neighbours,
                           caches::CachedPage& page) noexcept {
  if (shift < page_shift) return false;
  page.rights = mapping.rights;
  page.size = PageSize::kib4;
  for (const PageSize size : {PageSize::gib1, PageSize::mib2, PageSize::kib32})
    if (shift >= shift_of(size)) {
      page.size = size;
      break;
    }
  if (page.size == PageSize::gib1 || page.size == PageSize::mib2) {
    page.frame = {mapping.gpa_of(iova).value & ~mask_of(page.size)};
    return true;
  }
  page.frame = {mapping.gpa_of(iova).value & ~low_bits(page_shift)};
  if (page.size == PageSize::kib4 && !neighbours) return true;
  // The pages of the block that the mapping covers whole; the one that was asked for is among them.
  const Iova block{iova.value & ~low_bits(caches::block_shift)};
  for (unsigned i = 0; i < caches::pages_per_block; ++i) {
    const Iova first = block + (std::uint64_t{i} << page_shift);
    const bool whole = first >= mapping.range.first && first + low_bits(page_shift) <= mapping.range.last;
    page.pages = static_cast<std::uint8_t>(page.pages | (whole ? 1U << i : 0U));
  }
  page.size = std::popcount(page.pages) > 1 ? PageSize::kib32 : PageSize::kib4;
  if (page.size == PageSize::kib4) page.pages = 0;
  return true;
}

}  // namespace

bool Waist::look_in_store(Reader& reader, DomainId domain, Iova iova, Rights asked, Translation& found,
                          caches::CachedPage& page) const noexcept {
  reader.count(Count::walks, caches::Use::walks);
  StoredMapping mapping;
  unsigned shift = 0;
  if (!options_.store.find(options_.store.opaque, domain, iova, mapping)) {
    found.set(Outcome::absent, {});
  } else if (!grants(mapping.rights, asked)) {
    found.set(Outcome::denied, mapping.rights);
  } else {
    shift = block_shift_of(mapping, iova);
    found.set(Outcome::translated, mapping.rights, mapping.gpa_of(iova), low_bits(shift));
  }
  tracepoint::walk_end(iova.value, static_cast<std::uint32_t>(found.outcome), found.gpa.value, 0);
  if (found.outcome != Outcome::translated) return false;
  reader.counters.add(Count::answers_with_walk);
  mark_device(found);
  // An entry has no room for page numbers beyond these widths; and messages are told from memory by those who ask.
  constexpr std::uint64_t frames = low_bits(52);
  const bool has_room = iova.value <= low_bits(57) && (found.gpa.value | found.mask) <= frames;
  return has_room && !interrupt_window.contains(iova.value) &&
         page_of(mapping, iova, shift, options_.fill != FillMode::exact, page);
}

}  // namespace viommu::core
