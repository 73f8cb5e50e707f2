// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/trace/config.hpp"

#include <array>
#include <cstddef>

#include "engine/trace/config_choices.hpp"
#include "engine/trace/pairs.hpp"
#include "engine/trace/pairs_out.hpp"

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
  VtdPairs pairs{line, rows};
  for (const Key key : {Key::cap, Key::ecap}) pairs.require(key);
  if (!pairs.scenario()) pairs.require(Key::aw);

  VtdConfiguration c;
  c.scenario = pairs.scenario();
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
  read_choices(pairs, c);
  if (!pairs.error()) configuration = c;
  return pairs.error();
}

std::string_view format_vtd_configuration(const VtdConfiguration& c, std::span<char> out) noexcept {
  PairsOut pairs{out};
  if (c.scenario) pairs.flag("scenario", true);
  if (!c.scenario) pairs.pair("aw").decimal(c.address_width);
  pairs.pair("cap").hex(c.capability);
  pairs.pair("ecap").hex(c.extended_capability);
  pairs.pair("ver").hex(c.version);
  if (c.host_address_width != 0) pairs.pair("haw").decimal(c.host_address_width);
  pairs.flag("compress", c.compress);
  pairs.flag("flts", c.first_stage_checks);
  if (c.scenario) {
    pairs.flag("narrow_haw", c.narrow_haw);
    pairs.flag("share", c.share);
    pairs.pair("policy").word(c.policy == CapabilityPolicy::sync ? "sync" : "check");
    write_choices(pairs, c);
  } else {
    pairs.flag("cm", c.caching_mode);
    pairs.flag("scalable", c.scalable);
  }
  return pairs.text();
}

}  // namespace viommu::trace
