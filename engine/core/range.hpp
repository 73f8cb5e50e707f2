// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// A buffer as pieces that go on alike, and where it stops.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/core/dma_request.hpp"

namespace viommu::core {

/// Contiguous on both sides, with one kind and one set of rights.
struct Piece {
  Iova iova;
  Gpa gpa;
  std::uint64_t length = 0;
  DmaKind kind = DmaKind::fault;
  Rights rights;
  bool mmio = false;
};

struct RangeEnd {
  std::uint64_t translated = 0;  ///< bytes
  std::size_t pieces = 0;
  DmaAnswer fault;       ///< counts when `stopped`
  bool stopped = false;  ///< by a fault, at `translated`
  bool complete = false;
};

/// One call answers at most this many blocks, however they merge: a huge buffer of small pages takes several calls.
inline constexpr std::size_t most_blocks_per_range = std::size_t{1} << 16;

/// Translates `request.length` bytes (not 0, not past 2^64) block by block.
/// @param translate  DmaAnswer(const DmaRequest&)
template <class Translate>
RangeEnd translate_range(DmaRequest request, std::span<Piece> pieces, Translate&& translate) noexcept {
  RangeEnd end;
  const Iova first = request.iova;
  const std::uint64_t length = request.length;
  for (std::size_t block = 0; block < most_blocks_per_range && end.translated < length; ++block) {
    request.iova = first + end.translated;
    request.length = length - end.translated;  // what is left: in the interrupt window the length decides
    const DmaAnswer answer = translate(request);
    if (answer.kind == DmaKind::fault) {
      end.fault = answer;
      end.stopped = true;
      return end;
    }
    // Bytes from here to the last of the block; the block may be the whole address space.
    const std::uint64_t rest = answer.mask - (request.iova.value & answer.mask);
    const std::uint64_t bytes = std::min(rest, length - end.translated - 1) + 1;
    Piece* const last = end.pieces == 0 ? nullptr : &pieces[end.pieces - 1];
    const bool goes_on = last != nullptr && last->kind == answer.kind && last->rights == answer.rights &&
                         last->mmio == answer.mmio && last->gpa.value + last->length == answer.gpa.value;
    if (goes_on) {
      last->length += bytes;
    } else {
      if (end.pieces == pieces.size()) return end;
      pieces[end.pieces++] = {request.iova, answer.gpa, bytes, answer.kind, answer.rights, answer.mmio};
    }
    end.translated += bytes;
  }
  end.complete = end.translated == length;
  return end;
}

}  // namespace viommu::core
