// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "caches/scope.hpp"

#include <catch2/catch.hpp>
#include <cstdint>

namespace viommu::caches {
namespace {

using Kind = Scope::Kind;

constexpr Usage usage{{0x0108}, {5}, {{0x10000}, {0x1FFFF}}};

constexpr Scope scope(Kind kind) { return {kind, {5}, {{0x1F000}, {0x2FFFF}}, {0x0108}, 0}; }

}  // namespace

TEST_CASE("a scope concerns the DMA that uses what it drops", "[caches][scope][P2]") {
  for (const Kind kind : {Kind::everything, Kind::translations, Kind::contexts}) {
    CHECK(Scope{kind, {6}, {{0}, {0}}, {0x0200}, 0}.concerns(usage));
  }
  for (const Kind kind : {Kind::domain, Kind::domain_contexts}) {
    Scope by_domain = scope(kind);
    CHECK(by_domain.concerns(usage));
    by_domain.domain = {6};
    CHECK_FALSE(by_domain.concerns(usage));
  }
  Scope pages = scope(Kind::pages);
  CHECK(pages.concerns(usage));
  pages.range = {{0x20000}, {0x2FFFF}};
  CHECK_FALSE(pages.concerns(usage));
  pages.range = {{0xF000}, {0x10000}};
  CHECK(pages.concerns(usage));
  pages.domain = {6};
  CHECK_FALSE(pages.concerns(usage));

  Scope source = scope(Kind::source_contexts);
  CHECK(source.concerns(usage));
  source.source = {0x0109};
  CHECK_FALSE(source.concerns(usage));
}

TEST_CASE("a scope of PASID entries concerns the DMA that goes by one of them", "[caches][scope][P2]") {
  Usage by_pasid = usage;
  by_pasid.pasid = {0x12345};
  Scope named = scope(Kind::pasid);
  named.pasid = {0x12345};
  for (const Kind kind : {Kind::pasids, Kind::domain_pasids, Kind::pasid}) {
    named.kind = kind;
    CHECK(named.concerns(by_pasid));
    CHECK_FALSE(named.concerns(usage));
    Scope other_domain = named;
    other_domain.domain = {6};
    CHECK(other_domain.concerns(by_pasid) == (kind == Kind::pasids));
    Scope other_pasid = named;
    other_pasid.pasid = {0x02345};
    CHECK(other_pasid.concerns(by_pasid) == (kind != Kind::pasid));
  }
}

TEST_CASE("a scope of a PASID's translations concerns the DMA that goes by its PASID entries", "[caches][scope][P2]") {
  Usage by_pasid = usage;
  by_pasid.pasid = {0x12345};
  const Kind kind = GENERATE(Kind::pasid_translations, Kind::pasid_pages);
  Scope named = scope(kind);
  named.pasid = {0x12345};
  CHECK(named.concerns(by_pasid));
  CHECK_FALSE(named.concerns(usage));
  CHECK_FALSE(named.drops_contexts());
  Scope other = named;
  other.domain = {6};
  CHECK_FALSE(other.concerns(by_pasid));
  other = named;
  other.pasid = {0x02345};
  CHECK_FALSE(other.concerns(by_pasid));
  other = named;
  other.range = {{0x20000}, {0x2FFFF}};
  CHECK(other.concerns(by_pasid) == (kind == Kind::pasid_translations));
}

TEST_CASE("the context that a PASID entry is derived from names no domain, so a domain's contexts concern it",
          "[caches][scope][P2]") {
  Usage by_pasid = usage;
  by_pasid.pasid = {1};
  Scope contexts = scope(Kind::domain_contexts);
  contexts.domain = {6};
  CHECK(contexts.concerns(by_pasid));
  CHECK_FALSE(contexts.concerns(usage));
  CHECK(scope(Kind::source_contexts).concerns(by_pasid));
}

TEST_CASE("bits of a source id that a scope ignores are not compared", "[caches][scope][B04]") {
  for (const unsigned bits : {0U, 4U, 6U, 7U}) {
    const auto ignored = static_cast<std::uint8_t>(bits);
    const Scope masked{Kind::source_contexts, {}, all_iovas, {0x0125}, ignored};
    for (unsigned id = 0; id < 0x10000; ++id) {
      const SourceId source{static_cast<std::uint16_t>(id)};
      if (masked.names(source) != ((id | ignored) == (0x0125U | ignored))) FAIL("source " << id);
    }
  }
}

TEST_CASE("several scopes are waited for together", "[caches][scope][P2]") {
  ScopeSet set;
  CHECK(set.empty());
  CHECK_FALSE(set.concerns(usage));
  set.add({Kind::domain, {6}, all_iovas, {}, 0});
  CHECK_FALSE(set.empty());
  CHECK_FALSE(set.concerns(usage));
  set.add({Kind::domain, {5}, all_iovas, {}, 0});
  CHECK(set.concerns(usage));
  set.clear();
  CHECK(set.empty());
  CHECK_FALSE(set.concerns(usage));
}

TEST_CASE("more scopes than a set holds become everything, which waits longer", "[caches][scope][P2][P5]") {
  ScopeSet set;
  constexpr unsigned room = 16;
  for (std::uint16_t i = 0; i < room; ++i)
    set.add({Kind::domain, {static_cast<std::uint16_t>(100 + i)}, all_iovas, {}, 0});
  CHECK_FALSE(set.concerns(usage));
  set.add({Kind::domain, {99}, all_iovas, {}, 0});
  CHECK(set.concerns(usage));
  for (unsigned i = 0; i < 3 * room; ++i) set.add({Kind::domain, {98}, all_iovas, {}, 0});
  CHECK(set.concerns(usage));
  set.clear();
  CHECK_FALSE(set.concerns(usage));
}

TEST_CASE("beside everything nothing else counts", "[caches][scope][P2]") {
  ScopeSet set;
  set.add({});
  for (unsigned i = 0; i < 40; ++i) set.add({Kind::domain, {99}, all_iovas, {}, 0});
  CHECK(set.concerns(usage));
}

}  // namespace viommu::caches
