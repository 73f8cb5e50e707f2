// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Completions that wait for older guards and holds; one that waits for long is logged.
#pragma once

#include <cstdint>
#include <optional>

#include "engine/core/host.hpp"
#include "engine/core/log_limit.hpp"
#include "engine/core/waist.hpp"

namespace viommu::core {

/// How long one has waited.
struct Withheld {
  std::optional<std::uint64_t> since_ns;
  bool told = false;
};

/// Threads: one at a time, whoever has the role of the front end's work.
class Completions {
 public:
  /// @param report_ns  after this long one that waits is logged
  Completions(Waist& waist, const Host& host, std::uint64_t report_ns) noexcept
      : waist_{waist}, host_{host}, report_ns_{report_ns} {}

  /// As Waist::drained(); told in the log once. @param what  in words
  [[nodiscard]] bool drained(const Ticket& ticket, Withheld& withheld, const char* what) noexcept;

 private:
  void log(const char* what, std::uint64_t age_ns) noexcept;

  Waist& waist_;
  const Host& host_;
  const std::uint64_t report_ns_;
  LogLimit withheld_;
};

}  // namespace viommu::core
