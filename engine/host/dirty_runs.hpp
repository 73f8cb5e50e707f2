// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// From bits of a bitmap to runs of guest pages: contiguous in iova and gpa, however many mappings they go through.
#pragma once

#include <viommu/viommu_host.h>

#include <array>
#include <bit>
#include <cstdint>
#include <span>

#include "engine/host/mappings.hpp"

namespace viommu::host {

/// Tells a sink what is added, a part of a run at a time, and the rest when it goes.
class DirtyRuns {
 public:
  explicit DirtyRuns(const viommu_dirty_sink& sink) noexcept : sink_{sink} {}
  DirtyRuns(const DirtyRuns&) = delete;
  DirtyRuns& operator=(const DirtyRuns&) = delete;
  ~DirtyRuns() {
    if (count_ != 0) sink_.runs(sink_.opaque, runs_.data(), count_);
  }

  /// `part` lies in `mapping`.
  void add(const Mapping& mapping, Range part) noexcept {
    const bool known = mapping.gpa != VIOMMU_NO_GPA;
    const std::uint64_t gpa = known ? mapping.gpa + (part.first - mapping.range.first) : VIOMMU_NO_GPA;
    if (count_ != 0) {
      viommu_dirty_run& open = runs_[count_ - 1];
      const bool follows = open.last != top_address && open.last + 1 == part.first;
      const bool alike =
          known ? open.gpa != VIOMMU_NO_GPA && open.gpa + (part.first - open.iova) == gpa : open.gpa == VIOMMU_NO_GPA;
      if (follows && alike) {
        open.last = part.last;
        return;
      }
    }
    if (count_ == runs_.size()) {
      sink_.runs(sink_.opaque, runs_.data(), count_);
      count_ = 0;
    }
    runs_[count_++] = {part.first, part.last, gpa};
  }

  /// The set bits of `bits`, whose bit 0 is the page at `base`, that lie in `mapping`.
  void add(const Mapping& mapping, std::uint64_t base, std::uint64_t page_bytes, std::span<const std::uint64_t> bits) {
    const std::uint64_t end = (mapping.range.last - base) / page_bytes + 1;
    for (std::uint64_t at = (mapping.range.first - base) / page_bytes; (at = next(bits, at, end, true)) < end;) {
      const std::uint64_t stop = next(bits, at, end, false);
      add(mapping, {base + at * page_bytes, base + (stop - 1) * page_bytes + (page_bytes - 1)});
      at = stop;
    }
  }

 private:
  /// The first bit in [at, end) that is `set`; else `end`.
  [[nodiscard]] static std::uint64_t next(std::span<const std::uint64_t> bits, std::uint64_t at, std::uint64_t end,
                                          bool set) noexcept {
    constexpr std::uint64_t word_bits = 64;
    while (at < end) {  // ends: `at` moves to the next word
      const std::uint64_t word = set ? bits[at / word_bits] : ~bits[at / word_bits];
      const std::uint64_t left = word >> (at % word_bits);
      if (left != 0) {
        const std::uint64_t found = at + static_cast<unsigned>(std::countr_zero(left));
        return found < end ? found : end;
      }
      at = (at / word_bits + 1) * word_bits;
    }
    return end;
  }

  const viommu_dirty_sink& sink_;
  std::array<viommu_dirty_run, 64> runs_;
  std::uint32_t count_ = 0;
};

}  // namespace viommu::host
