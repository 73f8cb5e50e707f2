// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/vtd/pasid_walk.hpp"

#include <array>
#include <bit>

#include "engine/base/bits.hpp"
#include "engine/vtd/table_layouts.hpp"

namespace viommu::vtd {
namespace {

/// The bits of these fields where the unit does not have what they belong to.
template <class Layout, class... Types>
[[nodiscard]] constexpr std::uint64_t unless(bool offered, const Field<Layout, Types>&... fields) noexcept {
  return offered ? 0 : mask_of(fields...);
}

[[nodiscard]] bool uses_first_stage(PasidTranslation translation) noexcept {
  return translation == PasidTranslation::first_stage || translation == PasidTranslation::nested;
}
[[nodiscard]] bool uses_second_stage(PasidTranslation translation) noexcept {
  return translation == PasidTranslation::second_stage || translation == PasidTranslation::nested;
}

/// One walk through the tables; every decision is taken on the one copy that was loaded.
class Walk {
 public:
  Walk(const GuestMemory& memory, const Capabilities& capabilities, const PasidRequest& request) noexcept
      : memory_{memory},
        capabilities_{capabilities},
        request_{request},
        beyond_{~low_bits(capabilities.host_address_width)} {}

  [[nodiscard]] PasidWalk from(Gpa root_table) noexcept {
    PasidWalk walk;
    Gpa table;
    walk.fault = read_root(root_table, table);
    if (walk.fault == FaultReason::none) walk.fault = read_context(table, walk);
    if (request_.type == AddressType::translated) return walk;
    if (walk.fault == FaultReason::none) walk.fault = read_directory(walk);
    if (walk.fault == FaultReason::none) walk.fault = read_entry(walk);
    return walk;
  }

 private:
  [[nodiscard]] FaultReason read_root(Gpa root_table, Gpa& table) const noexcept {
    const std::optional root = memory_.load_u128(root_table + request_.source.bus() * std::uint64_t{root_entry_bytes});
    if (!root) return FaultReason::scalable_root_unreadable;
    const ScalableRootHalf half{request_.source.devfn() < half_of_bus ? root->low : root->high};
    if (!get(half, scalable_root::present)) return FaultReason::scalable_root_not_present;
    if ((half.raw & reserved_mask(scalable_root::rows, capabilities_.host_address_width)) != 0)
      return FaultReason::scalable_root_reserved;
    table = get(half, scalable_root::context_table);
    return FaultReason::none;
  }

  [[nodiscard]] FaultReason read_context(Gpa table, PasidWalk& walk) noexcept {
    const Gpa entry = table + request_.source.devfn() % half_of_bus * std::uint64_t{scalable_context_entry_bytes};
    const std::optional first = memory_.load_u128(entry);
    if (!first) return FaultReason::scalable_context_unreadable;
    const ScalableContextLow low{first->low};
    const ScalableContextHigh high{first->high};
    walk.fault_disable = get(low, scalable_context_low::fault_disable);  // also of an entry that is not present
    if (!get(low, scalable_context_low::present)) return FaultReason::scalable_context_not_present;
    const std::optional second = memory_.load_u128(entry + 16);
    if (!second) return FaultReason::scalable_context_unreadable;
    if (((low.raw & context_low_reserved()) | (high.raw & context_high_reserved()) | second->low | second->high) != 0)
      return FaultReason::scalable_context_reserved;
    directory_ = get(low, scalable_context_low::directory);
    const Pasid rid_pasid = capabilities_.rid_pasid ? get(high, scalable_context_high::rid_pasid) : Pasid{};
    const std::uint32_t last = last_pasid(get(low, scalable_context_low::directory_size));
    const bool pasids = get(low, scalable_context_low::pasids);

    const bool requests_without_device_tlb =
        get(low, scalable_context_low::page_requests) && !get(low, scalable_context_low::device_tlb);
    const bool translated = get(low, scalable_context_low::translated);
    // Untranslated and translation requests with a PASID are told that it is blocked.
    const bool told_by_pasid = request_.pasid && !request_.page_request && request_.type != AddressType::translated;
    if (requests_without_device_tlb || rid_pasid.value > last || (translated && !pasids && !told_by_pasid))
      return FaultReason::scalable_context_invalid;
    walk.context.device_tlb = get(low, scalable_context_low::device_tlb);
    if (request_.type != AddressType::untranslated && !walk.context.device_tlb) return FaultReason::device_tlb_blocked;
    if (request_.page_request && !get(low, scalable_context_low::page_requests))
      return FaultReason::page_requests_blocked;
    if (request_.type == AddressType::translated && request_.pasid && !translated)
      return FaultReason::translated_pasid_blocked;
    walk.context.pasid = request_.pasid.value_or(rid_pasid);
    walk.context.privileged = request_.pasid ? request_.privileged : get(high, scalable_context_high::rid_privileged);
    if (!request_.pasid) return FaultReason::none;
    if ((request_.pasid->value & ~low_bits(capabilities_.pasid_bits)) != 0) return FaultReason::pasid_beyond_width;
    if (!pasids) return FaultReason::pasid_blocked;
    if (request_.pasid->value > last) return FaultReason::pasid_beyond_directory;
    if (*request_.pasid == rid_pasid) return FaultReason::pasid_of_requests_without;
    return FaultReason::none;
  }

