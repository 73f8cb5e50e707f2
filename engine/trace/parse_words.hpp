// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The part of the parser that is about the words of scenarios.
#pragma once

#include <optional>
#include <string_view>

#include "engine/trace/event.hpp"
#include "engine/trace/fields.hpp"
#include "engine/trace/problem.hpp"

namespace viommu::trace {

/// Ends the line and hands the event over when all of it was right.
template <class E>
ParseError finish(Fields& fields, const E& value, Event& event) noexcept {
  fields.end();
  if (!fields.error()) event = value;
  return fields.error();
}

/// The line of a scenario's word; nothing for a word that is none.
[[nodiscard]] std::optional<ParseError> parse_word(std::string_view word, Fields fields, Event& event) noexcept;

}  // namespace viommu::trace
