// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/machine/fields.hpp"

#include <algorithm>

namespace viommu::machine {

const CapabilityField* first_mismatch(std::span<const CapabilityField> fields, CheckMode mode, const VendorWords& own,
                                      const VendorWords& host) noexcept {
  const auto mismatch = [&](const CapabilityField& field) {
    const std::uint64_t there = field.value(host);
    if (field.meaning == FieldMeaning::nesting && mode == CheckMode::first_stage && there == 0) return true;
    return !obeys(field.rule(mode), field.value(own), there);
  };
  const auto found = std::ranges::find_if(fields, mismatch);
  return found == fields.end() ? nullptr : &*found;
}

const CapabilityField& input_bits_field(std::span<const CapabilityField> fields) noexcept {
  return *std::ranges::find(fields, FieldMeaning::input_bits, &CapabilityField::meaning);
}

}  // namespace viommu::machine
