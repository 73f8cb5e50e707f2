// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What is wrong with a line of a trace, said so that the line can be put right.
#pragma once

#include <cstdint>
#include <string_view>

namespace viommu::trace {

enum class Problem : std::uint8_t {
  none,
  missing_header,  // the first line is something else
  other_version,   // a header of another version of the format
  empty_line,      // in a recording
  not_text,        // the first field is no word: binary data, control characters
  too_few_fields,
  too_many_fields,
  empty_field,  // two spaces in a row, or one at an end of the line
  not_hex,
  upper_case,
  too_long,   // more digits than the field can have
  too_large,  // a value beyond the field's width
  not_decimal,
  bad_choice,  // none of the words the field can be
  bad_size,
  wider_than_size,   // VALUE does not fit in SIZE bytes
  bad_range,         // LEN 0, or a range past the last address
  no_configuration,  // an event before cfg
  second_configuration,
  unknown_family,   // cfg of something that is no unit
  family_mismatch,  // a line of the other kind of unit
  unknown_key,
  repeated_key,
  missing_key,
  not_a_pair,     // a cfg field without '='
  unknown_word,   // a scenario's first field that the format does not have
  recorded_only,  // a letter that recordings have and scenarios have not
};

/// The first thing wrong with a line. `field` counts from 0, the first field of the line; `name` is the name the format
/// gives the field ("" when it has none), `text` what stands there. Both views live as long as the line.
struct ParseError {
  Problem problem = Problem::none;
  unsigned field = 0;
  std::string_view name;
  std::string_view text;
  friend constexpr bool operator==(const ParseError&, const ParseError&) = default;
  [[nodiscard]] constexpr explicit operator bool() const noexcept { return problem != Problem::none; }
};

/// One constant phrase for a problem, without a full stop.
[[nodiscard]] std::string_view phrase(Problem problem) noexcept;

}  // namespace viommu::trace
