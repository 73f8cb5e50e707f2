// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Structs that begin with `size`, in the caller's version of them and in ours: they only ever grow.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>

namespace viommu::capi {

enum class Taken : unsigned char {
  ok,
  no_version,     ///< no version of the struct has this size
  unknown_field,  ///< one that this version does not know is set
};

/// Takes over as much of a sized struct as the caller's version of it has.
/// @param least  size of the first version
template <class Struct>
[[nodiscard]] Taken take_over(const Struct& given, Struct& known, std::size_t least) noexcept {
  constexpr std::size_t longest = 4096;  // longer than any version will be: what is told is no size
  if (given.size < least || given.size > longest || given.size % alignof(Struct) != 0) return Taken::no_version;
  known = {};
  std::memcpy(&known, &given, std::min(given.size, sizeof known));
  const auto* const bytes = reinterpret_cast<const unsigned char*>(&given);
  for (std::size_t at = sizeof known; at < given.size; ++at)
    if (bytes[at] != 0) return Taken::unknown_field;
  return Taken::ok;
}

/// Whether there is a struct to be filled in, of a size that makes sense.
template <class Struct>
[[nodiscard]] bool can_take(const Struct* to) noexcept {
  return to != nullptr && to->size >= sizeof to->size && to->size % alignof(Struct) == 0;
}
/// Fills in as many fields as the caller's size says.
template <class Struct>
void hand_over(const Struct& from, Struct& to) noexcept {
  const std::size_t size = to.size;
  std::memcpy(&to, &from, std::min(size, sizeof from));
  to.size = size;
}

}  // namespace viommu::capi
