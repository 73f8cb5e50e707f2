// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/core/completions.hpp"

#include <array>
#include <cinttypes>
#include <cstdio>

namespace viommu::core {

bool Completions::drained(const Ticket& ticket, Withheld& withheld, const char* what) noexcept {
  if (waist_.drained(ticket)) return true;
  if (withheld.told) return false;
  const std::uint64_t now_ns = host_.now_ns();  // 0 without a clock: nothing is late then
  if (!withheld.since_ns) withheld.since_ns = now_ns;
  if (now_ns < *withheld.since_ns || now_ns - *withheld.since_ns < report_ns_) return false;
  withheld.told = true;
  log(what, now_ns - *withheld.since_ns);
  return false;
}

void Completions::log(const char* what, std::uint64_t age_ns) noexcept {
  const std::uint64_t times = withheld_.happened();
  if (times == 0 || !host_.has_log()) return;
  constexpr std::uint64_t ns_per_ms = 1'000'000;
  std::array<char, 192> text;
  std::snprintf(text.data(), text.size(),
                "completion of %s withheld for %" PRIu64
                " ms: an older guard or hold is still open; withheld so far: "
                "%" PRIu64,
                what, age_ns / ns_per_ms, times);
  host_.log(LogLevel::warning, text.data());
}

}  // namespace viommu::core
