// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/core/dirty_log.hpp"

#include <atomic>
#include <catch2/catch.hpp>
#include <cstdint>
#include <set>
#include <thread>
#include <vector>

#include "tests/support/counting_allocator.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/random.hpp"

namespace viommu::core {
namespace {

using Runs = std::vector<GpaRange>;

constexpr std::uint64_t chunk_bytes = std::uint64_t{1} << DirtyLog::chunk_shift;

GpaRange bytes(std::uint64_t first, std::uint64_t length) { return {{first}, {first + (length - 1)}}; }

Runs fetch_settled(DirtyLog& log, std::size_t capacity = 64) {
  Runs runs(capacity);
  runs.resize(log.fetch(capacity, {&runs, [](void* into, std::size_t index, GpaRange run) noexcept {
                                     (*static_cast<Runs*>(into))[index] = run;
                                   }}));
  return runs;
}
Runs fetch(DirtyLog& log, std::size_t capacity = 64) {
  log.collect();
  log.settle();
  return fetch_settled(log, capacity);
}

/// A log that has begun, of memory from 0 on.
struct Log {
  explicit Log(std::uint64_t length = 4 * chunk_bytes) {
    REQUIRE(log.cover({}, bytes(0, length)));
    log.start();
  }
  DirtyLog* operator->() { return &log; }
  DirtyLog log;
};

}  // namespace

TEST_CASE("a log says which pages were written since it was asked last", "[core][dirty][S1.25]") {
  Log log;
  CHECK(fetch(log.log).empty());
  log->log(bytes(0x5FFF, 1));
  log->log(bytes(0x9000, 0x1000));
  log->log(bytes(0x9FF0, 0x20));
  CHECK(fetch(log.log) == Runs{bytes(0x5000, 0x1000), bytes(0x9000, 0x2000)});
  CHECK(fetch(log.log).empty());
  log->log(bytes(0x5000, 8));
  CHECK(fetch(log.log) == Runs{bytes(0x5000, 0x1000)});
}

TEST_CASE("runs go on across words and chunks, in ascending order", "[core][dirty][S1.25]") {
  Log log;
  log->log(bytes(3 * chunk_bytes, 0x1000));
  log->log(bytes(chunk_bytes - 0x1000, 0x2000));
  log->log(bytes(0x3F000, 0x43000));
  CHECK(fetch(log.log) ==
        Runs{bytes(0x3F000, 0x43000), bytes(chunk_bytes - 0x1000, 0x2000), bytes(3 * chunk_bytes, 0x1000)});
  log->log(bytes(0, 4 * chunk_bytes));
  CHECK(fetch(log.log) == Runs{bytes(0, 4 * chunk_bytes)});
}

TEST_CASE("what does not fit into one answer comes with the next", "[core][dirty][S1.25]") {
  Log log;
  for (std::uint64_t page = 0; page < 10; ++page) log->log(bytes(page * 0x2000, 1));
  std::set<std::uint64_t> seen;
  for (std::size_t round = 0; round < 4; ++round)
    for (const GpaRange run : fetch(log.log, 3)) {
      CHECK(run.last.value - run.first.value == 0xFFF);
      CHECK(seen.insert(run.first.value).second);
    }
  CHECK(seen.size() == 10);
  CHECK(fetch(log.log).empty());
}

TEST_CASE("memory that is not covered has no bits, wherever it lies", "[core][dirty][S1.25]") {
  Log log{chunk_bytes};
  log->log(bytes(chunk_bytes, 1));
  log->log(bytes(~std::uint64_t{0}, 1));
  log->log({{0}, {~std::uint64_t{0}}});  // ends with what there is
  CHECK(fetch(log.log) == Runs{bytes(0, chunk_bytes)});
  CHECK(log->covers(bytes(0, chunk_bytes)));
  CHECK_FALSE(log->covers(bytes(0, chunk_bytes + 1)));
  REQUIRE(log->cover({}, bytes(~std::uint64_t{0} - 0xFFF, 0x1000)));
  log->log(bytes(~std::uint64_t{0}, 1));
  CHECK(fetch(log.log) == Runs{bytes(~std::uint64_t{0} - 0xFFF, 0x1000)});
  REQUIRE(log->cover({}, bytes(5 * chunk_bytes, 1)));  // in between
  log->log(bytes(5 * chunk_bytes, 1));
  log->log(bytes(~std::uint64_t{0}, 1));
  CHECK(fetch(log.log) == Runs{bytes(5 * chunk_bytes, 0x1000), bytes(~std::uint64_t{0} - 0xFFF, 0x1000)});
}

TEST_CASE("runs ascend in whatever order their memory was added", "[core][dirty][S1.25]") {
  for (const std::vector<std::uint64_t>& order :
       {std::vector<std::uint64_t>{0, 4, 2}, {2, 4, 0}, {4, 2, 0}, {2, 0, 4}, {0, 2, 4, 6, 1, 5}}) {
    DirtyLog log;
    for (const std::uint64_t chunk : order) REQUIRE(log.cover({}, bytes(chunk * chunk_bytes, 1)));
    log.start();
    Runs expected;
    for (const std::uint64_t chunk : std::set<std::uint64_t>{order.begin(), order.end()}) {
      log.log(bytes(chunk * chunk_bytes + 0x3000, 1));
      expected.push_back(bytes(chunk * chunk_bytes + 0x3000, 0x1000));
    }
    CHECK(fetch(log) == expected);
    // A range across chunks is logged in all of them that there are.
    log.log(bytes(0x5000, 8 * chunk_bytes));
    std::size_t chunks = 0;
    for (const GpaRange run : fetch(log)) chunks += (run.last.value >> 25) - (run.first.value >> 25) + 1;
    CHECK(chunks == order.size());
  }
}

TEST_CASE("nothing is handed out before it is settled, and nothing is lost meanwhile", "[core][dirty][S1.25]") {
  Log log;
  log->log(bytes(0x1000, 1));
  log->collect();
  CHECK(fetch_settled(log.log).empty());
  log->log(bytes(0x2000, 1));
  log->settle();
  CHECK(fetch_settled(log.log) == Runs{bytes(0x1000, 0x1000)});
  CHECK(fetch(log.log) == Runs{bytes(0x2000, 0x1000)});
}

TEST_CASE("a log that begins again has forgotten what was before", "[core][dirty][S1.25]") {
  Log log;
  log->log(bytes(0x1000, 1));
  log->collect();
  log->log(bytes(0x2000, 1));
  log->stop();
  CHECK_FALSE(log->logging());
  log->start();
  CHECK(fetch(log.log).empty());
}

TEST_CASE("a log gives all its memory back, and says when there is none", "[core][dirty][S1.25][allocator]") {
  test::CountingAllocator memory;
  for (unsigned fail_at = 1;; ++fail_at) {
    memory.fail_at(fail_at);
    DirtyLog log;
    const bool covered = log.cover(memory.functions(), bytes(0, 3 * chunk_bytes));
    if (covered) {
      CHECK(fail_at == 5);  // the heads, and three chunks
      CHECK(log.bytes() > std::uint64_t{3} * 2 * 1024);
      break;
    }
    log.start();
    log.log(bytes(0, 3 * chunk_bytes));
    static_cast<void>(fetch(log));
  }
  CHECK(memory.open_bytes() == 0);
}

TEST_CASE("no write is lost while threads write, one fetches, and one adds memory", "[core][dirty][S1.25][threads]") {
  constexpr unsigned writers = 3;
  constexpr std::uint64_t chunks = 8;
  const std::uint64_t rounds = test::run_whole() ? 200'000 : 20'000;
  Log log{chunk_bytes};
  std::atomic<unsigned> running{writers};
  std::vector<std::set<std::uint64_t>> written(writers);
  std::vector<std::thread> threads;
  threads.reserve(writers);
  for (unsigned number = 0; number < writers; ++number) {
    threads.emplace_back([&, number] {
      test::Random random{number + 1};
      for (std::uint64_t i = 0; i < rounds; ++i) {
        // Each its own pages in words that all of them write to.
        const std::uint64_t page = random.below(256) * writers + number;
        log->log(bytes(page << page_shift, 1));
        written[number].insert(page);
      }
      --running;
    });
  }
  std::atomic<bool> covered{true};
  threads.emplace_back([&] {
    for (std::uint64_t chunk = 1; chunk < chunks; ++chunk) {
      covered = covered && (log->cover({}, bytes(chunk * chunk_bytes, chunk_bytes)));
      log->log(bytes(chunk * chunk_bytes, 1));
    }
  });
  std::set<std::uint64_t> seen;
  const auto take = [&] {
    for (const GpaRange run : fetch(log.log, 16))
      for (std::uint64_t at = run.first.value; at < run.last.value; at += page_size_bytes)
        seen.insert(at >> page_shift);
  };
  while (running != 0) take();
  for (std::thread& thread : threads) thread.join();
  for (std::size_t before = ~std::size_t{0}; before != seen.size();) {
    before = seen.size();
    for (unsigned i = 0; i < 1024; ++i) take();
  }
  CHECK(covered);
  for (const std::set<std::uint64_t>& pages : written)
    for (const std::uint64_t page : pages) CHECK(seen.contains(page));
  for (std::uint64_t chunk = 1; chunk < chunks; ++chunk) CHECK(seen.contains(chunk * (chunk_bytes >> page_shift)));
}

}  // namespace viommu::core
