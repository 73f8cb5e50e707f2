// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/core/holds.hpp"

#include <array>
#include <catch2/catch.hpp>
#include <cstdint>
#include <map>
#include <set>
#include <span>
#include <thread>
#include <vector>

#include "tests/support/counting_allocator.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/random.hpp"

namespace viommu::core {
namespace {

using caches::Scope;
using caches::Usage;
using Kind = Scope::Kind;

constexpr Usage usage{{0x0110}, {5}, {{0x1000}, {0x1FFF}}};

caches::ScopeSet set_of(const Scope& scope) {
  caches::ScopeSet set;
  set.add(scope);
  return set;
}

/// Holds with a clock at the test's hand.
class Pool {
 public:
  explicit Pool(std::size_t count = 32) { REQUIRE(holds.reset({}, count)); }
  Holds* operator->() { return &holds; }
  std::uint64_t open(const Usage& what = usage, std::uint64_t epoch = 1, std::uint64_t cookie = 0) {
    return holds.open(what, epoch, cookie, now_ns);
  }
  [[nodiscard]] bool delays(const Scope& scope, std::uint64_t epoch = 2) {
    std::size_t told = 0;
    return holds.delays(set_of(scope), epoch, now_ns, ~std::uint64_t{0}, {}, &told);
  }
  /// Those that are told about now.
  [[nodiscard]] std::vector<OverdueHold> overdue(std::uint64_t limit_ns, std::size_t room = 16) {
    std::vector<OverdueHold> found(room);
    std::size_t told = 0;
    static_cast<void>(holds.delays(set_of({}), 2, now_ns, limit_ns, found, &told));
    found.resize(told);
    return found;
  }
  Holds holds;
  std::uint64_t now_ns = 0;
};

}  // namespace

TEST_CASE("a hold has a handle of its own, never 0, until there are no more", "[core][holds][P6]") {
  Pool pool{20};
  std::set<std::uint64_t> handles;
  for (unsigned i = 0; i < 20; ++i) {
    const std::uint64_t handle = pool.open();
    CHECK(handle != 0);
    CHECK(handles.insert(handle).second);
  }
  CHECK(pool->open_count() == 20);
  CHECK(pool.open() == 0);
  CHECK(pool->close(*handles.begin(), false));
  CHECK(pool.open() != 0);
  CHECK(pool.open() == 0);
}

TEST_CASE("a handle is closed once, and is not the next hold's", "[core][holds][IFD-10]") {
  Pool pool{1};
  std::set<std::uint64_t> old;
  for (unsigned i = 0; i < 1000; ++i) {
    const std::uint64_t handle = pool.open();
    REQUIRE(old.insert(handle).second);
    REQUIRE(pool->close(handle, false));
    REQUIRE_FALSE(pool->close(handle, false));
  }
  const std::uint64_t handle = pool.open();
  for (const std::uint64_t stale : old) REQUIRE_FALSE(pool->close(stale, true));
  CHECK(pool->open_count() == 1);
  CHECK_FALSE(pool->close(0, false));
  CHECK_FALSE(pool->close(~std::uint64_t{0}, false));
  CHECK_FALSE(pool->close(handle + 1, false));
  CHECK(pool->close(handle, false));
  CHECK(pool->revoked_count() == 0);
}

TEST_CASE("a revoked hold is closed and counted apart", "[core][holds][P2]") {
  Pool pool;
  const std::uint64_t handle = pool.open();
  CHECK(pool->close(handle, true));
  CHECK(pool->revoked_count() == 1);
  CHECK_FALSE(pool->close(handle, false));
  CHECK_FALSE(pool.delays({}));
}

TEST_CASE("a hold delays the scopes it is in, and no others", "[core][holds][P2]") {
  Pool pool;
  const std::uint64_t handle = pool.open();
  CHECK(pool.delays({}));
  CHECK(pool.delays({Kind::translations, {}, all_iovas, {}, 0}));
  CHECK(pool.delays({Kind::domain, {5}, all_iovas, {}, 0}));
  CHECK_FALSE(pool.delays({Kind::domain, {6}, all_iovas, {}, 0}));
  CHECK(pool.delays({Kind::pages, {5}, {{0x1FFF}, {0x4FFF}}, {}, 0}));
  CHECK_FALSE(pool.delays({Kind::pages, {5}, {{0x2000}, {0x4FFF}}, {}, 0}));
  CHECK_FALSE(pool.delays({Kind::pages, {5}, {{0}, {0xFFF}}, {}, 0}));
  CHECK(pool.delays({Kind::source_contexts, {}, all_iovas, {0x0110}, 0}));
  CHECK_FALSE(pool.delays({Kind::source_contexts, {}, all_iovas, {0x0111}, 0}));
  CHECK(pool.delays({Kind::source_contexts, {}, all_iovas, {0x0111}, 1}));
  CHECK(pool->close(handle, false));
  CHECK_FALSE(pool.delays({}));
}

TEST_CASE("a hold made after the invalidation does not delay it", "[core][holds][P2]") {
  Pool pool;
  static_cast<void>(pool.open(usage, 7));
  CHECK(pool.delays({}, 8));
  CHECK_FALSE(pool.delays({}, 7));
  CHECK_FALSE(pool.delays({}, 6));
}

TEST_CASE("a hold is told about once it is older than the limit, and only once", "[core][holds][P2]") {
  Pool pool;
  pool.now_ns = 500;
  const std::uint64_t first = pool.open(usage, 1, 77);
  pool.now_ns = 900;
  const std::uint64_t second = pool.open(usage, 1, 88);
  pool.now_ns = 1499;
  CHECK(pool.overdue(1000).empty());
  pool.now_ns = 1500;
  const std::vector<OverdueHold> told = pool.overdue(1000);
  REQUIRE(told.size() == 1);
  CHECK(told[0].handle == first);
  CHECK(told[0].cookie == 77);
  CHECK(told[0].age_ns == 1000);
  CHECK(pool.overdue(1000).empty());
  pool.now_ns = 10'000;
  const std::vector<OverdueHold> later = pool.overdue(1000);
  REQUIRE(later.size() == 1);
  CHECK(later[0].handle == second);
  CHECK(pool->overdue_count() == 2);
  // The slot's next hold is a new one.
  CHECK(pool->close(first, false));
  static_cast<void>(pool.open(usage, 1, 99));
  pool.now_ns = 20'000;
  REQUIRE(pool.overdue(1000).size() == 1);
}

TEST_CASE("a hold that delays nothing, or a clock that stands still or went back, is no reason to tell",
          "[core][holds][P2]") {
  Pool pool;
  pool.now_ns = 5000;
  static_cast<void>(pool.open(usage, 9));  // newer than the invalidation
  static_cast<void>(pool.open(usage, 1));
  CHECK(pool.overdue(1).empty());
  pool.now_ns = 1000;
  CHECK(pool.overdue(1).empty());
  pool.now_ns = ~std::uint64_t{0} - 1;
  CHECK(pool.overdue(~std::uint64_t{0}).empty());  // no limit
  CHECK(pool->overdue_count() == 0);
}

TEST_CASE("more overdue holds than fit into one telling are told about in the next", "[core][holds][P2]") {
  Pool pool;
  for (std::uint64_t i = 0; i < 32; ++i) static_cast<void>(pool.open(usage, 1, i));
  pool.now_ns = 5000;
  std::set<std::uint64_t> cookies;
  for (unsigned turn = 0; turn < 5; ++turn)
    for (const OverdueHold& hold : pool.overdue(1000, 7)) CHECK(cookies.insert(hold.cookie).second);
  CHECK(cookies.size() == 32);
  CHECK(pool->overdue_count() == 32);
}

TEST_CASE("holds may end in any order", "[core][holds]") {
  const unsigned steps = test::run_whole() ? 5'000'000 : 20'000;
  Pool pool{24};
  std::map<std::uint64_t, std::uint16_t> model;  // handle to domain
  test::Random random{4};
  for (unsigned step = 0; step < steps; ++step) {
    if (random.chance(1, 2)) {
      const auto domain = static_cast<std::uint16_t>(random.below(5));
      const std::uint64_t handle = pool.open({{1}, {domain}, {{0}, {0}}});
      REQUIRE((handle == 0) == (model.size() == 24));
      if (handle != 0) REQUIRE(model.emplace(handle, domain).second);
    } else if (!model.empty()) {
      auto victim = model.begin();
      std::advance(victim, static_cast<std::ptrdiff_t>(random.below(model.size())));
      REQUIRE(pool->close(victim->first, random.chance(1, 2)));
      model.erase(victim);
    }
    REQUIRE(pool->open_count() == model.size());
    const auto domain = static_cast<std::uint16_t>(random.below(5));
    bool expected = false;
    for (const auto& [handle, of] : model) expected = expected || of == domain;
    REQUIRE(pool.delays({Kind::domain, {domain}, all_iovas, {}, 0}) == expected);
  }
}

TEST_CASE("holds are opened and closed by many threads", "[core][holds]") {
  const unsigned each = test::run_whole() ? 1'000'000 : 5'000;
  Pool pool{4};
  std::vector<std::thread> threads;
  threads.reserve(3);
  for (unsigned t = 0; t < 3; ++t) {
    threads.emplace_back([&pool, each] {
      std::size_t told = 0;
      for (unsigned i = 0; i < each; ++i) {
        const std::uint64_t handle = pool->open(usage, 1, 0, 0);
        static_cast<void>(pool->delays(set_of({}), 2, 0, 1, {}, &told));
        if (handle != 0 && !pool->close(handle, false)) return;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(pool->open_count() == 0);
  std::set<std::uint64_t> handles;
  for (unsigned i = 0; i < 4; ++i) CHECK(handles.insert(pool.open()).second);
  CHECK(pool.open() == 0);
}

TEST_CASE("the pool is taken at once and never grows", "[core][holds][P6]") {
  test::CountingAllocator host;
  {
    Holds holds;
    REQUIRE(holds.reset(host.functions(), 8));
    const std::uint64_t calls = host.calls();
    for (unsigned i = 0; i < 100; ++i) static_cast<void>(holds.open(usage, 1, 0, 0));
    CHECK(host.calls() == calls);
    host.fail_at(1);
    Holds second;
    CHECK_FALSE(second.reset(host.functions(), 8));
    CHECK(second.open(usage, 1, 0, 0) == 0);
  }
  CHECK(host.open_blocks() == 0);
}

}  // namespace viommu::core
