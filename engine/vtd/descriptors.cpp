// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/vtd/descriptors.hpp"

#include <algorithm>
#include <bit>
#include <optional>

#include "engine/base/bits.hpp"
#include "engine/vtd/descriptor_layouts.hpp"

namespace viommu::vtd {
namespace {

enum class Kind : unsigned {
  context = 1,
  iotlb = 2,
  device_tlb = 3,
  interrupt_entry = 4,
  wait = 5,
  pasid_iotlb = 6,
  pasid_cache = 7,
  pasid_device_tlb = 8,
  page_group = 9,
  host_permission = 10,
};

constexpr Descriptor reserved_field = QueueErrorCode::reserved_field;

/// The type, from both its pieces: bits 11:9 count as much as bits 3:0.
constexpr Kind kind_of(std::uint64_t first_word) noexcept {
  const DescriptorHead head{first_word};
  return static_cast<Kind>(get(head, descriptor_head::type_high) * 16 + get(head, descriptor_head::type_low));
}

/// Whether there is such a type on this unit in this table mode.
constexpr bool exists(Kind kind, TableMode mode, const Capabilities& capabilities) noexcept {
  const bool wide = mode == TableMode::scalable || mode == TableMode::abort_dma;
  switch (kind) {
    case Kind::context:
    case Kind::iotlb:
    case Kind::wait:             return true;
    case Kind::device_tlb:       return capabilities.device_tlb;
    case Kind::interrupt_entry:  return capabilities.interrupt_remapping;
    case Kind::pasid_iotlb:
    case Kind::pasid_cache:      return wide;
    case Kind::pasid_device_tlb: return wide && capabilities.device_tlb;
    case Kind::page_group:       return wide && capabilities.page_requests;
    case Kind::host_permission:  return wide && capabilities.host_permission_tables;
  }
  return false;
}

template <class Layout, class... Types>
constexpr bool breaks(std::uint64_t word, const Rows<Layout, Types...>& rows) noexcept {
  return (word & reserved_mask(rows)) != 0;
}

DomainId implemented(DomainId domain, const Capabilities& capabilities) noexcept {
  return {static_cast<std::uint16_t>(domain.value & low_bits(capabilities.domain_id_bits))};
}

Descriptor decode_context(const RawDescriptor& raw, const Capabilities& capabilities) noexcept {
  namespace d = context_descriptor;
  if (breaks(raw.words[0], d::rows) || raw.words[1] != 0) return reserved_field;
  const ContextDescriptor word{raw.words[0]};
  const ContextGranularity granularity = get(word, d::granularity);
  if (granularity == ContextGranularity::none) return reserved_field;
  return ContextInvalidation{granularity, implemented(get(word, d::domain), capabilities), get(word, d::source),
                             get(word, d::function_mask)};
}

Descriptor decode_iotlb(const RawDescriptor& raw, const Capabilities& capabilities) noexcept {
  namespace l = iotlb_descriptor_low;
  namespace h = iotlb_descriptor_high;
  if (breaks(raw.words[0], l::rows) || breaks(raw.words[1], h::rows)) return reserved_field;
  const IotlbDescriptorLow low{raw.words[0]};
  const IotlbDescriptorHigh high{raw.words[1]};
  IotlbInvalidation result;
  result.granularity = get(low, l::granularity);
  result.domain = implemented(get(low, l::domain), capabilities);
  result.drain_reads = get(low, l::drain_reads);
  result.drain_writes = get(low, l::drain_writes);
  if (result.granularity == IotlbGranularity::none) return reserved_field;
  if (result.granularity != IotlbGranularity::page) return result;
  const unsigned address_mask = get(high, h::address_mask);
  if (!capabilities.page_selective || address_mask > capabilities.max_address_mask) return reserved_field;
  result.pages = page_block(get(high, h::address), address_mask, capabilities.input_address_bits);
  result.keep_structures = get(high, h::hint);
  return result;
}

/// "Device-TLB Invalidate Descriptor", S: k one bits from bit 12 up say 2^(k+1) pages.
IovaRange device_pages(Iova address, bool has_size) noexcept {
  if (!has_size) return page_block(address, 0, 64);
  const auto ones = static_cast<unsigned>(std::countr_one(address.value | low_bits(page_shift))) - page_shift;
  return page_block(address, ones + 1, 64);
}

Descriptor decode_device_tlb(const RawDescriptor& raw, const Capabilities& capabilities) noexcept {
  namespace l = device_tlb_descriptor_low;
  namespace h = device_tlb_descriptor_high;
  if (breaks(raw.words[0], l::rows) || breaks(raw.words[1], h::rows)) return reserved_field;
  const DeviceTlbDescriptorLow low{raw.words[0]};
  const DeviceTlbDescriptorHigh high{raw.words[1]};
  const unsigned function = get(low, l::function_high) * 16 + get(low, l::function_low);
  if (!capabilities.device_tlb_throttle && function != 0) return reserved_field;
  return DeviceTlbInvalidation{get(low, l::source),
                               {static_cast<std::uint16_t>(function)},
                               get(low, l::max_pending),
                               device_pages(get(high, h::address), get(high, h::size))};
}

Descriptor decode_interrupt_entry(const RawDescriptor& raw, const Capabilities& capabilities) noexcept {
  namespace d = interrupt_entry_descriptor;
  if (breaks(raw.words[0], d::rows) || raw.words[1] != 0) return reserved_field;
  const InterruptEntryDescriptor word{raw.words[0]};
  constexpr auto every_index = static_cast<std::uint16_t>(low_bits(16));
  if (!get(word, d::by_index)) return InterruptEntryInvalidation{true, 0, every_index};
  const unsigned index_mask = get(word, d::index_mask);
  if (index_mask > capabilities.max_index_mask) return reserved_field;
  const std::uint64_t inside = low_bits(index_mask) & every_index;
  const std::uint64_t first = get(word, d::index) & ~inside;
  return InterruptEntryInvalidation{false, static_cast<std::uint16_t>(first),
                                    static_cast<std::uint16_t>(first | inside)};
}

Descriptor decode_wait(const RawDescriptor& raw, const Capabilities& capabilities) noexcept {
  namespace l = wait_descriptor_low;
  namespace h = wait_descriptor_high;
  if (breaks(raw.words[0], l::rows) || breaks(raw.words[1], h::rows)) return reserved_field;
  const WaitDescriptorLow low{raw.words[0]};
  if (get(low, l::page_drain) && !capabilities.page_request_drain) return reserved_field;
  const Gpa status = get(WaitDescriptorHigh{raw.words[1]}, h::status_address);
  return Wait{get(low, l::interrupt),   get(low, l::status_write),
              get(low, l::fence),       get(low, l::page_drain),
              get(low, l::status_data), {status.value & low_bits(capabilities.host_address_width)}};
}

Descriptor decode_pasid_iotlb(const RawDescriptor& raw, const Capabilities& capabilities) noexcept {
  namespace l = pasid_iotlb_descriptor_low;
  namespace h = pasid_iotlb_descriptor_high;
  if (breaks(raw.words[0], l::rows) || breaks(raw.words[1], h::rows)) return reserved_field;
  const PasidIotlbDescriptorLow low{raw.words[0]};
  const PasidIotlbDescriptorHigh high{raw.words[1]};
  PasidIotlbInvalidation result;
  result.granularity = get(low, l::granularity);
  result.domain = implemented(get(low, l::domain), capabilities);
  result.pasid = get(low, l::pasid);
  if (result.granularity == PasidIotlbGranularity::pasid) return result;
  if (result.granularity != PasidIotlbGranularity::page) return reserved_field;
  result.pages =
      canonical_block(get(high, h::address), get(high, h::address_mask), capabilities.first_stage_address_bits);
  result.keep_structures = get(high, h::hint);
  return result;
}

Descriptor decode_pasid_cache(const RawDescriptor& raw, const Capabilities& capabilities) noexcept {
  namespace d = pasid_cache_descriptor;
  if (breaks(raw.words[0], d::rows) || raw.words[1] != 0) return reserved_field;
  const PasidCacheDescriptor word{raw.words[0]};
  const PasidCacheGranularity granularity = get(word, d::granularity);
  const bool known = granularity == PasidCacheGranularity::domain || granularity == PasidCacheGranularity::pasid ||
                     granularity == PasidCacheGranularity::global;
  if (!known) return reserved_field;
  return PasidCacheInvalidation{granularity, implemented(get(word, d::domain), capabilities), get(word, d::pasid)};
}

Descriptor decode_pasid_device_tlb(const RawDescriptor& raw, const Capabilities& capabilities) noexcept {
  namespace l = pasid_device_tlb_descriptor_low;
  namespace h = pasid_device_tlb_descriptor_high;
  if (breaks(raw.words[0], l::rows) || breaks(raw.words[1], h::rows)) return reserved_field;
  const PasidDeviceTlbDescriptorLow low{raw.words[0]};
  const PasidDeviceTlbDescriptorHigh high{raw.words[1]};
  const unsigned function = get(low, l::function_high) * 16 + get(low, l::function_low);
  if (!capabilities.device_tlb_throttle && function != 0) return reserved_field;
  return PasidDeviceTlbInvalidation{get(low, l::source),
                                    {static_cast<std::uint16_t>(function)},
                                    get(low, l::max_pending),
                                    get(high, h::global) ? std::nullopt : std::optional{get(low, l::pasid)},
                                    device_pages(get(high, h::address), get(high, h::size))};
}

Descriptor decode_page_group(const RawDescriptor& raw) noexcept {
  namespace l = page_group_descriptor_low;
  namespace h = page_group_descriptor_high;
  if (breaks(raw.words[0], l::rows) || breaks(raw.words[1], h::rows)) return reserved_field;
  const PageGroupDescriptorLow low{raw.words[0]};
  return PageGroupResponse{get(low, l::source),
                           get(low, l::pasid_present) ? std::optional{get(low, l::pasid)} : std::nullopt,
                           get(PageGroupDescriptorHigh{raw.words[1]}, h::group), get(low, l::response)};
}

Descriptor decode_host_permission(const RawDescriptor& raw, const Capabilities& capabilities) noexcept {
  namespace l = host_permission_descriptor_low;
  namespace h = host_permission_descriptor_high;
  if (breaks(raw.words[0], l::rows) || breaks(raw.words[1], h::rows)) return reserved_field;
  const HostPermissionDescriptorLow low{raw.words[0]};
  const HostPermissionDescriptorHigh high{raw.words[1]};
  HostPermissionInvalidation result;
  result.granularity = get(low, l::granularity);
  result.domain = implemented(get(low, l::domain), capabilities);
  if (result.granularity == HostPermissionGranularity::none) return reserved_field;
  if (result.granularity != HostPermissionGranularity::page) return result;
  const IovaRange block = page_block({get(high, h::address).value}, get(high, h::address_mask), 64);
  result.pages = {{block.first.value}, {block.last.value}};
  result.hint = get(high, h::hint);
  return result;
}

}  // namespace

bool decode_pages(const RawDescriptor& raw, const Capabilities& capabilities, caches::PageScope& pages) noexcept {
  namespace l = iotlb_descriptor_low;
  namespace h = iotlb_descriptor_high;
  // All that has to have one value, in one compare: type, granularity and the reserved bits.
  constexpr std::uint64_t fixed =
      mask_of(l::type_low) | mask_of(l::type_high) | mask_of(l::granularity) | reserved_mask(l::rows);
  constexpr std::uint64_t page_selective =
      with(with(IotlbDescriptorLow{}, l::type_low, static_cast<unsigned>(Kind::iotlb)), l::granularity,
           IotlbGranularity::page)
          .raw;
  if ((raw.words[0] & fixed) != page_selective || breaks(raw.words[1], h::rows) || (raw.words[2] | raw.words[3]) != 0)
    return false;
  const IotlbDescriptorHigh high{raw.words[1]};
  const unsigned address_mask = get(high, h::address_mask);
  if (!capabilities.page_selective || address_mask > capabilities.max_address_mask) return false;
  pages.range = page_block(get(high, h::address), address_mask, capabilities.input_address_bits);
  pages.domain = implemented(get(IotlbDescriptorLow{raw.words[0]}, l::domain), capabilities);
  pages.keep_structures = get(high, h::hint);
  return true;
}

Descriptor decode_descriptor(const RawDescriptor& raw, TableMode mode, const Capabilities& capabilities) noexcept {
  const Kind kind = kind_of(raw.words[0]);
  if (!exists(kind, mode, capabilities)) return QueueErrorCode::invalid_type;
  // No descriptor reaches beyond its second word; a queue of 128-bit ones has no more.
  if (raw.words[2] != 0 || raw.words[3] != 0) return reserved_field;
  switch (kind) {
    case Kind::context:          return decode_context(raw, capabilities);
    case Kind::iotlb:            return decode_iotlb(raw, capabilities);
    case Kind::device_tlb:       return decode_device_tlb(raw, capabilities);
    case Kind::interrupt_entry:  return decode_interrupt_entry(raw, capabilities);
    case Kind::wait:             return decode_wait(raw, capabilities);
    case Kind::pasid_iotlb:      return decode_pasid_iotlb(raw, capabilities);
    case Kind::pasid_cache:      return decode_pasid_cache(raw, capabilities);
    case Kind::pasid_device_tlb: return decode_pasid_device_tlb(raw, capabilities);
    case Kind::page_group:       return decode_page_group(raw);
    case Kind::host_permission:  return decode_host_permission(raw, capabilities);
  }
  return QueueErrorCode::invalid_type;
}

}  // namespace viommu::vtd
