// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Virtio, "Feature bits" of the IOMMU device, and those of the transport that concern it: what is offered, what a
// driver may accept, and what follows.
#pragma once

#include <cstdint>

#include "engine/base/bits.hpp"
#include "engine/virtqueue/ring.hpp"

namespace viommu::virtio_iommu {

/// Offered, or negotiated.
struct Features {
  std::uint64_t raw = 0;

  friend constexpr bool operator==(Features, Features) = default;
};
namespace features {
// clang-format off
inline constexpr Field<Features, bool>          input_range   {"INPUT_RANGE",   { 0,  0}};
inline constexpr Field<Features, bool>          domain_range  {"DOMAIN_RANGE",  { 1,  1}};
inline constexpr Field<Features, bool>          map_unmap     {"MAP_UNMAP",     { 2,  2}};
inline constexpr Field<Features, bool>          bypass        {"BYPASS",        { 3,  3}};  // superseded, never offered
inline constexpr Field<Features, bool>          probe         {"PROBE",         { 4,  4}};
inline constexpr Field<Features, bool>          mmio          {"MMIO",          { 5,  5}};
inline constexpr Field<Features, bool>          bypass_config {"BYPASS_CONFIG", { 6,  6}};
inline constexpr Field<Features, std::uint32_t> other_7       {"",              {27,  7}};
inline constexpr Field<Features, bool>          indirect      {"INDIRECT_DESC", {28, 28}};
inline constexpr Field<Features, bool>          event_index   {"EVENT_IDX",     {29, 29}};
inline constexpr Field<Features, std::uint32_t> other_30      {"",              {31, 30}};
inline constexpr Field<Features, bool>          version_1     {"VERSION_1",     {32, 32}};
inline constexpr Field<Features, bool>          platform      {"ACCESS_PLATFORM", {33, 33}};  // of an IOMMU: never
inline constexpr Field<Features, bool>          packed        {"RING_PACKED",   {34, 34}};
inline constexpr Field<Features, std::uint32_t> other_35      {"",              {63, 35}};
// clang-format on
inline constexpr auto rows = layout(input_range, domain_range, map_unmap, bypass, probe, mmio, bypass_config, other_7,
                                    indirect, event_index, other_30, version_1, platform, packed, other_35);
}  // namespace features

/// What a device may leave out. The rest is always offered: MAP_UNMAP, without which the device is of no use; both
/// ranges, which are true of any device; VERSION_1, because this is no legacy device.
struct FeatureOptions {
  bool probe = true;
  bool mmio = true;
  bool bypass_config = true;
  bool indirect = true;
  bool event_index = true;
  bool packed = true;
};

[[nodiscard]] constexpr Features offered(const FeatureOptions& options) noexcept {
  Features word{mask_of(features::input_range, features::domain_range, features::map_unmap, features::version_1)};
  word = with(word, features::probe, options.probe);
  word = with(word, features::mmio, options.mmio);
  word = with(word, features::bypass_config, options.bypass_config);
  word = with(word, features::indirect, options.indirect);
  word = with(word, features::event_index, options.event_index);
  word = with(word, features::packed, options.packed);
  return word;
}

/// Whether a device may offer these: never BYPASS beside BYPASS_CONFIG, nothing that is not known, and always VERSION_1
/// and MAP_UNMAP. For words from outside, as in a saved state.
[[nodiscard]] constexpr bool may_offer(Features word) noexcept {
  constexpr std::uint64_t needed = mask_of(features::map_unmap, features::version_1);
  constexpr std::uint64_t unknown =
      mask_of(features::other_7, features::other_30, features::platform, features::other_35);
  return (word.raw & unknown) == 0 && (word.raw & needed) == needed &&
         !(get(word, features::bypass) && get(word, features::bypass_config));
}

/// The answer to FEATURES_OK: whether the device works with what the driver accepted.
[[nodiscard]] constexpr bool acceptable(Features offered, Features accepted) noexcept {
  return (accepted.raw & ~offered.raw) == 0 && get(accepted, features::version_1);
}

/// What the queues go by.
[[nodiscard]] constexpr virtqueue::Features ring_features(Features negotiated) noexcept {
  return {get(negotiated, features::indirect), get(negotiated, features::event_index),
          get(negotiated, features::packed)};
}

/// Whether endpoints without a domain reach memory untranslated. The byte counts wherever it is offered, also before
/// a driver comes, and if it never accepts it; the old feature counts once it is accepted.
[[nodiscard]] constexpr bool unattached_bypass(Features offered, Features negotiated, bool bypass_byte) noexcept {
  if (get(offered, features::bypass_config)) return bypass_byte;
  return get(negotiated, features::bypass);
}

}  // namespace viommu::virtio_iommu
