// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What the decoders of tables.hpp share: words into fields, reasons into words.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "engine/base/bits.hpp"
#include "engine/base/fault.hpp"
#include "engine/cli/messages.hpp"
#include "engine/cli/tables.hpp"

namespace viommu::cli {

/// The fields of a word. Bits of `must_be_zero` that are set make their field wrong.
template <class Layout, class Rows>
std::vector<ShownField> fields_of(Layout word, const Rows& rows, std::uint64_t must_be_zero) {
  std::vector<ShownField> fields;
  for (const Row& row : rows) {
    const std::uint64_t value = row.value_in(word.raw);
    const bool wrong = (word.raw & row.mask() & must_be_zero) != 0;
    if (!wrong && (row.rule == Rule::ignored || (row.rule == Rule::reserved && value == 0))) continue;
    fields.push_back({row.name, row.bits, value, wrong});
  }
  return fields;
}

/// The word at an address; `word` is as it was when there is no memory.
template <class Layout, class Rows>
ShownWord word_at(const Memory& memory, std::string title, std::uint64_t gpa, const Rows& rows, Layout& word) {
  ShownWord shown{std::move(title), gpa, memory.load(gpa), {}, {}};
  if (shown.raw) word = Layout{*shown.raw};
  if (shown.raw) shown.fields = fields_of(word, rows, 0);
  return shown;
}

inline Verdict verdict(FaultReason reason) {
  const auto code = static_cast<std::uint8_t>(reason);
  return {code, "fault " + hex(code) + ": " + std::string{reason_text(code)}};
}

}  // namespace viommu::cli
