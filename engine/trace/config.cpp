// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/trace/config.hpp"

#include <array>
#include <cstddef>

#include "engine/trace/fields.hpp"
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

enum class Form : std::uint8_t { hex, decimal, flag, word };

struct Row {
  std::string_view name;
  Form form;
  bool recording;  // a recording may have it
  bool scenario;   // a scenario may have it
};

// In the order of Key.
constexpr std::array<Row, key_count> rows{{
    {"scenario", Form::flag, true, true},
    {"cap", Form::hex, true, true},
    {"ecap", Form::hex, true, true},
    {"ver", Form::hex, true, true},
    {"aw", Form::decimal, true, false},
    {"haw", Form::decimal, true, true},
    {"compress", Form::flag, true, true},
    {"cm", Form::flag, true, false},
    {"scalable", Form::flag, true, false},
    {"narrow_haw", Form::flag, false, true},
    {"flts", Form::flag, true, true},
    {"share", Form::flag, false, true},
    {"policy", Form::word, false, true},
    {"unknown", Form::word, false, true},
    {"migratable", Form::word, false, true},
    {"fault_limit", Form::decimal, false, true},
    {"quota", Form::decimal, false, true},
}};

/// The values of one line, by key; `text` of a key that is not there is empty.
struct Pairs {
  std::array<std::string_view, key_count> text{};
  std::array<unsigned, key_count> field{};
  ParseError error;

  [[nodiscard]] bool has(Key key) const noexcept { return !text[static_cast<std::size_t>(key)].empty(); }

  void fail(Key key, Problem problem) noexcept {
    const auto i = static_cast<std::size_t>(key);
    if (!error) error = {problem, field[i], rows[i].name, text[i]};
  }
};

Pairs split(std::string_view line, bool scenario) noexcept {
  Pairs pairs;
  Fields fields{line, true};
  // The field numbers of a cfg line: 0 is `cfg`, 1 the kind of unit.
  for (unsigned index = 2; fields.more(); ++index) {
    const std::string_view field = fields.take("key=value");
    if (fields.error()) {
      pairs.error = fields.error();
      pairs.error.field = index;
      return pairs;
    }
    const std::size_t equals = field.find('=');
    const std::string_view name = field.substr(0, equals);
    const std::string_view value = equals == std::string_view::npos ? std::string_view{} : field.substr(equals + 1);
    if (name.empty() || value.empty()) {
      pairs.error = {Problem::not_a_pair, index, "key=value", field};
      return pairs;
    }
    std::size_t key = 0;
    while (key < key_count && rows[key].name != name) ++key;
    const bool known = key < key_count && (scenario ? rows[key].scenario : rows[key].recording);
    if (!known) {
      if (!scenario) continue;
      pairs.error = {Problem::unknown_key, index, "key=value", field};
      return pairs;
    }
    if (!pairs.text[key].empty()) {
      pairs.error = {Problem::repeated_key, index, rows[key].name, field};
      return pairs;
    }
    pairs.text[key] = value;
    pairs.field[key] = index;
  }
  return pairs;
}

std::uint64_t hex(Pairs& pairs, Key key, unsigned bits, std::uint64_t absent) noexcept {
  if (!pairs.has(key)) return absent;
  Fields fields{pairs.text[static_cast<std::size_t>(key)], true};
  const std::uint64_t value = fields.hex({}, bits);
  if (fields.error()) pairs.fail(key, fields.error().problem);
  return value;
}

std::uint64_t decimal(Pairs& pairs, Key key, std::uint64_t largest, std::uint64_t absent) noexcept {
  if (!pairs.has(key)) return absent;
  std::uint64_t value = 0;
  for (const char c : pairs.text[static_cast<std::size_t>(key)]) {
    if (c < '0' || c > '9') {
      pairs.fail(key, Problem::not_decimal);
      return absent;
    }
    const auto digit = static_cast<std::uint64_t>(c - '0');
    if (value > (~std::uint64_t{0} - digit) / 10) {
      pairs.fail(key, Problem::too_large);
      return absent;
    }
    value = value * 10 + digit;
  }
  if (value > largest) pairs.fail(key, Problem::too_large);
  return value;
}

bool flag(Pairs& pairs, Key key, bool absent) noexcept {
  if (!pairs.has(key)) return absent;
  const std::string_view text = pairs.text[static_cast<std::size_t>(key)];
  if (text != "0" && text != "1") pairs.fail(key, Problem::bad_choice);
  return text == "1";
}

/// Whether the second of two words stands there; the first is the default.
bool second_word(Pairs& pairs, Key key, std::string_view first, std::string_view second) noexcept {
  if (!pairs.has(key)) return false;
  const std::string_view text = pairs.text[static_cast<std::size_t>(key)];
  if (text != first && text != second) pairs.fail(key, Problem::bad_choice);
  return text == second;
}

}  // namespace

ParseError parse_vtd_configuration(std::string_view line, VtdConfiguration& configuration) noexcept {
  // Which keys are known depends on `scenario`, which may stand anywhere.
  Pairs pairs = split(line, false);
  if (pairs.error) return pairs.error;
  const bool scenario = flag(pairs, Key::scenario, false);
  if (scenario) pairs = split(line, true);
  constexpr Key required[] = {Key::cap, Key::ecap, Key::aw};
  for (const Key key : required)
    if (!pairs.has(key) && !(key == Key::aw && scenario)) pairs.fail(key, Problem::missing_key);

  VtdConfiguration c;
  c.scenario = scenario;
  c.capability = hex(pairs, Key::cap, 64, 0);
  c.extended_capability = hex(pairs, Key::ecap, 64, 0);
  c.version = static_cast<std::uint32_t>(hex(pairs, Key::ver, 8, 0x10));
  c.address_width = static_cast<unsigned>(decimal(pairs, Key::aw, 64, 0));
  c.host_address_width = static_cast<unsigned>(decimal(pairs, Key::haw, 64, 0));
  c.compress = flag(pairs, Key::compress, true);
  c.caching_mode = flag(pairs, Key::cm, false);
  c.scalable = flag(pairs, Key::scalable, false);
  c.narrow_haw = flag(pairs, Key::narrow_haw, false);
  c.first_stage_checks = flag(pairs, Key::flts, false);
  c.share = flag(pairs, Key::share, false);
  c.policy = second_word(pairs, Key::policy, "check", "sync") ? CapabilityPolicy::sync : CapabilityPolicy::check;
  c.unknown = second_word(pairs, Key::unknown, "closed", "legacy") ? UnknownAbility::legacy : UnknownAbility::closed;
  c.migratable = second_word(pairs, Key::migratable, "any", "only") ? Migratable::only : Migratable::any;
  c.fault_limit = decimal(pairs, Key::fault_limit, ~std::uint64_t{0}, 0);
  c.quota = decimal(pairs, Key::quota, ~std::uint64_t{0}, 0);
  if (!pairs.error) configuration = c;
  return pairs.error;
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
