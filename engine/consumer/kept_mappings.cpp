// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/consumer/kept_mappings.hpp"

#include <algorithm>

namespace viommu::consumer {
namespace {

constexpr std::uint64_t page_mask = low_bits(page_shift);
constexpr std::uint64_t last_frame_byte = MappedRun::frame_bits | page_mask;

/// Whether a run can say where `size` bytes lead, the last of them at `gpa` + `size` - 1.
[[nodiscard]] bool fits(Gpa gpa, std::uint64_t mask, std::uint64_t size) noexcept {
  return (gpa.value & mask) == 0 && gpa.value <= last_frame_byte && size - 1 <= last_frame_byte - gpa.value;
}

void put(MappedRun run, bool merge, Runs& runs) noexcept {
  if (merge && runs.size() != 0) {
    MappedRun& before = runs[runs.size() - 1];
    if (before.last() + 1 == run.first() && alike(before, run)) {
      const std::uint64_t left_out = before.word & left_out_bit;
      before = MappedRun::of(before.first(), before.pages() + run.pages(), before.frame(), before.rights());
      before.word |= left_out;
      return;
    }
  }
  runs.push(run);
}

}  // namespace

const core::StoredMapping* KeptMappings::first_from(Iova iova) const noexcept {
  const bool known = asked_ && from_ <= iova && (!any_ || iova <= found_.range.last);
  if (!known) {
    any_ = store_ != nullptr && store_->first_from != nullptr &&
           store_->first_from(store_->opaque, domain_, iova, found_) && iova <= found_.range.last;
    from_ = iova;
    asked_ = true;
  }
  return any_ ? &found_ : nullptr;
}

GuestEntry KeptMappings::entry(Iova at, unsigned level) const noexcept {
  const std::uint64_t mask = low_bits(shift_of(level));
  const Iova last{at.value + mask};
  const core::StoredMapping* const mapping = first_from(at);
  if (mapping == nullptr || mapping->range.first > last) return {};
  const bool has_all = mapping->range.first <= at && mapping->range.last >= last;
  if (has_all && mapping->rights.none()) return {};
  constexpr unsigned largest_leaf = 2;
  if (has_all && level <= largest_leaf && fits(mapping->gpa_of(at), mask, mask + 1))
    return {GuestEntry::Kind::leaf,
            {GuestTable::Kind::large_page, mapping->rights.bits(), mapping->gpa_of(at), nullptr}};
  return {GuestEntry::Kind::table, top()};
}

std::uint32_t KeptMappings::scan(Iova slot, unsigned first, unsigned last, bool merge, Runs& runs) const noexcept {
  runs.clear();
  std::uint32_t all = 0;
  const auto address_of = [&](unsigned page) { return slot.value + (std::uint64_t{page} << page_shift); };
  const std::uint64_t end = address_of(last) | page_mask;
  for (unsigned page = first; page <= last;) {  // ends: `page` grows
    const core::StoredMapping* const mapping = first_from({address_of(page)});
    if (mapping == nullptr || mapping->range.first.value > end) break;
    const IovaRange range = mapping->range;
    if (range.first.value > address_of(page))
      page = static_cast<unsigned>((range.first.value - slot.value) >> page_shift);
    const std::uint64_t at = address_of(page);
    const bool whole = range.first.value <= at && range.last.value >= (at | page_mask);
    unsigned pages = 1;
    if (whole) pages = static_cast<unsigned>((std::min(range.last.value, end) - at + 1) >> page_shift);
    const Gpa gpa = mapping->gpa_of({std::max(at, range.first.value)});
    if (!mapping->rights.none()) {
      MappedRun run = MappedRun::of(page, pages, gpa, mapping->rights);
      if (!whole || !fits(gpa, page_mask, std::uint64_t{pages} << page_shift)) run.word |= left_out_bit;
      put(run, merge, runs);
      all += pages;
    }
    page += pages;
  }
  return all;
}

}  // namespace viommu::consumer
