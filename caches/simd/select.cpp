// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "caches/batch_lookup.hpp"

#include "caches/simd/tables.hpp"
#include "engine/base/build.hpp"

namespace viommu::caches {

const BatchLookup* select_batch_lookup([[maybe_unused]] std::string_view kernel) noexcept {
#if defined(__x86_64__)
  if (!thread_sanitizer && AtomicPair::whole()) {
    if (kernel.starts_with(avx512_batch_lookup.name)) return &avx512_batch_lookup;
    if (kernel.starts_with(avx2_batch_lookup.name)) return &avx2_batch_lookup;
  }
#endif
  return nullptr;
}

}  // namespace viommu::caches