  [[nodiscard]] FaultReason read_directory(PasidWalk& walk) noexcept {
    const std::optional<std::uint64_t> word = memory_.load_u64(
        directory_ + (walk.context.pasid.value >> entry_index_bits) * std::uint64_t{pasid_directory_entry_bytes});
    if (!word) return FaultReason::pasid_directory_unreadable;
    const PasidDirectoryEntry entry{*word};
    if (get(entry, pasid_directory::fault_disable)) walk.fault_disable = true;
    if (!get(entry, pasid_directory::present)) return FaultReason::pasid_directory_not_present;
    if ((entry.raw & reserved_mask(pasid_directory::rows, capabilities_.host_address_width)) != 0)
      return FaultReason::pasid_directory_reserved;
    table_ = get(entry, pasid_directory::table);
    return FaultReason::none;
  }

  [[nodiscard]] FaultReason read_entry(PasidWalk& walk) const noexcept {
    const Gpa at = table_ + (walk.context.pasid.value & low_bits(entry_index_bits)) * std::uint64_t{pasid_entry_bytes};
    std::array<std::uint64_t, 8> words{};
    for (std::size_t i = 0; i < words.size(); i += 2) {
      const std::optional pair = memory_.load_u128(at + i * 8);
      if (!pair) return FaultReason::pasid_entry_unreadable;
      words[i] = pair->low;
      words[i + 1] = pair->high;
      if (i != 0) continue;
      if (get(PasidEntry0{words[0]}, pasid_entry_0::fault_disable)) walk.fault_disable = true;
      if (!get(PasidEntry0{words[0]}, pasid_entry_0::present)) return FaultReason::pasid_entry_not_present;
    }
    const PasidEntry0 w0{words[0]};
    const PasidEntry1 w1{words[1]};
    const PasidEntry2 w2{words[2]};
    const PasidTranslation translation = get(w0, pasid_entry_0::translation);
    std::uint64_t reserved =
        (w0.raw & reserved_0(translation)) | (w1.raw & reserved_1(translation)) | (w2.raw & reserved_2(translation));
    for (std::size_t i = 3; i < words.size(); ++i) reserved |= words[i];
    // With caching mode, domain 0 is the tag of entries that were not present when they were cached.
    if (reserved != 0 || (capabilities_.caching_mode && get(w1, pasid_entry_1::domain).value == 0))
      return FaultReason::pasid_entry_reserved;
    if (!offers(translation)) return FaultReason::pasid_entry_invalid;

    PasidContext& context = walk.context;
    context.translation = translation;
    context.domain = get(w1, pasid_entry_1::domain);
    context.walk_snooped = get(w1, pasid_entry_1::walk_snooped);
    context.page_snooped = get(w1, pasid_entry_1::page_snooped);
    if (uses_second_stage(translation)) {
      context.width = get(w0, pasid_entry_0::width);
      context.second_root = get(w0, pasid_entry_0::second_root);
      context.second_dirty = get(w0, pasid_entry_0::second_dirty);
      if (!capabilities_.supports_width(context.width)) return FaultReason::pasid_entry_invalid;
    }
    if (uses_first_stage(translation)) {
      const unsigned mode = get(w2, pasid_entry_2::paging_mode);
      context.five_levels = mode == 1;
      context.first_root = get(w2, pasid_entry_2::first_root);
      context.write_protect = get(w2, pasid_entry_2::write_protect);
      context.extended_accessed = get(w2, pasid_entry_2::extended_accessed);
      if (mode > 1 || (context.five_levels && capabilities_.first_stage_address_bits != address_bits_of(3)))
        return FaultReason::pasid_entry_invalid;
      if (translation == PasidTranslation::nested &&
          context.first_root.value > capabilities_.last_input_address(context.width).value)
        return FaultReason::pasid_entry_invalid;
    }
    if (request_.page_request) return FaultReason::none;  // what for is the guest's to judge
    if (request_.pasid && request_.execute) return FaultReason::execute_blocked;
    if (context.privileged && !get(w2, pasid_entry_2::supervisor)) return FaultReason::supervisor_blocked;
    return FaultReason::none;
  }

  [[nodiscard]] bool offers(PasidTranslation translation) const noexcept {
    switch (translation) {
      case PasidTranslation::first_stage:  return capabilities_.first_stage;
      case PasidTranslation::second_stage: return capabilities_.second_stage;
      case PasidTranslation::nested:       return capabilities_.nested;
      case PasidTranslation::pass_through: return capabilities_.pass_through;
    }
    return false;
  }

