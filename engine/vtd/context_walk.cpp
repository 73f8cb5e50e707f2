// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/vtd/context_walk.hpp"

#include <optional>

#include "engine/base/bits.hpp"
#include "engine/vtd/table_layouts.hpp"

namespace viommu::vtd {
namespace {

[[nodiscard]] bool has_reserved_bits(const Capabilities& capabilities, ContextLow low, ContextHigh high) noexcept {
  const TranslationType type = get(low, context_low::type);
  const auto low_mask = context_low_reserved(capabilities.host_address_width, type);
  const auto high_mask = context_high_reserved(capabilities.domain_id_bits);
  if ((low.raw & low_mask.raw) != 0 || (high.raw & high_mask.raw) != 0) return true;
  // With caching mode, domain 0 is the tag of entries that were not present when they were cached.
  return capabilities.caching_mode && get(high, context_high::domain).value == 0;
}

[[nodiscard]] bool type_supported(const Capabilities& capabilities, TranslationType type) noexcept {
  switch (type) {
    case TranslationType::untranslated_only: return true;
    case TranslationType::with_device_tlb:   return capabilities.device_tlb;
    case TranslationType::pass_through:      return capabilities.pass_through;
    case TranslationType::reserved:          return false;
  }
  return false;
}

}  // namespace

ContextWalk walk_context(const GuestMemory& memory, const Capabilities& capabilities, Gpa root_table,
                         SourceId source) noexcept {
  const std::optional root = memory.load_u128(root_table + source.bus() * std::uint64_t{root_entry_bytes});
  if (!root) return {FaultReason::root_unreadable};
  const RootLow root_entry{root->low};
  if (!get(root_entry, root_low::present)) return {FaultReason::root_not_present};
  if ((root->low & root_low_reserved(capabilities.host_address_width).raw) != 0 || root->high != 0)
    return {FaultReason::root_reserved};

  const Gpa table = get(root_entry, root_low::context_table);
  const std::optional context = memory.load_u128(table + source.devfn() * std::uint64_t{context_entry_bytes});
  if (!context) return {FaultReason::context_unreadable};
  const ContextLow low{context->low};
  const ContextHigh high{context->high};
  const bool fault_disable = get(low, context_low::fault_disable);  // honoured even when the entry is not present
  if (!get(low, context_low::present)) return {FaultReason::context_not_present, fault_disable};
  if (has_reserved_bits(capabilities, low, high)) return {FaultReason::context_reserved, fault_disable};

  const TranslationType type = get(low, context_low::type);
  const unsigned width = get(high, context_high::width);
  const bool pass_through = type == TranslationType::pass_through;
  const bool width_fits = pass_through ? width == capabilities.largest_width : capabilities.supports_width(width);
  if (!width_fits || !type_supported(capabilities, type)) return {FaultReason::context_invalid, fault_disable};

  caches::AddressSpaceKey key;
  key.domain = get(high, context_high::domain);
  if (pass_through) {
    key.interpretation = caches::Interpretation::pass_through;
    key.last = {low_bits(capabilities.host_address_width)};
  } else {
    key.top_level = static_cast<std::uint8_t>(levels_of(width) - 1);
    key.root = get(low, context_low::root);
    key.last = capabilities.last_input_address(width);
  }
  return {FaultReason::none, fault_disable, key, type == TranslationType::with_device_tlb};
}

}  // namespace viommu::vtd
