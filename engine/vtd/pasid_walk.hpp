// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// From a source id and a PASID to what translates: root, context, PASID directory and PASID table. Source: VT-d,
// "Scalable Mode Address Translation"; the order of checks is that of engine/docs/conformance.md.
#pragma once

#include <cstdint>
#include <optional>

#include "caches/address_spaces.hpp"
#include "engine/base/address_type.hpp"
#include "engine/base/fault.hpp"
#include "engine/base/guest_memory.hpp"
#include "engine/base/ids.hpp"
#include "engine/vtd/capabilities.hpp"
#include "engine/vtd/scalable_layouts.hpp"

namespace viommu::vtd {

/// A request, as far as these tables are concerned.
struct PasidRequest {
  SourceId source;
  std::optional<Pasid> pasid;  ///< nothing: the context's RID_PASID
  bool privileged = false;     ///< PR of a request with PASID
  bool execute = false;        ///< ER of one
  AddressType type = AddressType::untranslated;
  bool page_request = false;
};

/// What a usable PASID table entry says.
struct PasidContext {
  Pasid pasid;  ///< the request's, or the context's
  bool privileged = false;
  PasidTranslation translation = PasidTranslation::pass_through;
  DomainId domain;
  unsigned width = 0;        ///< AW of the second stage
  bool five_levels = false;  ///< of the first stage
  Gpa first_root;            ///< nested: behind the second stage
  Gpa second_root;
  bool second_dirty = false;
  bool walk_snooped = false;
  bool page_snooped = false;
  bool write_protect = false;
  bool extended_accessed = false;
  bool device_tlb = false;  ///< DTE of the context entry
};

/// With a fault, `context` says nothing. `fault_disable` is the OR of what was met on the way, and counts for the
/// faults that it qualifies.
struct PasidWalk {
  FaultReason fault = FaultReason::none;
  bool fault_disable = false;
  PasidContext context{};
};

/// The walk of a translated request ends at the context entry: of `context` only the request's side counts then.
/// At most seven loads: root and context entry in one and two of 16 bytes, the directory entry in one of 8, the PASID
/// table entry in four of 16, the one with P first.
[[nodiscard]] PasidWalk walk_pasid(const GuestMemory& memory, const Capabilities& capabilities, Gpa root_table,
                                   const PasidRequest& request) noexcept;

/// What the caches know it by.
[[nodiscard]] caches::AddressSpaceKey key_of(const PasidContext& context, const Capabilities& capabilities) noexcept;

}  // namespace viommu::vtd
