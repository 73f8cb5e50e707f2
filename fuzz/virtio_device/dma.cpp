// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// DMA alone, in batches and as ranges.
#include "fuzz/virtio_device/world.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include "fuzz/support/require.hpp"

namespace viommu::fuzz::virtio_device {

void World::translate(std::uint8_t source, std::uint8_t access, std::uint8_t how, std::uint64_t iova,
                      std::uint64_t length) {
  near_ = {iova, iova + length};
  std::uint8_t flags = (how & 1) != 0 ? VIOMMU_NO_REPORT : 0;
  if ((how & 0xE) == 0xE) flags |= VIOMMU_HAS_PASID;
  const viommu_request asked = dma(source, iova, static_cast<std::uint8_t>(1 + access % 3), flags);
  if ((how & 0x80) != 0) return hold(asked);
  switch (how >> 4 & 3) {
    case 0: {
      viommu_translation found{};
      const viommu_result result = viommu_translate(side_->reader, &asked, &found);
      require_equal(result == VIOMMU_E_FAULT, found.kind == VIOMMU_FAULT, "a fault and its result");
      check(asked, found, answer_of(asked));
      return keep(asked, found);
    }
    case 1:  return translate_batch(asked, length);
    case 2:  return translate_range(asked, length);
    default: {
      viommu_translation found{};
      static_cast<void>(viommu_translate_once(side_->engine, &asked, &found));
      return check(asked, found, answer_of(asked));
    }
  }
}

void World::keep(const viommu_request& asked, const viommu_translation& found) {
  if (found.kind != VIOMMU_TRANSLATED && found.kind != VIOMMU_IDENTITY) return;
  for (const auto& keeper : side_->keepers)
    if (!keeper->maps() && keeper->source == asked.source && asked.iova >= keeper->model.consumer.first &&
        asked.iova <= keeper->model.consumer.last)
      keeper->answers.push_back({asked.iova, found.gpa});
}

void World::translate_batch(const viommu_request& first, std::uint64_t stride) {
  constexpr std::size_t count = 20;
  std::array<viommu_request, count> asked{};
  std::array<viommu_translation, count> found{};
  for (std::size_t i = 0; i < count; ++i) {
    asked[i] = first;
    asked[i].iova += i * stride;
    if (i % 7 == 6) asked[i].source = sources[i % sources.size()];
  }
  require(viommu_translate_batch(side_->reader, asked.data(), found.data(), count) == VIOMMU_OK, "a batch");
  for (std::size_t i = 0; i < count; ++i) check(asked[i], found[i], answer_of(asked[i]));
}

void World::translate_range(viommu_request asked, std::uint64_t length) {
  asked.length = length == 0 ? 1 : std::min(length, ~asked.iova);
  if (asked.length == 0) return;
  std::array<viommu_piece, 6> pieces{};
  viommu_range_end end{};
  const viommu_result result = viommu_translate_range(side_->reader, &asked, pieces.data(), pieces.size(), &end);
  require(result == VIOMMU_OK || result == VIOMMU_E_FAULT, "what becomes of a range");
  std::uint64_t at = asked.iova;
  for (std::uint32_t i = 0; i < end.pieces; ++i) {
    const viommu_piece& piece = pieces.at(i);
    require(piece.length != 0 && piece.iova == at, "a piece that does not follow the one before");
    const std::uint64_t last = at + (piece.length - 1);
    for (std::uint64_t from = at;;) {
      viommu_request inside = asked;
      inside.iova = from;
      const Answer right = answer_of(inside);
      require_equal(piece.kind, right.kind, "kind of a piece");
      require_equal(piece.rights, right.rights, "rights of a piece");
      require_equal(piece.gpa + (from - at), right.gpa, "address of a piece");
      if (right.last >= last) break;
      from = right.last + 1;
    }
    if (i > 0) {
      const viommu_piece& before = pieces.at(i - 1);
      require(before.kind != piece.kind || before.rights != piece.rights || before.gpa + before.length != piece.gpa,
              "two pieces that are one");
    }
    at += piece.length;
  }
  require_equal(end.translated, at - asked.iova, "bytes of all pieces");
  require_equal(end.complete, end.translated == asked.length, "whether a range is complete");
  viommu_request next = asked;
  next.iova = at;
  if (result == VIOMMU_E_FAULT) {
    const Answer right = answer_of(next);
    require(right.kind == VIOMMU_FAULT && end.complete == 0, "a range that stops where it could go on");
    require_equal(end.reason, right.reason, "reason of a range's fault");
    if ((asked.flags & VIOMMU_NO_REPORT) == 0)
      require_equal(end.status, report(next, right.reason), "what became of a range's report");
  } else if (end.complete == 0) {
    require(answer_of(next).kind != VIOMMU_FAULT, "a fault that a range does not tell of");
    require(end.translated != 0, "a range that does not begin");
  }
}

void World::host_fault(std::uint8_t source, std::uint8_t access, std::uint8_t reason, std::uint64_t iova) {
  const viommu_request asked = dma(source, iova, static_cast<std::uint8_t>(1 + access % 3), 0);
  std::uint8_t status = 0;
  const viommu_result result =
      viommu_report_host_fault(side_->engine, &asked, static_cast<std::uint8_t>(reason % 3), &status);
  require(result == VIOMMU_OK || result == VIOMMU_E_NOT_FOUND, "what becomes of a host's fault");
  if (result == VIOMMU_OK) require_equal(status, report(asked, reason % 3), "what became of a host's fault");
}

}  // namespace viommu::fuzz::virtio_device
