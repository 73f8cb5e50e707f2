// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// From a trace's text to events: one by one while a replay runs, or all beforehand.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "engine/cli/input.hpp"
#include "engine/cli/report.hpp"
#include "engine/trace/event.hpp"
#include "engine/trace/parse.hpp"

namespace viommu::cli {

/// Reads the events of one trace in order.
class EventReader {
 public:
  explicit EventReader(std::string_view text) noexcept : text_(text), lines_(text) {}

  /// The next line's event. False at the end of the trace, and when something is wrong with it.
  [[nodiscard]] bool next(trace::Event& event);

  [[nodiscard]] std::uint64_t line() const noexcept { return lines_.number(); }
  [[nodiscard]] std::size_t position() const noexcept { return lines_.position(); }
  [[nodiscard]] const std::optional<TraceError>& error() const noexcept { return error_; }

 private:
  std::string_view text_;
  Lines lines_;
  trace::Parser parser_;
  std::optional<TraceError> error_;
};

/// An event and the line it is from.
struct NumberedEvent {
  trace::Event event;
  std::uint64_t line = 0;
};

/// All events of a trace; `text` must outlive them.
struct ParsedTrace {
  std::vector<NumberedEvent> events;
  std::optional<TraceError> error;
};
[[nodiscard]] ParsedTrace parse_trace(std::string_view text);

/// Whether a line of the trace begins with the word `ram`.
[[nodiscard]] bool has_ram_line(std::string_view text) noexcept;

}  // namespace viommu::cli
