// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// From the guest's invalidation commands to what the caches drop. Source: VT-d, "Invalidation Granularity".
#pragma once

#include "caches/scope.hpp"
#include "engine/vtd/invalidation.hpp"

namespace viommu::vtd {

[[nodiscard]] constexpr caches::Scope scope_of(const ContextInvalidation& invalidation) noexcept {
  caches::Scope scope;
  switch (invalidation.granularity) {
    case ContextGranularity::domain:
      scope.kind = caches::Scope::Kind::domain_contexts;
      scope.domain = invalidation.domain;
      break;
    case ContextGranularity::device:
      // By source id alone: with caching mode a guest names domain 0 for an entry that was not present before.
      scope.kind = caches::Scope::Kind::source_contexts;
      scope.source = invalidation.source;
      scope.ignored_source_bits = static_cast<std::uint8_t>(~invalidation.source_mask());
      break;
    default: scope.kind = caches::Scope::Kind::contexts; break;
  }
  return scope;
}

[[nodiscard]] constexpr caches::Scope scope_of(const IotlbInvalidation& invalidation) noexcept {
  caches::Scope scope;
  scope.domain = invalidation.domain;
  scope.range = invalidation.pages;
  scope.keep_structures = invalidation.keep_structures;
  switch (invalidation.granularity) {
    case IotlbGranularity::domain: scope.kind = caches::Scope::Kind::domain; break;
    case IotlbGranularity::page:   scope.kind = caches::Scope::Kind::pages; break;
    default:                       scope.kind = caches::Scope::Kind::translations; break;
  }
  return scope;
}

[[nodiscard]] constexpr caches::Scope scope_of(const PasidCacheInvalidation& invalidation) noexcept {
  caches::Scope scope;
  scope.domain = invalidation.domain;
  scope.pasid = invalidation.pasid;
  switch (invalidation.granularity) {
    case PasidCacheGranularity::domain: scope.kind = caches::Scope::Kind::domain_pasids; break;
    case PasidCacheGranularity::pasid:  scope.kind = caches::Scope::Kind::pasid; break;
    default:                            scope.kind = caches::Scope::Kind::pasids; break;
  }
  return scope;
}

[[nodiscard]] constexpr caches::PageScope page_scope_of(const PasidIotlbInvalidation& invalidation) noexcept {
  const bool whole = invalidation.granularity == PasidIotlbGranularity::pasid;
  return {invalidation.pages, invalidation.domain, invalidation.keep_structures, true, whole, invalidation.pasid};
}

}  // namespace viommu::vtd
