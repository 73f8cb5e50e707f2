// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include <array>
#include <cstddef>

#include "engine/trace/config.hpp"
#include "engine/trace/config_choices.hpp"
#include "engine/trace/pairs.hpp"
#include "engine/trace/pairs_out.hpp"

namespace viommu::trace {
namespace {

enum class Key : std::uint8_t {
  scenario,
  features,
  page_size_mask,
  input,
  domain,
  probe_size,
  boot_bypass,
  resv,
  bypass,
  plugs,
  detach,
  domains,
  mappings,
  endpoints,
  share,
  unknown,
  migratable,
  fault_limit,
  quota
};
constexpr std::size_t key_count = static_cast<std::size_t>(Key::quota) + 1;

// In the order of Key.
constexpr std::array<KeyRow, key_count> rows{{
    {"scenario", true, true},    {"features", true, true},     {"page_size_mask", true, true}, {"input", true, true},
    {"domain", true, true},      {"probe_size", true, true},   {"boot_bypass", true, true},    {"resv", true, true},
    {"bypass", true, false},     {"plugs", true, false},       {"detach", true, true},         {"domains", true, true},
    {"mappings", true, true},    {"endpoints", true, true},    {"share", false, true},         {"unknown", false, true},
    {"migratable", false, true}, {"fault_limit", false, true}, {"quota", false, true},
}};

using VirtioPairs = Pairs<Key, key_count>;

}  // namespace

ParseError parse_virtio_configuration(std::string_view line, VirtioConfiguration& configuration) noexcept {
  constexpr std::uint64_t any = ~std::uint64_t{0};
  constexpr std::uint32_t most_regions = 0xffff;
  VirtioPairs pairs{line, rows};
  for (const Key key : {Key::features, Key::page_size_mask}) pairs.require(key);

  VirtioConfiguration c;
  c.scenario = pairs.scenario();
  c.features = pairs.hex(Key::features, 64, 0);
  c.page_size_mask = pairs.hex(Key::page_size_mask, 64, 0);
  pairs.range(Key::input, 64, c.input_first, c.input_last);
  std::uint64_t domain_first = c.domain_first;
  std::uint64_t domain_last = c.domain_last;
  pairs.range(Key::domain, 32, domain_first, domain_last);
  c.domain_first = static_cast<std::uint32_t>(domain_first);
  c.domain_last = static_cast<std::uint32_t>(domain_last);
  c.probe_size = static_cast<std::uint32_t>(pairs.hex(Key::probe_size, 32, 0));
  c.boot_bypass = pairs.flag(Key::boot_bypass, false);
  c.reserved_regions = static_cast<std::uint32_t>(pairs.decimal(Key::resv, most_regions, 0));
  c.bypass = pairs.flag(Key::bypass, c.boot_bypass);
  c.plugs = pairs.flag(Key::plugs, false);
  c.strict_detach = pairs.second_word(Key::detach, "lenient", "strict");
  c.domains = pairs.decimal(Key::domains, any, 0);
  c.mappings = pairs.decimal(Key::mappings, any, 0);
  c.endpoints = pairs.decimal(Key::endpoints, any, 0);
  c.share = pairs.flag(Key::share, false);
  read_choices(pairs, c);
  if (!pairs.error()) configuration = c;
  return pairs.error();
}

std::string_view format_virtio_configuration(const VirtioConfiguration& c, std::span<char> out) noexcept {
  PairsOut pairs{out};
  if (c.scenario) pairs.flag("scenario", true);
  pairs.pair("page_size_mask").hex(c.page_size_mask);
  pairs.pair("input").hex(c.input_first).word("-").hex(c.input_last);
  pairs.pair("domain").hex(c.domain_first).word("-").hex(c.domain_last);
  pairs.pair("probe_size").hex(c.probe_size);
  if (!c.scenario) pairs.flag("bypass", c.bypass);
  pairs.flag("boot_bypass", c.boot_bypass);
  pairs.pair("features").hex(c.features);
  pairs.pair("resv").decimal(c.reserved_regions);
  if (c.plugs) pairs.flag("plugs", true);
  if (c.scenario || c.plugs) {
    pairs.pair("detach").word(c.strict_detach ? "strict" : "lenient");
    pairs.pair("domains").decimal(c.domains);
    pairs.pair("mappings").decimal(c.mappings);
    pairs.pair("endpoints").decimal(c.endpoints);
  }
  if (c.scenario) {
    pairs.flag("share", c.share);
    write_choices(pairs, c);
  }
  return pairs.text();
}

}  // namespace viommu::trace
