// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The sized structs of viommu_vhost.h, by the rules of viommu.h: as much as both sides know, and nothing unknown set.
#pragma once

#include <viommu/viommu.h>

#include <algorithm>
#include <cstddef>
#include <cstring>

namespace viommu::vhost {

/// All of a struct's first version is needed.
template <class Struct>
[[nodiscard]] viommu_result take(const Struct* given, Struct& known) noexcept {
  constexpr std::size_t longest = 4096;  // no version will be: what is told is no size
  if (given == nullptr || given->size < sizeof known || given->size > longest) return VIOMMU_E_ARGUMENT;
  known = {};
  std::memcpy(&known, given, sizeof known);
  const auto* const bytes = reinterpret_cast<const unsigned char*>(given);
  for (std::size_t at = sizeof known; at < given->size; ++at)
    if (bytes[at] != 0) return VIOMMU_E_ARGUMENT;
  return VIOMMU_OK;
}

/// Fills in as many fields as the caller's size says.
template <class Struct>
[[nodiscard]] viommu_result give(const Struct& from, Struct* to) noexcept {
  if (to == nullptr || to->size < sizeof to->size) return VIOMMU_E_ARGUMENT;
  const std::size_t size = to->size;
  std::memcpy(to, &from, std::min(size, sizeof from));
  to->size = size;
  return VIOMMU_OK;
}

}  // namespace viommu::vhost
