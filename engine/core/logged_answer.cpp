// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/core/logged_answer.hpp"

#include <algorithm>

#include "engine/base/bits.hpp"

namespace viommu::core {
namespace {

/// size - 1 of the largest block around `iova` that is no longer than the request, ends with it at the latest, and
/// begins in its first page at the earliest. A request that does not say how long it is has the rest of its page.
[[nodiscard]] std::uint64_t clipped(std::uint64_t mask, const DmaRequest& request) noexcept {
  constexpr std::uint64_t page_mask = low_bits(page_shift);
  const std::uint64_t iova = request.iova.value;
  if (request.length == 0) return mask & page_mask;
  const std::uint64_t rest = ~iova;  // bytes behind it that have an address
  const std::uint64_t last = iova + std::min(request.length - 1, rest);
  std::uint64_t left = mask & low_bits(DirtyLog::chunk_shift);  // one look into the log
  while (left > request.length - 1 || (iova | left) > last || (iova & ~left) < (iova & ~page_mask))
    left >>= 1;  // ends: 0 is the byte itself
  return left;
}

}  // namespace

DmaAnswer logged(DirtyLog& log, const DmaRequest& request, DmaAnswer found) noexcept {
  if (found.kind == DmaKind::fault || found.kind == DmaKind::interrupt) return found;
  if (!request.asked.write()) {
    found.rights = found.rights & read_only;
    return found;
  }
  found.mask = clipped(found.mask, request);
  log.log({{found.gpa.value & ~found.mask}, {found.gpa.value | found.mask}});
  return found;
}

}  // namespace viommu::core
