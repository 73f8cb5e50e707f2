// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/capi/refusals.hpp"

#include <array>
#include <cstdio>

#include "engine/capi/sized.hpp"

namespace viommu::capi {
namespace {

constexpr std::array<const char*, VIOMMU_REFUSED_BAD_STATE + 1> names{"",
                                                                      "CachingModeRequired",
                                                                      "NotSupported",
                                                                      "AlreadyExists",
                                                                      "WidthTooSmall",
                                                                      "IncompatibleHostType",
                                                                      "NeedIommufd",
                                                                      "NestingUnsupported",
                                                                      "FieldMismatch",
                                                                      "GranuleFrozen",
                                                                      "PageSizesDisjoint",
                                                                      "NarrowsHaw",
                                                                      "AliasConflict",
                                                                      "MigrationNotAllowed",
                                                                      "CannotTranslate",
                                                                      "UnknownAbility",
                                                                      "Invalid",
                                                                      "Vetoed",
                                                                      "ConsumerError",
                                                                      "Busy",
                                                                      "BadState"};

}  // namespace

viommu_result refuse(viommu_refusal* to, const Refusal& refusal) noexcept {
  if (!can_take(to)) return VIOMMU_E_REFUSED;
  viommu_refusal filled{};
  filled.code = refusal.code;
  filled.source = refusal.source;
  filled.expected = refusal.expected;
  filled.found = refusal.found;
  std::snprintf(filled.field, sizeof filled.field, "%s", refusal.field);
  const unsigned bus = refusal.source >> 8;
  const unsigned device = refusal.source >> 3 & 31;
  const unsigned function = refusal.source & 7;
  char who[12] = "";
  if (refusal.of_device) std::snprintf(who, sizeof who, "%02x:%02x.%x: ", bus, device, function);
  if (refusal.code == VIOMMU_REFUSED_VETOED) {
    std::snprintf(filled.text, sizeof filled.text, "%s", refusal.words);
  } else {
    std::snprintf(filled.text, sizeof filled.text,
                  refusal.decimal ? "%s%s%s%s (expected %llu, found %llu)" : "%s%s%s%s (expected 0x%llx, found 0x%llx)",
                  who, refusal.field, refusal.field[0] != '\0' ? ": " : "", refusal.words,
                  static_cast<unsigned long long>(refusal.expected), static_cast<unsigned long long>(refusal.found));
  }
  hand_over(filled, *to);
  return VIOMMU_E_REFUSED;
}

viommu_result refuse_nothing(viommu_refusal* to) noexcept {
  if (can_take(to)) hand_over(viommu_refusal{}, *to);
  return VIOMMU_OK;
}

}  // namespace viommu::capi

extern "C" const char* viommu_refusal_name(uint32_t code) {
  return code < viommu::capi::names.size() ? viommu::capi::names[code] : "";
}
