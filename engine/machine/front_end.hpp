// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What a front end tells the machine about itself: one table of functions. The machine knows no front end's registers;
// it walks rows and compares words.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "engine/base/address.hpp"
#include "engine/base/bits.hpp"

namespace viommu::machine {

/// Whether whoever mirrors mappings can be complete: the answer to "are new mappings announced?".
enum class AnnounceAbility : std::uint8_t {
  guest_announces,   ///< the guest says each mapping, also one where none was
  nested_hardware,   ///< nobody mirrors: the host's hardware reads all of the guest's tables
  none,              ///< new mappings appear in memory, and nobody is told
  cannot_translate,  ///< there are no mappings
};

/// How a capability of ours may stand beside the host's.
enum class FieldRule : std::uint8_t {
  ignore,         ///< made by us alone, whatever the host has
  less_or_equal,  ///< a number: not more than the host's
  subset,         ///< bits: none that the host does not have
  exact,
};
enum class FieldMeaning : std::uint8_t {
  plain,
  input_bits,  ///< the value + 1 is the width of input addresses: what the host's width is held against
  nesting,     ///< the host needs it where it walks the guest's first stage, whether it is offered or not
};
/// Who walks the guest's tables.
enum class CheckMode : std::uint8_t {
  second_stage,  ///< we do: of a real device, mappings are mirrored to the host
  first_stage,   ///< the host does, of the first stage
};
inline constexpr std::size_t check_modes = 2;

/// Capability words of one vendor's IOMMU, as its registers have them.
using VendorWords = std::array<std::uint64_t, 2>;

struct CapabilityField {
  std::string_view name;
  std::uint8_t word = 0;
  BitRange bits;
  std::array<FieldRule, check_modes> rules{};  ///< by mode
  FieldMeaning meaning = FieldMeaning::plain;

  [[nodiscard]] constexpr FieldRule rule(CheckMode mode) const noexcept {
    return rules[static_cast<std::size_t>(mode)];
  }
  [[nodiscard]] constexpr std::uint64_t value(const VendorWords& words) const noexcept {
    return (words[word] & mask_of(bits)) >> bits.low;
  }
  constexpr void put(VendorWords& words, std::uint64_t value) const noexcept {
    words[word] = (words[word] & ~mask_of(bits)) | (value << bits.low & mask_of(bits));
  }
};

/// Widths that a host leaves, or those in force.
struct Widths {
  unsigned input_bits = 0;          ///< of what devices send
  unsigned host_address_width = 0;  ///< of guest memory

  friend constexpr bool operator==(Widths, Widths) = default;
};

/// Called by whoever has the role of the unit's work (vtd/worker.hpp), so by one thread at a time.
struct FrontEnd {
  void* opaque = nullptr;
  std::string_view announcing;  ///< the name of what is missing where the ability is none
  std::uint32_t vendor = 0;     ///< kind of a host whose words can be compared with ours (viommu_host_facts.kind)
  /// One of them means input_bits. None: the front end is of no vendor, and a host's width and words say nothing to it.
  std::span<const CapabilityField> fields;

  AnnounceAbility (*announces)(const void* opaque) = nullptr;
  VendorWords (*words)(const void* opaque) = nullptr;
  unsigned (*host_address_width)(const void* opaque) = nullptr;
  /// Last address of guest memory; nothing while there is none.
  std::optional<Gpa> (*memory_end)(const void* opaque) = nullptr;
  /// First address of a range that is in no region; nothing where all of it is in one or several.
  std::optional<Gpa> (*memory_hole)(const void* opaque, GpaRange range) = nullptr;
  /// The name of what could not be with these widths; empty when all can.
  std::string_view (*problem)(const void* opaque, Widths widths) = nullptr;
  /// Makes them those in force, everywhere, as if the front end had been created with them.
  void (*apply)(void* opaque, Widths widths) = nullptr;

  // Of a front end that tells the guest which sizes mappings may have; null in others.
  /// The lowest bit is the granule.
  std::uint64_t (*page_sizes)(const void* opaque) = nullptr;
  void (*set_page_sizes)(void* opaque, std::uint64_t mask) = nullptr;
};

}  // namespace viommu::machine
