// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The key=value pairs of a `cfg vtd` or `cfg virtio` line.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "engine/trace/problem.hpp"

namespace viommu::trace {

enum class CapabilityPolicy : std::uint8_t { check, sync };
enum class UnknownAbility : std::uint8_t { closed, legacy };
enum class Migratable : std::uint8_t { any, only };

/// What a scenario may choose for either kind of unit.
struct ScenarioChoices {
  UnknownAbility unknown = UnknownAbility::closed;
  Migratable migratable = Migratable::any;
  std::uint64_t fault_limit = 0;
  std::uint64_t quota = 0;

  friend constexpr bool operator==(const ScenarioChoices&, const ScenarioChoices&) = default;
};

/// What a `cfg vtd` line says, with the format's defaults where it says nothing. A recording may also carry `haw` and
/// `compress`: the format's default for a recording is that the host address width is `aw` and that faults are
/// compressed.
struct VtdConfiguration : ScenarioChoices {
  bool scenario = false;
  std::uint64_t capability = 0;
  std::uint64_t extended_capability = 0;
  std::uint32_t version = 0x10;
  unsigned address_width = 0;       // `aw`, recordings only
  unsigned host_address_width = 0;  // `haw`; 0: not given
  bool compress = true;
  // What a recording's emulator was like; nothing follows from these that the registers do not say.
  bool caching_mode = false;
  bool scalable = false;
  // Scenarios only.
  bool narrow_haw = false;
  bool first_stage_checks = false;  // `flts`
  bool share = false;
  CapabilityPolicy policy = CapabilityPolicy::check;

  friend constexpr bool operator==(const VtdConfiguration&, const VtdConfiguration&) = default;
};

/// What a `cfg virtio` line says, with the format's defaults where it says nothing. Ranges are inclusive. A recording
/// of this library also has what decides about answers (`detach` and the quotas), and `plugs`.
struct VirtioConfiguration : ScenarioChoices {
  bool scenario = false;
  std::uint64_t features = 0;  // offered
  std::uint64_t page_size_mask = 0;
  std::uint64_t input_first = 0;
  std::uint64_t input_last = ~std::uint64_t{0};
  std::uint32_t domain_first = 0;
  std::uint32_t domain_last = ~std::uint32_t{0};
  std::uint32_t probe_size = 0;
  bool boot_bypass = false;
  std::uint32_t reserved_regions = 0;  // `resv`: as many `cfg resv` lines follow
  bool bypass = false;                 // of a recording: what the byte is at its start
  /// `plugs`, of a recording: it says which endpoints there are, and has the words plug, unplug, renumber and req.
  bool plugs = false;
  bool strict_detach = false;
  std::uint64_t domains = 0;  // quotas; 0: none
  std::uint64_t mappings = 0;
  std::uint64_t endpoints = 0;
  bool share = false;  // scenarios only

  friend constexpr bool operator==(const VirtioConfiguration&, const VirtioConfiguration&) = default;
};

/// Reads the pairs of a `cfg virtio` line, as parse_vtd_configuration() does.
[[nodiscard]] ParseError parse_virtio_configuration(std::string_view pairs,
                                                    VirtioConfiguration& configuration) noexcept;

/// Writes the pairs that give `configuration` back, into `out`; an empty view when they do not fit. 512 bytes always
/// do.
[[nodiscard]] std::string_view format_virtio_configuration(const VirtioConfiguration& configuration,
                                                           std::span<char> out) noexcept;

/// Reads the pairs of a `cfg vtd` line. A recording may have keys that are not known here; a scenario may not.
[[nodiscard]] ParseError parse_vtd_configuration(std::string_view pairs, VtdConfiguration& configuration) noexcept;

/// Writes the pairs that give `configuration` back, into `out`; an empty view when they do not fit. 320 bytes always
/// do.
[[nodiscard]] std::string_view format_vtd_configuration(const VtdConfiguration& configuration,
                                                        std::span<char> out) noexcept;

}  // namespace viommu::trace