  [[nodiscard]] std::uint64_t context_low_reserved() const noexcept {
    using namespace scalable_context_low;
    return reserved_mask(rows, capabilities_.host_address_width) | unless(capabilities_.device_tlb, device_tlb) |
           unless(capabilities_.pasid, pasids) | unless(capabilities_.page_requests, page_requests) |
           mask_of(host_permission) | unless(capabilities_.translated_pasids, translated);
  }
  [[nodiscard]] std::uint64_t context_high_reserved() const noexcept {
    using namespace scalable_context_high;
    return reserved_mask(rows) | unless(capabilities_.rid_pasid, rid_pasid) |
           unless(capabilities_.rid_privileged, rid_privileged);
  }
  // Fields that only some kinds of translation use are checked for those alone: Linux writes AW whatever the kind is,
  // and on units without second stage too. What belongs to a stage that is not offered is reserved before the kind is
  // looked at. FSPM has no kind that ignores it.
  [[nodiscard]] std::uint64_t reserved_0(PasidTranslation translation) const noexcept {
    using namespace pasid_entry_0;
    std::uint64_t mask = reserved_mask(rows);
    if (uses_second_stage(translation))
      mask |= unless(capabilities_.second_stage, width, second_root) |
              unless(capabilities_.second_stage && capabilities_.second_dirty, second_dirty) |
              (mask_of(second_root) & beyond_);
    return mask;
  }
  [[nodiscard]] std::uint64_t reserved_1(PasidTranslation translation) const noexcept {
    using namespace pasid_entry_1;
    std::uint64_t mask = reserved_mask(rows) | (mask_of(domain) & ~low_bits(capabilities_.domain_id_bits)) |
                         unless(capabilities_.walk_snoop, walk_snooped) |
                         unless(capabilities_.snoop_control, page_snooped) |
                         unless(capabilities_.memory_types, cache_disable, attributes);
    if (uses_second_stage(translation)) mask |= unless(capabilities_.memory_types, second_types);
    return mask;
  }
  [[nodiscard]] std::uint64_t reserved_2(PasidTranslation translation) const noexcept {
    using namespace pasid_entry_2;
    std::uint64_t mask = reserved_mask(rows) | unless(capabilities_.supervisor, supervisor) |
                         unless(capabilities_.first_stage, paging_mode);
    if (uses_first_stage(translation))
      mask |= unless(capabilities_.first_stage, write_protect, first_root) |
              unless(capabilities_.extended_accessed, extended_accessed) | (mask_of(first_root) & beyond_);
    return mask;
  }

  /// A directory of 2^(PDTS + 7) entries of 64 PASIDs.
  [[nodiscard]] static std::uint32_t last_pasid(unsigned directory_size) noexcept {
    return static_cast<std::uint32_t>(low_bits(directory_size + 7 + entry_index_bits));
  }

  static constexpr unsigned half_of_bus = 128;
  static constexpr unsigned entry_index_bits = 6;

  const GuestMemory& memory_;
  const Capabilities& capabilities_;
  const PasidRequest& request_;
  const std::uint64_t beyond_;  ///< address bits that no guest-physical address has
  Gpa directory_;
  Gpa table_;
};

}  // namespace

PasidWalk walk_pasid(const GuestMemory& memory, const Capabilities& capabilities, Gpa root_table,
                     const PasidRequest& request) noexcept {
  return Walk{memory, capabilities, request}.from(root_table);
}

caches::AddressSpaceKey key_of(const PasidContext& context, const Capabilities& capabilities) noexcept {
  using caches::Interpretation;
  constexpr auto top_level = [](unsigned levels) { return static_cast<std::uint8_t>(levels - 1); };
  caches::AddressSpaceKey key;
  key.domain = context.domain;
  key.pasid = context.pasid;
  const bool first = uses_first_stage(context.translation);
  const bool second = uses_second_stage(context.translation);
  if (first) {
    constexpr unsigned bits_per_level = 9;
    const unsigned levels = context.five_levels ? 5 : 4;
    key.interpretation = second ? Interpretation::nested : Interpretation::first_stage;
    key.top_level = top_level(levels);
    key.root = context.first_root;
    key.last = {low_bits(page_shift + bits_per_level * levels - 1)};
    key.flags.privileged = context.privileged;
    key.flags.write_protect = context.write_protect && context.privileged;  // counts for nobody else
    key.flags.extended_accessed = context.extended_accessed;
  }
  if (second) {
    (first ? key.second_top_level : key.top_level) = top_level(levels_of(context.width));
    (first ? key.second_root : key.root) = context.second_root;
    const Iova last = capabilities.last_input_address(context.width);
    if (first)
      key.second_width = static_cast<std::uint8_t>(std::bit_width(last.value));
    else
      key.last = last;
    key.flags.second_flags = context.second_dirty;
  }
  if (first || key.flags.second_flags) key.flags.snooped = context.walk_snooped;
  if (!first && !second) {
    key.interpretation = Interpretation::pass_through;
    key.last = {low_bits(capabilities.host_address_width)};
  }
  return key;
}

}  // namespace viommu::vtd
