// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// From a source id to an address space: the root and the context table. Source: VT-d, "Legacy Mode Address
// Translation".
#pragma once

#include <cstdint>

#include "caches/address_spaces.hpp"
#include "engine/base/fault.hpp"
#include "engine/base/guest_memory.hpp"
#include "engine/base/ids.hpp"
#include "engine/vtd/capabilities.hpp"

namespace viommu::vtd {

/// What the tables say now. With a fault, `key` says nothing; `fault_disable` counts for the faults it qualifies.
struct ContextWalk {
  FaultReason fault = FaultReason::none;
  bool fault_disable = false;
  caches::AddressSpaceKey key{};
  bool device_tlb = false;  ///< TT allows translation requests and translated requests
};

/// Reads the root and the context entry of `source`, each in one 16-byte load. Checks, in this order: root access,
/// present, reserved; context access, present, reserved, AW, TT.
[[nodiscard]] ContextWalk walk_context(const GuestMemory& memory, const Capabilities& capabilities, Gpa root_table,
                                       SourceId source) noexcept;

}  // namespace viommu::vtd
