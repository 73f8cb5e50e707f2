// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What the library says of an interrupt request, in the words of the oracle.
#pragma once

#include <viommu/viommu.h>

#include "tests/support/interrupt_oracle.hpp"

namespace viommu::test {

inline interrupt_oracle::Answer answer_of(const viommu_routed& routed) {
  using interrupt_oracle::Answer;
  Answer answer;
  answer.kind = static_cast<Answer::Kind>(routed.kind);
  answer.reason = routed.reason;
  answer.suppressed = routed.status == VIOMMU_FAULT_DISABLED;
  answer.index = routed.index;
  answer.address = routed.address;
  answer.data = routed.data;
  answer.descriptor = routed.descriptor;
  answer.vector = routed.vector;
  answer.urgent = routed.urgent != 0;
  return answer;
}

}  // namespace viommu::test
