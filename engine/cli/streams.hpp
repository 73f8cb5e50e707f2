// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Where a command reads and writes. A terminal gets colours and progress, anything else plain text.
#pragma once

#include <istream>
#include <ostream>

namespace viommu::cli {

struct Streams {
  std::istream& in;
  std::ostream& out;
  std::ostream& err;
  bool out_is_terminal = false;
  bool err_is_terminal = false;
};

enum class Colour { plain, red, green, yellow, cyan, bold };

/// What switches a colour on; Colour::plain switches all off. Nothing when `on` is false.
[[nodiscard]] constexpr const char* paint(Colour colour, bool on) noexcept {
  if (!on) return "";
  switch (colour) {
    case Colour::plain:  return "\x1b[0m";
    case Colour::red:    return "\x1b[31m";
    case Colour::green:  return "\x1b[32m";
    case Colour::yellow: return "\x1b[33m";
    case Colour::cyan:   return "\x1b[36m";
    case Colour::bold:   return "\x1b[1m";
  }
  return "";
}

}  // namespace viommu::cli
