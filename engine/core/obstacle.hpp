// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What keeps a front end from being quiet, and whose it is.
#pragma once

#include <cstdint>

#include "engine/base/ids.hpp"

namespace viommu::core {

class Waist;
struct Ticket;

struct Obstacle {
  const char* what = nullptr;  ///< a constant word; null: nothing is in the way
  const char* words = "";
  std::uint64_t owner = 0;  ///< of a hold or region its cookie, of a device its source id, else how many there are
  SourceId source{};        ///< of a device

  [[nodiscard]] explicit operator bool() const noexcept { return what != nullptr; }
};

/// What a ticket waits for.
[[nodiscard]] Obstacle delay_of(const Waist& waist, const Ticket& ticket) noexcept;
/// A hold that is open for writing.
[[nodiscard]] Obstacle open_hold(const Waist& waist) noexcept;
/// A region that was removed and may still be in use. For the role.
[[nodiscard]] Obstacle removed_region(Waist& waist) noexcept;

}  // namespace viommu::core
