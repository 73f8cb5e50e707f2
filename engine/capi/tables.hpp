// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What the descriptions of ACPI tables have in common in the C interface.
#pragma once

#include <viommu/viommu.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>

#include "engine/base/ids.hpp"
#include "engine/capi/refusals.hpp"
#include "engine/machine/topology.hpp"

namespace viommu::capi {

/// A list of the caller's.
template <class Element>
struct List {
  const Element* first;
  std::uint32_t count;

  [[nodiscard]] const Element* begin() const noexcept { return first; }
  [[nodiscard]] const Element* end() const noexcept { return first + count; }
  [[nodiscard]] bool is_there() const noexcept { return count == 0 || first != nullptr; }
};

/// An identifier as it is given, or where all of it is zero another.
template <std::size_t Size>
[[nodiscard]] std::array<char, Size> identifier(const char (&given)[Size], const char* otherwise) noexcept {
  std::array<char, Size> characters{};
  const bool is_given = std::ranges::any_of(given, [](char character) { return character != '\0'; });
  std::copy_n(is_given ? given : otherwise, Size, characters.begin());
  return characters;
}

inline viommu_result refuse(viommu_refusal* refusal, const machine::TopologyError& error) noexcept {
  char field[sizeof(viommu_refusal::field)] = "";
  char element[8] = "";
  if (error.element) std::snprintf(element, sizeof element, "[%u]", static_cast<unsigned>(*error.element));
  if (error.table[0] == '\0')
    std::snprintf(field, sizeof field, "%s%s", error.field, element);
  else
    std::snprintf(field, sizeof field, "%s[%u].%s%s", error.table, static_cast<unsigned>(error.entry), error.field,
                  element);
  Refusal told{};
  told.code = VIOMMU_REFUSED_INVALID;
  told.of_device = error.source.has_value();
  told.source = error.source.value_or(SourceId{}).value;
  told.expected = error.expected;
  told.found = error.found;
  told.field = field;
  told.words = error.words;
  return refuse(refusal, told);
}

}  // namespace viommu::capi
