// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// How far what is mapped at an address goes on alike, in both directions.
//
//        limits.first                                                     limits.last
//   |----------[.........8 pages..4..2][ block ][......... one call .........]---|
//                 steps double until one     of the         translate_range()
//                 fails, then they halve     translation    as far as it is alike
//
// Forward costs a look at each block that is alike. Backward a call answers for a whole step or not at all, and at most
// twice as many blocks are looked at as are alike. Nothing is reported. A call has a guard of its own, so it answers
// for 32 MiB at most: no completion waits for more than that.
#pragma once

#include <viommu/viommu.h>

#include <algorithm>
#include <cstdint>
#include <optional>

#include "engine/vhost/range.hpp"

namespace viommu::vhost {

/// Mapped in a row, with one kind and the same rights.
struct Run {
  Range range;
  std::uint64_t gpa = 0;  ///< of range.first
  std::uint8_t kind = 0;
  std::uint8_t rights = 0;
};

class Lookout {
 public:
  Lookout(viommu_engine* engine, viommu_reader* reader, std::uint16_t source) noexcept
      : engine_{engine}, reader_{reader}, source_{source} {}

  /// The block around one address, as the device's own request; nothing when it is blocked or no memory.
  [[nodiscard]] std::optional<Run> at(std::uint64_t iova, std::uint8_t access, bool reported) const noexcept {
    viommu_request request{};
    request.iova = iova;
    request.source = source_;
    request.access = access;
    request.flags = reported ? 0 : VIOMMU_NO_REPORT;
    viommu_translation found{};
    if (viommu_translate(reader_, &request, &found) != VIOMMU_OK) return std::nullopt;
    if (found.kind == VIOMMU_INTERRUPT || (found.rights & VIOMMU_MMIO) != 0) return std::nullopt;
    const std::uint64_t first = iova & ~found.mask;
    return Run{{first, iova | found.mask}, found.gpa - (iova - first), found.kind, found.rights};
  }

  /// Makes it longer, inside the limits, which hold its first address and its last.
  void widen(Run& run, const Range& limits) const noexcept {
    // Reading sets no flag that says that something was written.
    const bool reads = (run.rights & VIOMMU_READ) != 0;
    if (!reads && is_logged()) return;
    const std::uint8_t access = reads ? VIOMMU_READ : VIOMMU_WRITE;
    forward(run, limits.last, access);
    backward(run, limits.first, access);
  }

 private:
  static constexpr std::uint64_t most_of_a_call = std::uint64_t{32} << 20;

  /// Whether an answer for writing makes memory dirty.
  [[nodiscard]] bool is_logged() const noexcept {
    std::uint32_t on = VIOMMU_DIRTY_OFF;
    return viommu_dirty_tracking_is(engine_, &on) == VIOMMU_OK && on != VIOMMU_DIRTY_OFF;
  }
  /// What is alike from the beginning of [first, first + length).
  [[nodiscard]] std::optional<viommu_piece> piece_of(std::uint64_t first, std::uint64_t length,
                                                     std::uint8_t access) const noexcept {
    viommu_request request{};
    request.iova = first;
    request.length = length;
    request.source = source_;
    request.access = access;
    request.flags = VIOMMU_NO_REPORT;
    viommu_piece piece{};
    viommu_range_end end{};
    static_cast<void>(viommu_translate_range(reader_, &request, &piece, 1, &end));
    if (end.pieces == 0) return std::nullopt;
    return piece;
  }
  [[nodiscard]] static bool alike(const Run& run, const viommu_piece& piece) noexcept {
    return piece.kind == run.kind && piece.rights == run.rights;
  }

  void forward(Run& run, std::uint64_t limit, std::uint8_t access) const noexcept {
    while (run.range.last < limit) {  // ends: it grows each time
      const std::uint64_t length = run.range.last - run.range.first + 1;
      const std::uint64_t room = std::min(limit - run.range.last, most_of_a_call);
      const std::optional piece = piece_of(run.range.last + 1, room, access);
      if (!piece || !alike(run, *piece) || wraps(run.gpa, length) || piece->gpa != run.gpa + length) return;
      run.range.last += piece->length;
    }
  }
  void backward(Run& run, std::uint64_t limit, std::uint8_t access) const noexcept {
    std::uint64_t step = page_bytes;
    bool grows = true;
    while (run.range.first > limit) {  // ends: a step doubles until it fails, and halves from then on
      const std::uint64_t room = run.range.first - limit;
      const std::uint64_t length = std::min(step, room);
      const std::optional piece = piece_of(run.range.first - length, length, access);
      if (piece && piece->length == length && alike(run, *piece) && run.gpa >= length &&
          piece->gpa == run.gpa - length) {
        run.range.first -= length;
        run.gpa -= length;
      } else {
        grows = false;
      }
      if (!grows && step == page_bytes) return;
      step = grows ? std::min(step * 2, most_of_a_call) : step / 2;
    }
  }

  viommu_engine* engine_;
  viommu_reader* reader_;
  std::uint16_t source_;
};

}  // namespace viommu::vhost
