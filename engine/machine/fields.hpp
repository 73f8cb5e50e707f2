// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Our capabilities beside the host's, row by row.
#pragma once

#include <cstdint>
#include <span>

#include "engine/machine/front_end.hpp"

namespace viommu::machine {

/// Whether a value of ours may stand beside one of the host's.
[[nodiscard]] constexpr bool obeys(FieldRule rule, std::uint64_t own, std::uint64_t host) noexcept {
  switch (rule) {
    case FieldRule::ignore:        return true;
    case FieldRule::less_or_equal: return own <= host;
    case FieldRule::subset:        return (own & ~host) == 0;
    case FieldRule::exact:         return own == host;
  }
  return false;
}

/// The first row, in their order, that the host does not satisfy; null when it satisfies all.
[[nodiscard]] const CapabilityField* first_mismatch(std::span<const CapabilityField> fields, CheckMode mode,
                                                    const VendorWords& own, const VendorWords& host) noexcept;
/// The row that means the width of input addresses. There is one.
[[nodiscard]] const CapabilityField& input_bits_field(std::span<const CapabilityField> fields) noexcept;

}  // namespace viommu::machine
