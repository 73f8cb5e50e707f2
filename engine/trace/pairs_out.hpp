// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// key=value pairs into a buffer of the caller's, a blank between them.
#pragma once

#include <span>
#include <string_view>

#include "engine/trace/text_out.hpp"

namespace viommu::trace {

class PairsOut {
 public:
  explicit PairsOut(std::span<char> out) noexcept : text_{out} {}

  /// The value is for the caller to write.
  TextOut& pair(std::string_view key) noexcept {
    if (!text_.view().empty()) text_.word(" ");
    return text_.word(key).word("=");
  }
  void flag(std::string_view key, bool value) noexcept { pair(key).word(value ? "1" : "0"); }
  /// Empty when something did not fit.
  [[nodiscard]] std::string_view text() const noexcept { return text_.fits() ? text_.view() : std::string_view{}; }

 private:
  TextOut text_;
};

}  // namespace viommu::trace
