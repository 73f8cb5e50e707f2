// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/vtd/descriptors.hpp"

#include <algorithm>
#include <bit>

#include "engine/base/bits.hpp"
#include "engine/vtd/descriptor_layouts.hpp"

namespace viommu::vtd {
namespace {

enum class Kind : unsigned { context = 1, iotlb = 2, device_tlb = 3, interrupt_entry = 4, wait = 5 };

constexpr Descriptor reserved_field = QueueErrorCode::reserved_field;

/// The type, from both its pieces: bits 11:9 count as much as bits 3:0.
constexpr unsigned kind_of(std::uint64_t first_word) noexcept {
  const DescriptorHead head{first_word};
  return get(head, descriptor_head::type_high) * 16 + get(head, descriptor_head::type_low);
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
  if (!capabilities.device_tlb) return QueueErrorCode::invalid_type;
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
  if (!capabilities.interrupt_remapping) return QueueErrorCode::invalid_type;
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

Descriptor decode_descriptor(const RawDescriptor& raw, const Capabilities& capabilities) noexcept {
  const unsigned kind = kind_of(raw.words[0]);
  constexpr auto first_kind = static_cast<unsigned>(Kind::context);
  constexpr auto last_kind = static_cast<unsigned>(Kind::wait);
  if (kind < first_kind || kind > last_kind) return QueueErrorCode::invalid_type;
  Descriptor decoded;
  switch (static_cast<Kind>(kind)) {
    case Kind::context:         decoded = decode_context(raw, capabilities); break;
    case Kind::iotlb:           decoded = decode_iotlb(raw, capabilities); break;
    case Kind::device_tlb:      decoded = decode_device_tlb(raw, capabilities); break;
    case Kind::interrupt_entry: decoded = decode_interrupt_entry(raw, capabilities); break;
    case Kind::wait:            decoded = decode_wait(raw, capabilities); break;
  }
  // That a type exists at all is judged first; then a 128-bit descriptor in a slot of 256 bits is padded with zeros.
  const auto* failure = std::get_if<QueueErrorCode>(&decoded);
  const bool exists = failure == nullptr || *failure != QueueErrorCode::invalid_type;
  return exists && (raw.words[2] != 0 || raw.words[3] != 0) ? reserved_field : decoded;
}

}  // namespace viommu::vtd
