// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The document of viommu_dump() as tests read it.
#pragma once

#include <catch2/catch.hpp>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <viommu/viommu.hpp>

namespace viommu::test {

[[nodiscard]] inline nlohmann::json dumped(const Engine& engine, std::uint32_t sections = 0,
                                           const viommu_request& of = {}, std::uint32_t most = 0) {
  const Expected<std::string> text = engine.dump(sections, of, most);
  INFO(text.error().text);
  REQUIRE(text);
  auto copy = text;
  return nlohmann::json::parse(*copy);
}

[[nodiscard]] inline std::uint64_t number_in(const nlohmann::json& value) {
  return std::stoull(value.get<std::string>(), nullptr, 16);
}

/// What an explanation's answer and a device's have in disagreement; empty when nothing.
[[nodiscard]] inline std::string difference_of(const nlohmann::json& explanation, const viommu_translation& answer) {
  constexpr const char* kinds[] = {"fault", "translated", "identity", "interrupt"};
  const nlohmann::json& said = explanation["answer"];
  if (said["kind"] != kinds[answer.kind]) return "kind " + said.dump();
  if (answer.kind == VIOMMU_FAULT) {
    const std::uint64_t reason = said.contains("reason") ? number_in(said["reason"]) : 0;
    return reason == answer.reason ? "" : "reason " + said.dump();
  }
  if (number_in(said["gpa"]) != answer.gpa) return "gpa " + said.dump();
  if (number_in(said["mask"]) != answer.mask) return "mask " + said.dump();
  const std::string rights{(answer.rights & VIOMMU_READ) != 0 ? 'r' : '-',
                           (answer.rights & VIOMMU_WRITE) != 0 ? 'w' : '-'};
  return said["rights"] == rights ? "" : "rights " + said.dump();
}

}  // namespace viommu::test
