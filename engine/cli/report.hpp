// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What came out of one replay: counts by kind, the first mismatches, and the error that ended it early.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace viommu::cli {

struct Mismatch {
  std::uint64_t line = 0;
  std::string event;  // the line as the format writes it
  std::string expected;
  std::string found;
};

/// The file is at fault, not the engine. Line 0: the file as a whole.
struct TraceError {
  std::uint64_t line = 0;
  std::string text;
};

struct Report {
  static constexpr std::size_t kept_mismatches = 10;

  std::uint64_t events = 0;
  std::uint64_t translations = 0;
  std::uint64_t matches = 0;         // answers compared and equal
  std::uint64_t stale = 0;           // answered from tables that changed, where the recording's cache was older
  std::uint64_t dropped_access = 0;  // the emulator said ok and dropped the access
  std::uint64_t mismatches = 0;
  std::map<std::string, std::uint64_t> artefacts;   // by the row's name
  std::map<std::string, std::uint64_t> deviations;  // "recorded -> ours"
  std::map<std::string, std::uint64_t> skipped;     // by first field
  std::vector<Mismatch> first_mismatches;
  std::optional<TraceError> error;
  double seconds = 0;

  void mismatch(Mismatch what) {
    ++mismatches;
    if (first_mismatches.size() < kept_mismatches) first_mismatches.push_back(std::move(what));
  }
  /// The process's exit code for this file.
  [[nodiscard]] int exit_code() const noexcept { return error ? 2 : mismatches != 0 ? 1 : 0; }
};

}  // namespace viommu::cli
