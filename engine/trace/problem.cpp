// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/trace/problem.hpp"

namespace viommu::trace {

std::string_view phrase(Problem problem) noexcept {
  switch (problem) {
    case Problem::none:                 return "nothing is wrong";
    case Problem::missing_header:       return "the first line must be '# viommu-trace 1'";
    case Problem::other_version:        return "only version 1 of the trace format is known";
    case Problem::empty_line:           return "an empty line in a recording";
    case Problem::not_text:             return "this is no line of a trace (binary data?)";
    case Problem::too_few_fields:       return "a field is missing";
    case Problem::too_many_fields:      return "there are too many fields";
    case Problem::empty_field:          return "fields must be split by exactly one space";
    case Problem::not_hex:              return "not a hex number";
    case Problem::upper_case:           return "hex digits must be lower case";
    case Problem::too_long:             return "a number with too many digits";
    case Problem::too_large:            return "a number too large for this field";
    case Problem::not_decimal:          return "not a decimal number";
    case Problem::bad_choice:           return "not one of the words this field can be";
    case Problem::bad_size:             return "not a size this access can have";
    case Problem::wider_than_size:      return "the value does not fit in SIZE bytes";
    case Problem::bad_range:            return "the range is empty or goes past the last address";
    case Problem::no_configuration:     return "an event before the cfg line";
    case Problem::second_configuration: return "a second cfg line";
    case Problem::unknown_family:       return "cfg must be of vtd, virtio or resv";
    case Problem::family_mismatch:      return "this line belongs to a trace of the other kind of unit";
    case Problem::unknown_key:          return "a cfg key that the format does not have";
    case Problem::repeated_key:         return "a cfg key that is there twice";
    case Problem::missing_key:          return "a cfg key is missing";
    case Problem::not_a_pair:           return "cfg fields must be key=value";
    case Problem::unknown_word:         return "a scenario cannot have this first field";
    case Problem::recorded_only:        return "only recordings have this letter";
  }
  return "";
}

}  // namespace viommu::trace
