// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Invalidation commands after decoding, the same whether they came through a register or the queue.
#pragma once

#include <cstdint>
#include <optional>

#include "engine/base/address.hpp"
#include "engine/base/ids.hpp"
#include "engine/vtd/descriptor_layouts.hpp"
#include "engine/vtd/register_layouts.hpp"

namespace viommu::vtd {

struct ContextInvalidation {
  ContextGranularity granularity = ContextGranularity::none;
  DomainId domain;             ///< counts for `domain` and `device`
  SourceId source;             ///< counts for `device`
  unsigned function_mask = 0;  ///< FM, 0..3: that many high bits of the function number do not count

  /// The source id bits that must be equal.
  [[nodiscard]] constexpr std::uint16_t source_mask() const noexcept {
    const std::uint64_t any_function = low_bits(3) & ~low_bits(3 - function_mask % 4);
    return static_cast<std::uint16_t>(low_bits(16) & ~any_function);
  }
  [[nodiscard]] constexpr bool names(SourceId other) const noexcept {
    return ((source.value ^ other.value) & source_mask()) == 0;
  }
  friend constexpr bool operator==(const ContextInvalidation&, const ContextInvalidation&) = default;
};

struct IotlbInvalidation {
  IotlbGranularity granularity = IotlbGranularity::none;
  DomainId domain;               ///< counts for `domain` and `page`
  IovaRange pages = all_iovas;   ///< what `page` names, aligned; everything for the other two
  bool keep_structures = false;  ///< IH: cached table entries may stay. Only with `page`
  bool drain_reads = false;
  bool drain_writes = false;

  friend constexpr bool operator==(const IotlbInvalidation&, const IotlbInvalidation&) = default;
};

struct DeviceTlbInvalidation {
  SourceId source;
  SourceId physical_function;  ///< whose throttle counts; zero without ECAP.DIT
  unsigned max_pending = 0;    ///< MIP; 0 stands for 32
  IovaRange pages = all_iovas;

  friend constexpr bool operator==(const DeviceTlbInvalidation&, const DeviceTlbInvalidation&) = default;
};

struct InterruptEntryInvalidation {
  bool global = false;
  std::uint16_t first = 0;  ///< 0 to 65535 when global
  std::uint16_t last = 0;

  friend constexpr bool operator==(const InterruptEntryInvalidation&, const InterruptEntryInvalidation&) = default;
};

struct Wait {
  bool interrupt = false;     ///< IF
  bool status_write = false;  ///< SW: 4 bytes, before the interrupt
  bool fence = false;         ///< FN: nothing behind it starts before it completes
  bool page_drain = false;    ///< PD
  std::uint32_t status_data = 0;
  Gpa status_address;

  friend constexpr bool operator==(const Wait&, const Wait&) = default;
};

/// Translations that were made through PASID entries of `domain` for `pasid`.
struct PasidIotlbInvalidation {
  PasidIotlbGranularity granularity = PasidIotlbGranularity::pasid;
  DomainId domain;
  Pasid pasid;
  IovaRange pages = all_iovas;   ///< what `page` names; everything for the other one
  bool keep_structures = false;  ///< IH: cached table entries may stay. Only with `page`

  friend constexpr bool operator==(const PasidIotlbInvalidation&, const PasidIotlbInvalidation&) = default;
};

struct PasidCacheInvalidation {
  PasidCacheGranularity granularity = PasidCacheGranularity::global;
  DomainId domain;  ///< counts for `domain` and `pasid`
  Pasid pasid;      ///< counts for `pasid`

  friend constexpr bool operator==(const PasidCacheInvalidation&, const PasidCacheInvalidation&) = default;
};

struct PasidDeviceTlbInvalidation {
  SourceId source;
  SourceId physical_function;  ///< as in DeviceTlbInvalidation
  unsigned max_pending = 0;    ///< MIP; 0 stands for 32
  std::optional<Pasid> pasid;  ///< nothing: of every PASID
  IovaRange pages = all_iovas;

  friend constexpr bool operator==(const PasidDeviceTlbInvalidation&, const PasidDeviceTlbInvalidation&) = default;
};

/// The guest's answer to a group of page requests.
struct PageGroupResponse {
  SourceId source;
  std::optional<Pasid> pasid;
  unsigned group = 0;     ///< PRGI
  unsigned response = 0;  ///< RC: 0 success, 1 invalid request, 15 failure

  friend constexpr bool operator==(const PageGroupResponse&, const PageGroupResponse&) = default;
};

struct HostPermissionInvalidation {
  HostPermissionGranularity granularity = HostPermissionGranularity::none;
  DomainId domain;  ///< HPTDID; counts for `domain` and `page`
  GpaRange pages{{0}, {~std::uint64_t{0}}};
  unsigned hint = 0;  ///< IH. Only with `page`

  friend constexpr bool operator==(const HostPermissionInvalidation&, const HostPermissionInvalidation&) = default;
};

/// "Invalidate Address Register", AM: the aligned block of 2^`address_mask` pages around `address`. Address bits from
/// `input_address_bits` on are ignored.
[[nodiscard]] constexpr IovaRange page_block(Iova address, unsigned address_mask,
                                             unsigned input_address_bits) noexcept {
  const std::uint64_t inside = low_bits(page_shift + address_mask);
  const std::uint64_t first = address.value & low_bits(input_address_bits) & ~inside;
  return {{first}, {first | inside}};
}

/// "PASID-based IOTLB Invalidate Descriptor", AM: the same in a first stage of `address_bits`, whose addresses are
/// canonical: cached under their low bits, so the bits above do not count. Any AM is legal. One that leaves no address
/// bit of the narrowest first stage means everything, because the width of the stage that is meant is not known here.
[[nodiscard]] constexpr IovaRange canonical_block(Iova address, unsigned address_mask, unsigned address_bits) noexcept {
  constexpr unsigned narrowest_bits = 48;
  if (page_shift + address_mask >= narrowest_bits) return all_iovas;
  const std::uint64_t low = low_bits(address_bits);
  const bool upper_half = (address.value & low) > low_bits(address_bits - 1);
  return page_block({upper_half ? address.value | ~low : address.value & low}, address_mask, 64);
}

}  // namespace viommu::vtd
