// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The unit of tests about consumers that keep mappings.
#pragma once

#include "tests/behaviour/machine.hpp"

namespace viommu::test {

/// 39 bits, caching mode.
[[nodiscard]] inline viommu_vtd_options options_39() {
  viommu_vtd_options options = usual_options();
  options.capability = 0x80D2'008C'2226'0286;
  options.extended_capability = 0xF0'0F4A;
  options.host_address_width = 39;
  return options;
}

}  // namespace viommu::test
