// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Things said in words: errors of a trace, events, answers, fault reasons.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include <viommu/viommu.h>

#include "engine/base/fault.hpp"
#include "engine/trace/event.hpp"
#include "engine/trace/problem.hpp"

namespace viommu::cli {

/// Lower case, no prefix, as in a trace.
[[nodiscard]] std::string hex(std::uint64_t value);
/// With exactly `digits` digits.
[[nodiscard]] std::string hex(std::uint64_t value, unsigned digits);

/// What is wrong with a line, and in which field.
[[nodiscard]] std::string text_of(const trace::ParseError& error);
/// The event's line, without its line feed.
[[nodiscard]] std::string text_of(const trace::Event& event);

/// `ok GPA MASK PERM` or `fault REASON (words)`.
[[nodiscard]] std::string answer_text(const trace::Translate& expected);
[[nodiscard]] std::string answer_text(const viommu_translation& found);
/// `ok ADDR DATA` or `fault REASON (words)`.
[[nodiscard]] std::string answer_text(const trace::Interrupt& expected);
[[nodiscard]] std::string answer_text(const viommu_routed& found);

/// What a fault reason code stands for; "unknown reason" for a code that is none.
[[nodiscard]] std::string_view reason_text(std::uint8_t reason) noexcept;

/// Whether the code says that the tables lack a right, which in legacy mode is also how an absent page looks.
[[nodiscard]] constexpr bool is_denial(std::uint8_t reason) noexcept {
  switch (static_cast<FaultReason>(reason)) {
    case FaultReason::write_denied:
    case FaultReason::read_denied:
    case FaultReason::user_denied:
    case FaultReason::stage_write_denied:
    case FaultReason::stage_read_denied:
    case FaultReason::second_entry_not_present: return true;
    default:                                    return false;
  }
}
/// "recorded -> ours", two fault reasons.
[[nodiscard]] std::string deviation_text(std::uint8_t recorded, std::uint8_t ours);

/// What a call answered, as RESULT says it: `ok`, or the refusal's name with its field; else the code in words.
[[nodiscard]] std::string result_text(viommu_result result, const viommu_refusal& refusal);
/// Whether that is the answer of a line; one that names no field takes any.
[[nodiscard]] bool same_result(std::string_view expected, std::string_view found) noexcept;

/// The RESULT of a ready line: `ok` alone, or SID:Error items.
[[nodiscard]] bool results_are_well_formed(std::string_view results) noexcept;

}  // namespace viommu::cli
