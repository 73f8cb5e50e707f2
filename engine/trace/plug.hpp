// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The key=value pairs of a `plug` line.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "engine/trace/problem.hpp"

namespace viommu::trace {

enum class Backend : std::uint8_t { vfio, iommufd };
enum class HostKind : std::uint8_t { vtd, smmu };
enum class HostFact : std::uint8_t { none, width, caps, ranges, pages };
enum class Ability : std::uint8_t { able, notable, unknown };
enum class Wish : std::uint8_t { translate, bypass, unset };

struct AddressRange {
  std::uint64_t first = 0;
  std::uint64_t last = 0;
  friend constexpr bool operator==(const AddressRange&, const AddressRange&) = default;
};

/// What the pairs say, with the format's defaults where they say nothing. A fact that is not there is one that the host
/// does not have.
struct PlugOptions {
  Backend backend = Backend::iommufd;
  HostKind host_kind = HostKind::vtd;
  std::optional<std::uint64_t> capability;
  std::optional<std::uint64_t> extended_capability;
  std::optional<std::uint32_t> width;
  std::optional<std::uint64_t> page_sizes;
  std::string_view ranges;          // of next_range(); empty: not there
  HostFact fails = HostFact::none;  // this one is an error
  Ability ability = Ability::able;
  Wish wish = Wish::unset;
  bool platform_offered = false;
  bool bypassed = false;
  std::optional<std::uint16_t> alias;
  std::optional<std::uint32_t> endpoint;  // by which a guest knows it
  std::optional<AddressRange> reserved;   // `rmrr`
};

/// Reads the fields between KIND and RESULT. In an error the fields are counted from 0, the first of `pairs`.
[[nodiscard]] ParseError parse_plug_options(std::string_view pairs, PlugOptions& options) noexcept;

/// Takes the first FIRST-LAST off a list split by commas. False at its end, and for what is no range.
[[nodiscard]] bool next_range(std::string_view& list, AddressRange& range) noexcept;

}  // namespace viommu::trace
