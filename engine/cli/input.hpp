// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Whole files, plain or zstd-compressed, and the lines in them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <istream>
#include <string>
#include <string_view>

namespace viommu::cli {

/// The bytes of a file, or why there are none.
struct Text {
  std::string bytes;
  std::string error;  // empty: all is well
};

/// Reads `path`, or `standard_input` when it is `-`; decompresses what begins like a zstd frame.
[[nodiscard]] Text read_text(const std::string& path, std::istream& standard_input);

/// The lines of a text, without their line feeds.
class Lines {
 public:
  explicit Lines(std::string_view text) noexcept : rest_(text), size_(text.size()) {}

  [[nodiscard]] bool next(std::string_view& line) noexcept;
  /// Of the line next() gave last, from 1.
  [[nodiscard]] std::uint64_t number() const noexcept { return number_; }
  /// Whether that line ended with a line feed.
  [[nodiscard]] bool ended() const noexcept { return ended_; }
  /// Bytes behind us.
  [[nodiscard]] std::size_t position() const noexcept { return size_ - rest_.size(); }

 private:
  std::string_view rest_;
  std::size_t size_;
  std::uint64_t number_ = 0;
  bool ended_ = true;
};

}  // namespace viommu::cli
