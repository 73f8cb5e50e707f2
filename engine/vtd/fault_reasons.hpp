// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// From what the tables came to, to the code that a fault record shows. Source: VT-d, "Fault Reason Encodings".
#pragma once

#include "caches/address_spaces.hpp"
#include "engine/base/access.hpp"
#include "engine/base/fault.hpp"
#include "engine/core/waist.hpp"
#include "engine/vtd/dma.hpp"

namespace viommu::vtd {

/// @param key  of the address space that was asked; its PASID tells scalable from legacy mode
[[nodiscard]] FaultReason reason_of(const core::Translation& found, const caches::AddressSpaceKey& key,
                                    Rights asked) noexcept;

/// Whether FPD of a context or PASID entry on the way suppresses this fault's record.
[[nodiscard]] bool qualified(FaultReason reason) noexcept;

/// How a translation request that meets this fault is completed; a success grants nothing.
[[nodiscard]] AtsStatus completion_of(FaultReason reason) noexcept;

}  // namespace viommu::vtd
