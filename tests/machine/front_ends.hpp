// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// A front end of two small words, which is what a test makes it.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "engine/machine/front_end.hpp"
#include "engine/machine/machine.hpp"

namespace viommu::machine {

/// Word 0: width - 1 in bits 7:0, a set in 15:8. Word 1: nesting in bit 0, an identity in 15:8.
inline constexpr std::array<CapabilityField, 4> mock_fields{{
    {"WIDTH", 0, {7, 0}, {FieldRule::less_or_equal, FieldRule::less_or_equal}, FieldMeaning::input_bits},
    {"SET", 0, {15, 8}, {FieldRule::ignore, FieldRule::subset}},
    {"NESTS", 1, {0, 0}, {}, FieldMeaning::nesting},
    {"SAME", 1, {15, 8}, {FieldRule::ignore, FieldRule::exact}},
}};

/// Stays where it is while a Machine uses it.
struct MockFrontEnd {
  AnnounceAbility ability = AnnounceAbility::guest_announces;
  VendorWords words{47, 0};
  unsigned haw = 39;
  std::optional<Gpa> end;
  std::string_view problem;
  std::vector<Widths> applied;

  [[nodiscard]] FrontEnd table() {
    FrontEnd table;
    table.opaque = this;
    table.announcing = "announcing";
    table.vendor = 9;
    table.fields = mock_fields;
    table.announces = [](const void* self) { return of(self).ability; };
    table.words = [](const void* self) { return of(self).words; };
    table.host_address_width = [](const void* self) { return of(self).haw; };
    table.memory_end = [](const void* self) { return of(self).end; };
    table.memory_hole = [](const void* self, GpaRange range) -> std::optional<Gpa> {
      const std::optional<Gpa> last = of(self).end;
      if (last && range.last <= *last) return std::nullopt;
      return last ? std::max(range.first, *last + 1) : range.first;
    };
    table.problem = [](const void* self, Widths) { return of(self).problem; };
    table.apply = [](void* self, Widths widths) {
      auto& front_end = *static_cast<MockFrontEnd*>(self);
      front_end.applied.push_back(widths);
      mock_fields[0].put(front_end.words, widths.input_bits - 1);
      front_end.haw = widths.host_address_width;
    };
    return table;
  }

 private:
  static const MockFrontEnd& of(const void* self) { return *static_cast<const MockFrontEnd*>(self); }
};

/// A host of this width and nothing else.
struct MockHost {
  std::uint32_t width = 48;

  [[nodiscard]] FactFunctions facts() {
    FactFunctions functions;
    functions.opaque = this;
    functions.width = [](void* self, std::uint32_t* bits) -> std::int32_t {
      *bits = static_cast<MockHost*>(self)->width;
      return 0;
    };
    functions.kind = [](void*, std::uint32_t* kind) -> std::int32_t {
      *kind = 9;
      return 0;
    };
    functions.capabilities = [](void* self, std::uint64_t* first, std::uint64_t* second) -> std::int32_t {
      *first = static_cast<MockHost*>(self)->width - 1;
      *second = 0;
      return 0;
    };
    return functions;
  }
};

}  // namespace viommu::machine
