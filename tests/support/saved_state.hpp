// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Saved states as a VMM holds them: made, taken in, and changed in ways that their checksum does not tell. The form is
// written out here once more, from engine/docs/design.md.
#pragma once

#include <viommu/viommu.h>

#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace viommu::test {

using State = std::vector<std::byte>;

[[nodiscard]] inline viommu_refusal empty_refusal() {
  viommu_refusal refusal{};
  refusal.size = sizeof refusal;
  return refusal;
}

/// What is in the way; nothing when it was saved.
struct Saved {
  State state;
  viommu_result result = VIOMMU_OK;
  viommu_refusal refusal = empty_refusal();
};
[[nodiscard]] inline Saved try_save(viommu_engine* engine) {
  Saved saved;
  std::size_t length = 0;
  saved.result = viommu_save(engine, nullptr, 0, &length, &saved.refusal);
  if (saved.result != VIOMMU_E_RANGE) return saved;
  saved.state.resize(length);
  saved.result = viommu_save(engine, saved.state.data(), length, &length, &saved.refusal);
  CHECK(length == saved.state.size());
  return saved;
}
[[nodiscard]] inline State save(viommu_engine* engine) {
  const Saved saved = try_save(engine);
  INFO(saved.refusal.text);
  REQUIRE(saved.result == VIOMMU_OK);
  return saved.state;
}

struct Loaded {
  viommu_result result = VIOMMU_OK;
  viommu_refusal refusal = empty_refusal();

  [[nodiscard]] std::string field() const { return refusal.field; }
};
[[nodiscard]] inline Loaded load(viommu_engine* engine, const State& state) {
  Loaded loaded;
  loaded.result = viommu_load(engine, state.data(), state.size(), &loaded.refusal);
  return loaded;
}
inline void require_load(viommu_engine* engine, const State& state) {
  const Loaded loaded = load(engine, state);
  INFO(loaded.refusal.text);
  REQUIRE(loaded.result == VIOMMU_OK);
}

[[nodiscard]] std::uint64_t number_at(const State& state, std::size_t at, std::size_t bytes);
void put_number(State& state, std::size_t at, std::uint64_t value, std::size_t bytes);
/// Makes length and checksum right again.
void reseal(State& state);
/// Tries to load `good` with each bit changed, cut at each length, with and without a checksum made right for that, and
/// one byte longer. @return how many of these were not refused as a bad state, with the field named
[[nodiscard]] std::size_t broken_states_taken(viommu_engine* engine, const State& good);
/// Where the contents of a section begin.
[[nodiscard]] std::optional<std::size_t> section_at(const State& state, const std::string& name);
/// Where the value of the register at `offset` stands.
[[nodiscard]] std::size_t register_at(const State& state, std::uint32_t offset);

}  // namespace viommu::test
