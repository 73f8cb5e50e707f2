// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/cli/trace_file.hpp"

#include "engine/cli/messages.hpp"

namespace viommu::cli {

bool EventReader::next(trace::Event& event) {
  std::string_view line;
  if (!lines_.next(line)) {
    if (text_.empty())
      error_ = TraceError{0, "the file is empty"};
    else if (parser_.family() == trace::Family::none)
      error_ = TraceError{lines_.number(), "the trace ends without a cfg line"};
    return false;
  }
  if (const trace::ParseError wrong = parser_.parse(line, event)) {
    error_ = TraceError{lines_.number(), text_of(wrong)};
    return false;
  }
  // A recording is written by a program, so a last line without its end was cut off, perhaps inside a number.
  if (!lines_.ended() && !parser_.scenario()) {
    error_ = TraceError{lines_.number(), "the last line is cut off: it has no line feed"};
    return false;
  }
  return true;
}

ParsedTrace parse_trace(std::string_view text) {
  ParsedTrace trace;
  EventReader reader{text};
  trace::Event event;
  while (reader.next(event)) trace.events.push_back({event, reader.line()});
  trace.error = reader.error();
  return trace;
}

bool has_ram_line(std::string_view text) noexcept {
  return text.starts_with("ram ") || text.find("\nram ") != std::string_view::npos;
}

}  // namespace viommu::cli
