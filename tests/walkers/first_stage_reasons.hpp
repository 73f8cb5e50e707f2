// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// How a first-stage walk ends, as VT-d numbers it.
#pragma once

#include <cstdint>

#include "walkers/first_stage_walk.hpp"

namespace viommu::test {

/// The reason that VT-d has for it.
inline std::uint8_t code_of(walkers::FirstStageEnd end) {
  switch (end) {
    case walkers::FirstStageEnd::leaf:               return 0;
    case walkers::FirstStageEnd::execute_blocked:    return 0x5C;
    case walkers::FirstStageEnd::supervisor_blocked: return 0x5D;
    case walkers::FirstStageEnd::not_canonical:      return 0x80;
    case walkers::FirstStageEnd::top_unreadable:     return 0x73;
    case walkers::FirstStageEnd::unreadable:         return 0x70;
    case walkers::FirstStageEnd::absent:             return 0x71;
    case walkers::FirstStageEnd::malformed:          return 0x72;
    case walkers::FirstStageEnd::user_denied:        return 0x81;
    case walkers::FirstStageEnd::write_denied:       return 0x85;
    case walkers::FirstStageEnd::not_snooped:        return 0x90;
    case walkers::FirstStageEnd::update_failed:      return 0x91;
  }
  return 0xFF;
}

}  // namespace viommu::test
