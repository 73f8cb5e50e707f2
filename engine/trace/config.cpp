// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/trace/config.hpp"

#include <array>
#include <cstddef>

#include "engine/trace/pairs.hpp"
#include "engine/trace/text_out.hpp"

namespace viommu::trace {
namespace {

enum class Key : std::uint8_t {
  scenario,
  cap,
  ecap,
  ver,
  aw,
  haw,
  compress,
  cm,
  scalable,
  narrow_haw,
  flts,
  share,
  policy,
  unknown,
  migratable,
  fault_limit,
  quota
};
constexpr std::size_t key_count = static_cast<std::size_t>(Key::quota) + 1;

// In the order of Key.
constexpr std::array<KeyRow, key_count> rows{{
    {"scenario", true, true},
    {"cap", true, true},
    {"ecap", true, true},
    {"ver", true, true},
    {"aw", true, false},
    {"haw", true, true},
    {"compress", true, true},
    {"cm", true, false},
    {"scalable", true, false},
    {"narrow_haw", false, true},
    {"flts", true, true},
    {"share", false, true},
    {"policy", false, true},
    {"unknown", false, true},
    {"migratable", false, true},
    {"fault_limit", false, true},
    {"quota", false, true},
}};

using VtdPairs = Pairs<Key, key_count>;

}  // namespace

ParseError parse_vtd_configuration(std::string_view line, VtdConfiguration& configuration) noexcept {
  // Which keys are known depends on `scenario`, which may stand anywhere.
  VtdPairs first{line, rows, false};
  if (first.error()) return first.error();
  const bool scenario = first.flag(Key::scenario, false);
  if (first.error()) return first.error();
  VtdPairs pairs{line, rows, scenario};
  for (const Key key : {Key::cap, Key::ecap}) pairs.require(key);
  if (!scenario) pairs.require(Key::aw);

  VtdConfiguration c;
  c.scenario = scenario;
  c.capability = pairs.hex(Key::cap, 64, 0);
  c.extended_capability = pairs.hex(Key::ecap, 64, 0);
  c.version = static_cast<std::uint32_t>(pairs.hex(Key::ver, 8, 0x10));
  c.address_width = static_cast<unsigned>(pairs.decimal(Key::aw, 64, 0));
  c.host_address_width = static_cast<unsigned>(pairs.decimal(Key::haw, 64, 0));
  c.compress = pairs.flag(Key::compress, true);
  c.caching_mode = pairs.flag(Key::cm, false);
  c.scalable = pairs.flag(Key::scalable, false);
  c.narrow_haw = pairs.flag(Key::narrow_haw, false);
  c.first_stage_checks = pairs.flag(Key::flts, false);
  c.share = pairs.flag(Key::share, false);
  c.policy = pairs.second_word(Key::policy, "check", "sync") ? CapabilityPolicy::sync : CapabilityPolicy::check;
  c.unknown = pairs.second_word(Key::unknown, "closed", "legacy") ? UnknownAbility::legacy : UnknownAbility::closed;
  c.migratable = pairs.second_word(Key::migratable, "any", "only") ? Migratable::only : Migratable::any;
  c.fault_limit = pairs.decimal(Key::fault_limit, ~std::uint64_t{0}, 0);
  c.quota = pairs.decimal(Key::quota, ~std::uint64_t{0}, 0);
  if (!pairs.error()) configuration = c;
  return pairs.error();
}

std::string_view format_vtd_configuration(const VtdConfiguration& c, std::span<char> out) noexcept {
  TextOut text{out};
  const auto pair = [&text](std::string_view key) -> TextOut& {
    if (!text.view().empty()) text.word(" ");
    return text.word(key).word("=");
  };
  const auto flag_pair = [&pair](std::string_view key, bool value) { pair(key).word(value ? "1" : "0"); };
  if (c.scenario) flag_pair("scenario", true);
  if (!c.scenario) pair("aw").decimal(c.address_width);
  pair("cap").hex(c.capability);
  pair("ecap").hex(c.extended_capability);
  pair("ver").hex(c.version);
  if (c.host_address_width != 0) pair("haw").decimal(c.host_address_width);
  flag_pair("compress", c.compress);
  flag_pair("flts", c.first_stage_checks);
  if (c.scenario) {
    flag_pair("narrow_haw", c.narrow_haw);
    flag_pair("share", c.share);
    pair("policy").word(c.policy == CapabilityPolicy::sync ? "sync" : "check");
    pair("unknown").word(c.unknown == UnknownAbility::legacy ? "legacy" : "closed");
    pair("migratable").word(c.migratable == Migratable::only ? "only" : "any");
    pair("fault_limit").decimal(c.fault_limit);
    pair("quota").decimal(c.quota);
  } else {
    flag_pair("cm", c.caching_mode);
    flag_pair("scalable", c.scalable);
  }
  return text.fits() ? text.view() : std::string_view{};
}

}  // namespace viommu::trace
