// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What both kinds of ring have: where they are, how far both sides have come, and what broke them.
#pragma once

#include <cstdint>

#include "engine/base/address.hpp"
#include "engine/virtqueue/problem.hpp"

namespace viommu::virtqueue {

/// Negotiated.
struct Features {
  bool indirect = false;
  bool event_index = false;
  bool packed = false;

  friend constexpr bool operator==(Features, Features) = default;
};

/// Of one queue, as the driver set it up. The areas have the names of Virtio, "Virtqueues".
struct Config {
  std::uint16_t size = 0;  ///< entries
  Gpa descriptor_area;     ///< split: descriptor table; packed: descriptor ring
  Gpa driver_area;         ///< split: available ring; packed: the driver's event suppression
  Gpa device_area;         ///< split: used ring; packed: the device's event suppression
  Features features;

  friend constexpr bool operator==(const Config&, const Config&) = default;
};

inline constexpr std::uint16_t most_entries = 32768;

enum class ConfigProblem : std::uint8_t {
  none,
  size,       ///< 0, above 32768, or no power of two in a split ring
  alignment,  ///< of an area
  address,    ///< an area wraps around the end of memory
};
[[nodiscard]] ConfigProblem problem_of(const Config& config) noexcept;

/// How far a queue has come: all that is saved of it. A position of a split ring counts on for ever, one of a packed
/// ring is an entry, with a counter that turns over when it wraps.
struct State {
  std::uint16_t next_available = 0;
  std::uint16_t next_used = 0;
  bool available_wrap = true;
  bool used_wrap = true;
  std::uint32_t unannounced = 0;  ///< entries put since the driver's wish for notifications was last looked at

  friend constexpr bool operator==(const State&, const State&) = default;
};
/// Whether a queue can have come so far; for states from outside.
[[nodiscard]] bool possible(const Config& config, const State& state) noexcept;

enum class Taken : std::uint8_t { chain, empty, broken };

/// What the driver was last told about notifications of its own.
enum class Listening : std::uint8_t { unknown, no, yes };

struct Ring {
  Config config;
  State state;
  std::uint16_t announced = 0;  ///< split: the driver's index as it was last read; chains before it need no second look
  Listening listening = Listening::unknown;
  Problem problem = Problem::none;

  /// The ring is not used again until it is set up anew.
  Taken fail(Problem what) noexcept {
    problem = what;
    return Taken::broken;
  }
};

}  // namespace viommu::virtqueue
