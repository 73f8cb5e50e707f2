// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// VT-d, "Invalidation Descriptors": from the bytes in the queue to a command, or to the reason why there is none.
#pragma once

#include <array>
#include <cstdint>
#include <variant>

#include "caches/scope.hpp"
#include "engine/vtd/capabilities.hpp"
#include "engine/vtd/invalidation.hpp"
#include "engine/vtd/register_layouts.hpp"

namespace viommu::vtd {

/// A descriptor as loaded. In a queue of 128-bit descriptors the two last words stay zero.
struct RawDescriptor {
  std::array<std::uint64_t, 4> words{};
};

/// What a descriptor asks for; `QueueErrorCode` is the IQEI to stop the queue with.
using Descriptor = std::variant<QueueErrorCode, ContextInvalidation, IotlbInvalidation, DeviceTlbInvalidation,
                                InterruptEntryInvalidation, Wait, PasidIotlbInvalidation, PasidCacheInvalidation,
                                PasidDeviceTlbInvalidation, PageGroupResponse, HostPermissionInvalidation>;

/// The most frequent descriptor, a well-formed page-selective IOTLB invalidation, in line. @return false for any other,
/// and for a malformed one: decode_descriptor() judges those
[[nodiscard]] bool decode_pages(const RawDescriptor& raw, const Capabilities& capabilities,
                                caches::PageScope& pages) noexcept;

/// Judges and decodes one descriptor. Types first, then reserved bits, then values. Pure; constant time.
/// @param mode  the table mode in force, for which queue_problem() has found nothing: it decides whether types of 256
///              bits exist, and those modes in which they do are only fetched in by 256 bits
[[nodiscard]] Descriptor decode_descriptor(const RawDescriptor& raw, TableMode mode,
                                           const Capabilities& capabilities) noexcept;

}  // namespace viommu::vtd
