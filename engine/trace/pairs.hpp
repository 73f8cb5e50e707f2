// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The key=value pairs of a cfg line, by a table of the keys that a kind of unit has.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "engine/trace/fields.hpp"
#include "engine/trace/problem.hpp"

namespace viommu::trace {

struct KeyRow {
  std::string_view name;
  bool recording;  ///< a recording may have it
  bool scenario;   ///< a scenario may have it
};

/// The values of one line. The first thing that is wrong is kept, as in Fields.
/// @tparam Key  an enumeration in the order of `rows`; `scenario` is one of them
template <class Key, std::size_t count>
class Pairs {
 public:
  using Rows = std::array<KeyRow, count>;

  /// A recording may have keys that are not known here; a scenario may not.
  Pairs(std::string_view line, const Rows& rows) noexcept : rows_{rows} {
    split(line);  // which keys are known depends on `scenario`, which may stand anywhere
    scenario_ = flag(Key::scenario, false);
    if (!scenario_ || error_) return;
    text_ = {};
    split(line);
  }

  [[nodiscard]] bool scenario() const noexcept { return scenario_; }
  [[nodiscard]] const ParseError& error() const noexcept { return error_; }
  [[nodiscard]] bool has(Key key) const noexcept { return !text(key).empty(); }
  void require(Key key) noexcept {
    if (!has(key)) fail(key, Problem::missing_key);
  }

  std::uint64_t hex(Key key, unsigned bits, std::uint64_t absent) noexcept {
    if (!has(key)) return absent;
    Fields fields{text(key), true};
    const std::uint64_t value = fields.hex({}, bits);
    if (fields.error()) fail(key, fields.error().problem);
    return value;
  }
  std::uint64_t decimal(Key key, std::uint64_t largest, std::uint64_t absent) noexcept {
    if (!has(key)) return absent;
    Fields fields{text(key), true};
    const std::uint64_t value = fields.decimal({}, largest);
    if (!fields.error()) return value;
    fail(key, fields.error().problem);
    return absent;
  }
  bool flag(Key key, bool absent) noexcept { return has(key) ? second_word(key, "0", "1") : absent; }
  /// Whether the second of two words stands there; the first is the default.
  bool second_word(Key key, std::string_view first, std::string_view second) noexcept {
    if (!has(key)) return false;
    if (text(key) != first && text(key) != second) fail(key, Problem::bad_choice);
    return text(key) == second;
  }
  /// FIRST-LAST of `bits` each; `first` and `last` keep what they are when it is not there.
  void range(Key key, unsigned bits, std::uint64_t& first, std::uint64_t& last) noexcept {
    if (!has(key)) return;
    const std::size_t dash = text(key).find('-');
    if (dash == std::string_view::npos) return fail(key, Problem::bad_range);
    Fields low{text(key).substr(0, dash), true};
    Fields high{text(key).substr(dash + 1), true};
    const std::uint64_t from = low.hex({}, bits);
    const std::uint64_t to = high.hex({}, bits);
    if (low.error()) return fail(key, low.error().problem);
    if (high.error()) return fail(key, high.error().problem);
    if (to < from) return fail(key, Problem::bad_range);
    first = from;
    last = to;
  }

 private:
  [[nodiscard]] std::string_view text(Key key) const noexcept { return text_[static_cast<std::size_t>(key)]; }
  void fail(Key key, Problem problem) noexcept {
    const auto i = static_cast<std::size_t>(key);
    if (!error_) error_ = {problem, field_[i], rows_[i].name, text_[i]};
  }
  void split(std::string_view line) noexcept {
    Fields fields{line, true};
    // The field numbers of a cfg line: 0 is `cfg`, 1 the kind of unit.
    for (unsigned index = 2; fields.more(); ++index) {
      const std::string_view field = fields.take("key=value");
      if (fields.error()) {
        error_ = fields.error();
        error_.field = index;
        return;
      }
      const std::size_t equals = field.find('=');
      const std::string_view name = field.substr(0, equals);
      const std::string_view value = equals == std::string_view::npos ? std::string_view{} : field.substr(equals + 1);
      if (name.empty() || value.empty()) {
        error_ = {Problem::not_a_pair, index, "key=value", field};
        return;
      }
      std::size_t key = 0;
      while (key < count && rows_[key].name != name) ++key;
      const bool known = key < count && (scenario_ ? rows_[key].scenario : rows_[key].recording);
      if (!known && !scenario_) continue;
      if (!known) {
        error_ = {Problem::unknown_key, index, "key=value", field};
        return;
      }
      if (!text_[key].empty()) {
        error_ = {Problem::repeated_key, index, rows_[key].name, field};
        return;
      }
      text_[key] = value;
      field_[key] = index;
    }
  }

  const Rows& rows_;
  std::array<std::string_view, count> text_{};  ///< empty where the key is not there
  std::array<unsigned, count> field_{};
  bool scenario_ = false;
  ParseError error_;
};

}  // namespace viommu::trace
