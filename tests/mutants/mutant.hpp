// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// One changed expression of many that are compiled in together: which one holds is decided when the process starts.
// tests/mutants/run puts this beside the changed copies of the sources.
#pragma once

#include <type_traits>

namespace viommu {

/// VIOMMU_MUTANT of the environment: 0 is none; below 0 nothing is changed, and what is reached is noted.
extern int selected_mutant;

/// Notes in the file VIOMMU_MUTANTS_REACHED that the place of this mutant was come to.
void note_reached_mutant(int number) noexcept;

/// Always inlined: a copy of its own in a vector kernel's object would be made of that kernel's instructions.
[[nodiscard, gnu::always_inline]] inline constexpr bool mutant(int number) noexcept {
  if (std::is_constant_evaluated()) return false;
  if (selected_mutant < 0) [[unlikely]]
    note_reached_mutant(number);
  return selected_mutant == number;
}

}  // namespace viommu
