// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Where the choices of an execution come from: who goes on, and which of several stores a load returns.
//
//   search   all executions with a bounded number of preemptions and of loads that do not return the newest store
//   random   the fiber of the highest priority goes on, priorities change at a few random steps (PCT); or a coin at
//   each
//            step; loads return an older store now and then
// Any execution can be had again: by the number it was begun with, or by the list of its choices.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tests/harness/memory.hpp"

namespace viommu::harness {

class Schedule {
 public:
  /// Bounds of a search.
  struct Bounds {
    unsigned preemptions = 2;
    unsigned old_loads = 2;
  };

  void begin_search(const Bounds& bounds);
  void begin_random(std::uint64_t seed);
  /// As name() gave it. @return false when that cannot be read.
  [[nodiscard]] bool begin_replay(std::string_view name);
  /// After an execution of a search: makes ready the next one. @return false when there is none
  [[nodiscard]] bool next();

  /// Who goes on. @param ready  in ascending order, not empty; @param current  may be among them
  /// @param yields  the current one has nothing to do before another has gone on
  [[nodiscard]] std::size_t fiber(std::span<const std::size_t> ready, std::size_t current, bool yields);
  /// Whether a fiber that waits lets another one go on; a thread that spins need not, the others may stand still.
  [[nodiscard]] bool gives_way() noexcept;
  /// The age of the store that a load of `fiber` returns. @param count  of those it may
  [[nodiscard]] std::size_t age(std::size_t count, std::size_t fiber);
  /// What brings this execution about again.
  [[nodiscard]] std::string name() const;

 private:
  enum class Kind : std::uint8_t { search, random, replay };
  struct Choice {
    std::uint32_t taken = 0;
    std::uint32_t count = 0;
  };

  [[nodiscard]] std::size_t choose(std::size_t count);
  [[nodiscard]] std::uint64_t random() noexcept;
  void start_random() noexcept;

  Kind kind_ = Kind::random;
  Bounds bounds_{};
  unsigned preemptions_left_ = 0;
  unsigned old_loads_left_ = 0;
  std::vector<Choice> choices_;
  std::size_t at_ = 0;

  std::uint64_t seed_ = 0;
  std::uint64_t state_ = 0;
  std::uint64_t steps_ = 0;
  std::array<std::uint64_t, most_fibers> priorities_{};
  std::array<std::uint64_t, 4> changes_{};  ///< steps at which the current fiber falls behind all others
  std::uint64_t coin_ = 0;                  ///< a change of fiber each so many steps instead of priorities; 0: none
  std::uint64_t old_of_ = 4;                ///< one load of so many returns an old store
  std::size_t behind_ = 0;                  ///< a fiber that sees the oldest of everything,
  std::uint64_t behind_for_ = 0;            ///< up to this step
  std::uint64_t gives_way_of_ = 1;          ///< and one pause of so many lets another fiber go on
};

}  // namespace viommu::harness
