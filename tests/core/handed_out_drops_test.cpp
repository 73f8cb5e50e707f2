// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Which runs of page invalidations are handed to the host's executor.
#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "tests/core/test_waist.hpp"
#include "tests/support/executors.hpp"

namespace viommu::core {
namespace {

using caches::PageScope;

/// A waist whose host has an executor.
class World {
 public:
  explicit World(std::uint32_t shards, std::uint32_t hand_out_ns = 1'000)
      : host_{functions()}, waist_{options(shards, hand_out_ns), host_} {
    REQUIRE(waist_.reset());
  }
  World(const World&) = delete;
  World& operator=(const World&) = delete;
  ~World() = default;

  /// Whether a run is worked on by several tasks.
  [[nodiscard]] bool hands_out(const std::vector<PageScope>& scopes) {
    const std::uint64_t before = executor_.rounds;
    waist_.drop(scopes);
    return executor_.rounds != before;
  }
  [[nodiscard]] std::size_t room_for_long_runs() { return waist_.long_run().size(); }

 private:
  [[nodiscard]] static WaistOptions options(std::uint32_t shards, std::uint32_t hand_out_ns) {
    WaistOptions options = test::small_waist;
    options.shards = shards;
    options.hand_out_ns = hand_out_ns;
    return options;
  }
  [[nodiscard]] HostFunctions functions() {
    HostFunctions functions;
    functions.opaque = this;
    functions.execute = [](void* self, std::uint32_t count, test::Task task, void* context) {
      static_cast<World*>(self)->executor_.execute(count, task, context);
    };
    return functions;
  }

  test::ShufflingExecutor executor_{1};
  Host host_;
  Waist waist_;
};

/// Runs of two domains in turn, in two shards.
[[nodiscard]] std::vector<PageScope> runs(std::size_t count, std::uint64_t pages) {
  std::vector<PageScope> scopes(count);
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint64_t first = 4 * i * pages * page_size_bytes;  // none touches another
    scopes[i] = {{{first}, {first + (pages * page_size_bytes - 1)}}, {static_cast<std::uint16_t>(i % 2)}};
  }
  return scopes;
}

}  // namespace

TEST_CASE("a run is handed out where its pages are worth it, however much of the address space it names",
          "[core][queue][shards]") {
  World world{2};
  CHECK(world.hands_out(runs(500, 1)));
  CHECK(world.hands_out(runs(8, 512)));
  CHECK_FALSE(world.hands_out(runs(8, 1)));
  CHECK_FALSE(world.hands_out(runs(1, 512)));
  // To forget an address space is a store, so that a range that does costs no more for its length.
  CHECK_FALSE(world.hands_out(runs(8, 513)));
  CHECK_FALSE(world.hands_out(runs(8, std::uint64_t{1} << 30)));
  CHECK_FALSE(world.hands_out({{all_iovas, {0}}, {all_iovas, {1}}}));
}

TEST_CASE("long runs are for an IOTLB of several shards, be they two", "[core][queue][shards]") {
  CHECK(World{1}.room_for_long_runs() == 0);
  CHECK(World{2}.room_for_long_runs() == DropGroups::most_in_run);
  CHECK(World{4}.room_for_long_runs() == DropGroups::most_in_run);
  World one{1, 0};
  CHECK_FALSE(one.hands_out(runs(500, 1)));
}

}  // namespace viommu::core
