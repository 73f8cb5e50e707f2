// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Property: whatever the guest does to its tables, its contexts and the unit, and the VMM to memory and consumers,
// after each flush that the architecture asks for every consumer holds exactly what an independent walk finds, clipped
// to its range, and was never told what no consumer could do.
#include <array>
#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdint>
#include <sstream>
#include <string>
#include <vector>

#include "tests/support/mirror_world.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/random.hpp"

namespace viommu::test {
namespace {

using World = MirrorWorld;
using Step = MirrorWorld::Step;

[[nodiscard]] std::string run(const std::vector<Step>& steps, std::size_t* failed_at = nullptr) {
  World world;
  for (std::size_t i = 0; i < steps.size(); ++i) {
    std::string wrong = world.take(steps[i]);
    if (wrong.empty()) continue;
    if (failed_at != nullptr) *failed_at = i;
    return wrong;
  }
  return {};
}

/// As few steps as still fail.
[[nodiscard]] std::vector<Step> shrunk(std::vector<Step> steps) {
  for (std::size_t chunk = steps.size() / 2; chunk > 0; chunk /= 2) {
    for (std::size_t at = 0; at + chunk <= steps.size();) {
      std::vector<Step> fewer = steps;
      fewer.erase(fewer.begin() + static_cast<std::ptrdiff_t>(at),
                  fewer.begin() + static_cast<std::ptrdiff_t>(at + chunk));
      if (run(fewer).empty())
        at += chunk;
      else
        steps = std::move(fewer);
    }
  }
  return steps;
}

[[nodiscard]] std::string text_of(const std::vector<Step>& steps) {
  std::ostringstream text;
  for (const Step& step : steps) {
    for (const std::uint32_t n : step.n) text << n << ' ';
    text << '\n';
  }
  return text.str();
}

}  // namespace

TEST_CASE("each consumer holds what an independent walk finds, whatever happens",
          "[property][consumer][A36][B45][B51]") {
  constexpr std::size_t steps_a_world = 500;
  const std::size_t worlds = run_whole() ? 2000 : 200;
  Random random{36};
  for (std::size_t world = 0; world < worlds; ++world) {
    std::vector<Step> steps(steps_a_world);
    for (Step& step : steps)
      for (std::uint32_t& n : step.n) n = static_cast<std::uint32_t>(random.next() >> 40);
    // Somebody has to be there to look.
    for (std::uint32_t i = 0; i < 4; ++i) steps[i].n = {16, i, static_cast<std::uint32_t>(world) + i, i, i, i};
    for (std::uint32_t i = 0; i < World::devices; ++i) steps[4 + i].n = {13, i, i, World::Context::tables, 1, 0};
    std::size_t failed_at = 0;
    const std::string wrong = run(steps, &failed_at);
    if (wrong.empty()) continue;
    steps.resize(failed_at + 1);
    const std::vector<Step> few = shrunk(steps);
    INFO("world " << world << " step " << failed_at << ": " << wrong << "shrunk:\n" << text_of(few) << run(few));
    REQUIRE(wrong.empty());
  }
}

}  // namespace viommu::test
