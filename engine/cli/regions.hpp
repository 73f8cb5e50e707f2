// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Where the machine of a scenario has memory, and what each part of it may be used for.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "engine/cli/ranges.hpp"

namespace viommu::cli {

class Regions {
 public:
  enum class State : std::uint8_t { there, discarded, private_memory, removed };
  /// One `ram` line.
  struct Region {
    Range range;
    bool mmio = false;
  };
  /// A part of one that is all alike.
  struct Part {
    Range range;
    bool mmio = false;
    State state = State::there;
  };

  /// The caller has seen that it overlaps nothing.
  void add(Range range, bool mmio);
  void remove(const Region& region);
  void set(Range range, State state);

  [[nodiscard]] const std::vector<Region>& regions() const noexcept { return regions_; }
  [[nodiscard]] const std::vector<Part>& parts() const noexcept { return parts_; }
  /// The region that all of the range lies in.
  [[nodiscard]] const Region* around(Range range) const noexcept;
  [[nodiscard]] bool overlaps(Range range) const noexcept;

  /// Whether a consumer may map all of it, and whether all of it is (true) or none of it is a device's.
  [[nodiscard]] std::optional<bool> usable(Range range, bool private_too) const noexcept;
  /// Whether a part begins or ends at an end of the range.
  [[nodiscard]] bool has_edge(Range range) const noexcept;
  /// Whether the unit itself may read there.
  [[nodiscard]] bool withheld(std::uint64_t gpa) const noexcept;

 private:
  std::vector<Region> regions_;  // in the order of their lines
  std::vector<Part> parts_;      // ascending, apart
};

}  // namespace viommu::cli
