// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// From a line of text to an event. A line costs one pass over its characters; nothing is allocated.
#pragma once

#include <cstdint>
#include <string_view>

#include "engine/trace/event.hpp"
#include "engine/trace/problem.hpp"

namespace viommu::trace {

/// Reads the lines of one trace in order. What is a right line depends on the cfg line before it: the kind of unit, and
/// whether the trace is a recording (unknown first fields are skipped) or a scenario (they are errors).
class Parser {
 public:
  /// Reads the next line, given without its line feed. On an error `event` is left as it was, and the parser stays
  /// usable.
  [[nodiscard]] ParseError parse(std::string_view line, Event& event) noexcept;

  [[nodiscard]] Family family() const noexcept { return family_; }
  [[nodiscard]] bool scenario() const noexcept { return scenario_; }

 private:
  [[nodiscard]] ParseError parse_other(std::string_view line, Event& event) noexcept;
  [[nodiscard]] ParseError parse_configuration(std::string_view line, Event& event) noexcept;

  bool header_seen_ = false;
  bool scenario_ = false;
  bool plugs_ = false;  // a recording that says which endpoints there are
  Family family_ = Family::none;
};

}  // namespace viommu::trace
