// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// When an engine's answer and the oracle's are the same answer.
#pragma once

#include <viommu/viommu.h>

#include <optional>
#include <string>

#include "tests/support/oracle.hpp"
#include "tests/support/vtd_driver.hpp"

namespace viommu::test {

[[nodiscard]] viommu_request engine_request(const oracle::Request& request, std::uint8_t flags = 0);

/// What differs between the two answers, in words; empty when nothing does. The engine's block may be smaller than the
/// oracle's page, or larger: whether every address in it translates alike is for the caller to ask the oracle.
[[nodiscard]] std::string difference(const viommu_translation& engine, const oracle::Answer& oracle,
                                     const oracle::Request& request);

/// The record a unit with nothing pending must write for this fault; nothing when it must not write any.
[[nodiscard]] std::optional<FaultRecord> expected_record(const oracle::Unit& unit, const oracle::Request& request,
                                                         const oracle::Answer& answer);

/// One line that says which unit, request and answers a failed check is about.
[[nodiscard]] std::string describe(const oracle::Unit& unit, const oracle::Request& request,
                                   const oracle::Answer& answer, const viommu_translation& engine);

}  // namespace viommu::test
