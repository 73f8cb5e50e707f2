// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// How the C interface says why something is not taken: one form for all of it.
#pragma once

#include <viommu/viommu.h>

#include <cstdint>

namespace viommu::capi {

/// What is known of a refusal; the text is made of it.
struct Refusal {
  std::uint32_t code = VIOMMU_REFUSED_NOTHING;
  std::uint16_t source = 0;
  std::uint64_t expected = 0;
  std::uint64_t found = 0;
  const char* field = "";  ///< at most 23 bytes
  const char* words = "";  ///< what is wrong, in a few words; of a veto all of the text
  bool decimal = false;    ///< `expected` and `found` are counts
  bool of_device = true;   ///< `source` is that of a device
};

/// Fills it in, as far as the caller's size goes (null: nobody asks). @return VIOMMU_E_REFUSED
viommu_result refuse(viommu_refusal* to, const Refusal& refusal) noexcept;
/// Says that nothing was refused. @return VIOMMU_OK
viommu_result refuse_nothing(viommu_refusal* to) noexcept;

}  // namespace viommu::capi
