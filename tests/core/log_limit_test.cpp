// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/core/log_limit.hpp"

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cstdint>
#include <thread>
#include <vector>

namespace viommu::core {
namespace {

std::vector<std::uint64_t> told_of(LogLimit& limit, unsigned times) {
  std::vector<std::uint64_t> told;
  for (unsigned i = 0; i < times; ++i)
    if (const std::uint64_t count = limit.happened(); count != 0) told.push_back(count);
  return told;
}

}  // namespace

TEST_CASE("what happens again and again is told the 1st, 2nd, 4th, 8th time", "[core][log]") {
  LogLimit limit;
  CHECK(told_of(limit, 20) == std::vector<std::uint64_t>{1, 2, 4, 8, 16});
  CHECK(told_of(limit, 11).empty());
  CHECK(told_of(limit, 1000) == std::vector<std::uint64_t>{32, 64, 128, 256, 512, 1024});
}

TEST_CASE("several threads together are told no more than one", "[core][log]") {
  constexpr unsigned each = 1000;
  LogLimit limit;
  std::array<std::vector<std::uint64_t>, 3> told;
  {
    std::vector<std::thread> threads;
    threads.reserve(told.size());
    for (auto& mine : told) threads.emplace_back([&] { mine = told_of(limit, each); });
    for (std::thread& thread : threads) thread.join();
  }
  std::vector<std::uint64_t> all;
  for (const auto& mine : told) all.insert(all.end(), mine.begin(), mine.end());
  std::ranges::sort(all);
  CHECK(all == std::vector<std::uint64_t>{1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048});
}

}  // namespace viommu::core
