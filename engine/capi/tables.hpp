// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What the descriptions of ACPI tables have in common in the C interface.
#pragma once

#include <viommu/viommu.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <new>
#include <span>

#include "engine/base/ids.hpp"
#include "engine/capi/refusals.hpp"
#include "engine/capi/sized.hpp"
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

/// The identifiers of a description, each as it is given or this library's own.
template <class Given>
void put_identity(const Given& from, machine::TableIdentity& to) noexcept {
  to.oem_id = identifier(from.oem_id, "VIOMMU");
  to.oem_table_id = identifier(from.oem_table_id, "VIOMMU  ");
  to.oem_revision = from.oem_revision != 0 ? from.oem_revision : 1;
  to.creator_id = identifier(from.creator_id, "VIOM");
  to.creator_revision = from.creator_revision != 0 ? from.creator_revision : 1;
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

/// Reads a description of the caller's and answers with `use(topology)` if nothing is wrong with it.
/// @tparam Description   reads Given, and has a topology()
/// @param first_version  bytes that the first version of Given has
template <class Description, class Given, class Use>
[[nodiscard]] viommu_result with_topology(const Given* given, std::size_t first_version, viommu_refusal* refusal,
                                          Use use) noexcept {
  Given known{};
  if (given == nullptr) return VIOMMU_E_ARGUMENT;
  switch (take_over(*given, known, first_version)) {
    case Taken::ok:            break;
    case Taken::no_version:    return VIOMMU_E_ARGUMENT;
    case Taken::unknown_field: return VIOMMU_E_UNSUPPORTED;
  }
  try {
    Description description;
    if (const viommu_result result = description.read(known, refusal); result != VIOMMU_OK) return result;
    refuse_nothing(refusal);
    return use(description.topology());
  } catch (const std::bad_alloc&) {
    return VIOMMU_E_MEMORY;
  }
}
/// The table into the caller's bytes. @param write  (topology, bytes), which returns the length of all of it
template <class Topology, class Write>
[[nodiscard]] viommu_result write_into(const Topology& topology, void* bytes, std::size_t capacity, std::size_t* length,
                                       Write write) noexcept {
  *length = write(topology, std::span<std::byte>{});
  if (*length > capacity) return VIOMMU_E_RANGE;
  write(topology, std::span{static_cast<std::byte*>(bytes), *length});
  return VIOMMU_OK;
}

}  // namespace viommu::capi
