// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What a scenario may choose for either kind of unit, in the key=value pairs of its cfg line.
#pragma once

#include <cstddef>
#include <cstdint>

#include "engine/trace/config.hpp"
#include "engine/trace/pairs.hpp"
#include "engine/trace/pairs_out.hpp"

namespace viommu::trace {

template <class Key, std::size_t count>
void read_choices(Pairs<Key, count>& pairs, ScenarioChoices& c) noexcept {
  constexpr std::uint64_t any = ~std::uint64_t{0};
  c.unknown = pairs.second_word(Key::unknown, "closed", "legacy") ? UnknownAbility::legacy : UnknownAbility::closed;
  c.migratable = pairs.second_word(Key::migratable, "any", "only") ? Migratable::only : Migratable::any;
  c.fault_limit = pairs.decimal(Key::fault_limit, any, 0);
  c.quota = pairs.decimal(Key::quota, any, 0);
}

inline void write_choices(PairsOut& out, const ScenarioChoices& c) noexcept {
  out.pair("unknown").word(c.unknown == UnknownAbility::legacy ? "legacy" : "closed");
  out.pair("migratable").word(c.migratable == Migratable::only ? "only" : "any");
  out.pair("fault_limit").decimal(c.fault_limit);
  out.pair("quota").decimal(c.quota);
}

}  // namespace viommu::trace
