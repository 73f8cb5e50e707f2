// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The page-table formats of a unit.
#pragma once

#include "engine/base/bits.hpp"
#include "engine/vtd/capabilities.hpp"
#include "engine/vtd/capability_layouts.hpp"
#include "walkers/format/first_stage_layout.hpp"
#include "walkers/format/second_stage_layout.hpp"

namespace viommu::vtd {

[[nodiscard]] inline walkers::SecondStageRules second_stage_rules(const Capabilities& capabilities) noexcept {
  return {capabilities.host_address_width, capabilities.snoop_control, capabilities.pages_2m, capabilities.pages_1g};
}
[[nodiscard]] inline walkers::FirstStageRules first_stage_rules(const Capabilities& capabilities) noexcept {
  return {capabilities.host_address_width, get(CapabilityRegister{capabilities.cap}, cap::fs1gp)};
}

}  // namespace viommu::vtd
