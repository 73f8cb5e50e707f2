// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Why a device is not taken: one form, cold and hot.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "engine/base/ids.hpp"

namespace viommu::machine {

/// As VIOMMU_REFUSED_* in viommu.h.
enum class RefusalCode : std::uint8_t {
  nothing,
  caching_mode,
  already_exists,
  width_too_small,
  host_type,
  need_iommufd,
  nesting_unsupported,
  field_mismatch,
  narrows_haw,
  alias_conflict,
  migration_not_allowed,
  cannot_translate,
  unknown_ability,
  not_supported,
  invalid,
  vetoed,
  granule_frozen,
  page_sizes_disjoint,
};

/// What is known of it. The texts are static, but for that of a veto.
struct Refusal {
  RefusalCode code = RefusalCode::nothing;
  SourceId source{};
  std::uint64_t expected = 0;
  std::uint64_t found = 0;
  bool decimal = false;  ///< both are counts, of bits mostly
  std::string_view field;
  const char* words = "";
  std::array<char, 160> veto_text{};  ///< terminated
};

}  // namespace viommu::machine
