// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What an invalidation drops, and whose DMA it has to wait for.
#pragma once

#include "engine/base/address.hpp"
#include "engine/base/ids.hpp"
#include "engine/base/scratch.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>

namespace viommu::caches {

/// What one DMA uses: enough to tell whether a scope concerns it.
struct Usage {
  SourceId source;
  DomainId domain;
  IovaRange range{};
  std::optional<Pasid> pasid = std::nullopt;  ///< of the PASID entry it goes by, whether the request names it or not
  bool first_stage = false;                   ///< its addresses go through one
};

/// The most frequent scopes: Scope::Kind::pages, Kind::domain where the range is `all_iovas`, and the same of one
/// PASID.
struct PageScope {
  IovaRange range{};
  DomainId domain{};
  bool keep_structures = false;  ///< cached tables may stay
  bool by_pasid = false;         ///< Scope::Kind::pasid_pages
  bool whole_pasid = false;      ///< and Kind::pasid_translations; the range is `all_iovas` then
  Pasid pasid{};                 ///< counts for these two

  /// Whether the domain itself is named, and no PASID of it.
  [[nodiscard]] constexpr bool names_domain() const noexcept { return !by_pasid && range == all_iovas; }
  /// Whether no page is told from another: the domain's, or the PASID's.
  [[nodiscard]] constexpr bool is_whole() const noexcept { return names_domain() || whole_pasid; }
};

/// The named thing goes, and all that was derived from it. Domain ids are those of the cached contexts, not of memory.
/// A PASID entry is derived from its source's context too, and that context names no domain (the PASID entry does).
struct Scope {
  enum class Kind : std::uint8_t {
    everything,          ///< contexts and translations
    translations,        ///< of every domain
    domain,              ///< translations of `domain`
    pages,               ///< translations of `domain` that overlap `range`, and those through a first stage whatever
                         ///< they overlap: the addresses are those of its second stage
    contexts,            ///< all of them
    domain_contexts,     ///< those of `domain`, and those that name none
    source_contexts,     ///< those of `source`, with `ignored_source_bits` not compared
    pasids,              ///< all PASID entries
    domain_pasids,       ///< those of `domain`
    pasid,               ///< those of `domain` for `pasid`
    pasid_translations,  ///< translations of `domain` through its PASID entries for `pasid`
    pasid_pages,         ///< those of them that overlap `range`
  };

  Kind kind = Kind::everything;
  DomainId domain{};
  IovaRange range = all_iovas;
  SourceId source{};
  std::uint8_t ignored_source_bits = 0;
  bool keep_structures = false;  ///< of `pages` and `pasid_pages`: cached tables may stay
  Pasid pasid{};

  [[nodiscard]] constexpr bool drops_contexts() const noexcept {
    return kind != Kind::translations && kind != Kind::domain && kind != Kind::pages &&
           kind != Kind::pasid_translations && kind != Kind::pasid_pages;
  }
  /// Whether the contexts are named for their own sake, so that what they stood for may have come to its end.
  [[nodiscard]] constexpr bool ends_uses() const noexcept {
    return kind == Kind::domain_contexts || kind == Kind::source_contexts || kind == Kind::domain_pasids ||
           kind == Kind::pasid;
  }
  [[nodiscard]] constexpr bool overlaps(const Usage& usage) const noexcept { return usage.range.overlaps(range); }
  [[nodiscard]] constexpr bool names(SourceId id) const noexcept {
    return ((id.value ^ source.value) & ~ignored_source_bits & 0xFFFF) == 0;
  }
  [[nodiscard]] constexpr bool concerns(const Usage& usage) const noexcept {
    const bool by_pasid = usage.domain == domain && usage.pasid == pasid;
    switch (kind) {
      case Kind::everything:
      case Kind::translations:
      case Kind::contexts:           return true;
      case Kind::domain:             return usage.domain == domain;
      case Kind::pages:              return usage.domain == domain && (usage.first_stage || overlaps(usage));
      case Kind::domain_contexts:    return usage.domain == domain || usage.pasid.has_value();
      case Kind::source_contexts:    return names(usage.source);
      case Kind::pasids:             return usage.pasid.has_value();
      case Kind::domain_pasids:      return usage.domain == domain && usage.pasid.has_value();
      case Kind::pasid:
      case Kind::pasid_translations: return by_pasid;
      case Kind::pasid_pages:        return by_pasid && overlaps(usage);
    }
    return true;
  }
};

[[nodiscard]] inline Scope scope_of(const PageScope& pages) noexcept {
  Scope scope;
  if (pages.by_pasid)
    scope.kind = pages.whole_pasid ? Scope::Kind::pasid_translations : Scope::Kind::pasid_pages;
  else
    scope.kind = pages.range == all_iovas ? Scope::Kind::domain : Scope::Kind::pages;
  scope.pasid = pages.pasid;
  scope.domain = pages.domain;
  scope.range = pages.range;
  scope.keep_structures = pages.keep_structures;
  return scope;
}

/// The other way; nothing for a scope of another kind.
[[nodiscard]] inline std::optional<PageScope> page_scope_of(const Scope& scope) noexcept {
  using Kind = Scope::Kind;
  switch (scope.kind) {
    case Kind::domain:             return PageScope{all_iovas, scope.domain};
    case Kind::pages:              return PageScope{scope.range, scope.domain, scope.keep_structures};
    case Kind::pasid_translations: return PageScope{all_iovas, scope.domain, false, true, true, scope.pasid};
    case Kind::pasid_pages:
      return PageScope{scope.range, scope.domain, scope.keep_structures, true, false, scope.pasid};
    default: return std::nullopt;
  }
}

/// Scopes that are waited for together. When there are more than it holds it becomes `everything`, which waits longer.
class ScopeSet {
 public:
  ScopeSet() = default;
  /// Copies what it holds, not its room: tickets are made for every wait.
  ScopeSet(const ScopeSet& other) noexcept { *this = other; }
  ScopeSet& operator=(const ScopeSet& other) noexcept {
    for (std::size_t i = 0; i < other.count_; ++i) scopes_.put(i, other.scopes_[i]);
    count_ = other.count_;
    return *this;
  }

  void add(const Scope& scope) noexcept {
    if (count_ == most_scopes) {
      scopes_.put(0, Scope{});
      count_ = 1;
    }
    if (count_ == 1 && scopes_[0].kind == Scope::Kind::everything) return;
    scopes_.put(count_++, scope);
  }
  void clear() noexcept { count_ = 0; }
  [[nodiscard]] bool empty() const noexcept { return count_ == 0; }
  [[nodiscard]] bool concerns(const Usage& usage) const noexcept {
    for (std::size_t i = 0; i < count_; ++i)
      if (scopes_[i].concerns(usage)) return true;
    return false;
  }

 private:
  static constexpr std::size_t most_scopes = 16;
  Scratch<Scope, most_scopes> scopes_;
  std::size_t count_ = 0;
};

}  // namespace viommu::caches
