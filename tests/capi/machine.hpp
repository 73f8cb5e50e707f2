// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// A VT-d unit behind the C interface, its memory, and a guest driver.
#pragma once

#include <viommu/viommu.h>

#include <catch2/catch.hpp>
#include <cstdint>
#include <string>
#include <viommu/viommu.hpp>

#include "tests/support/guarded_region.hpp"
#include "tests/support/guest_tables.hpp"
#include "tests/support/vtd_driver.hpp"

namespace viommu::capi {

[[nodiscard]] constexpr viommu_vtd_options default_options() {
  viommu_vtd_options options{};
  options.size = sizeof options;
  return options;
}
[[nodiscard]] constexpr viommu_host empty_host() {
  viommu_host host{};
  host.size = sizeof host;
  return host;
}
[[nodiscard]] inline Engine create(const viommu_vtd_options& options = default_options(),
                                   const viommu_host& host = empty_host()) {
  Expected<Engine> engine = Engine::create_vtd(options, host);
  INFO(engine.error().text);
  REQUIRE(engine);
  return *std::move(engine);
}

inline constexpr std::uint16_t device = 0x0110;
inline constexpr std::uint16_t stranger = 0x0220;  // has no context entry
inline constexpr std::uint64_t base_iova = 0x40000000;
inline constexpr std::uint64_t page_bytes = 0x1000;

/// Translation is on, and `device` has an empty tree of three levels.
class Machine {
 public:
  explicit Machine(const viommu_vtd_options& options = default_options(), const viommu_host& host = empty_host())
      : engine{create(options, host)} {
    REQUIRE(engine.add_region(ram.gpa(), {ram.data(), ram.length()}) == VIOMMU_OK);
    tables.attach(device, tree);
    driver.set_root_table(tables.root_table());
    driver.enable_queue();
    driver.enable_translation(true);
  }

  void map(std::uint64_t iova, std::uint64_t gpa, std::uint64_t rights = test::entry_read_write, unsigned level = 1) {
    tables.map(tree, iova, gpa, rights, level);
  }
  void invalidate_all() {
    driver.add_context_global();
    driver.add_global();
    driver.submit_and_wait();
  }
  [[nodiscard]] viommu_translation ask(std::uint64_t iova = base_iova, std::uint8_t access = VIOMMU_READ,
                                       std::uint16_t source = device) {
    return reader.translate(request(source, iova, access));
  }

  test::GuardedRegion ram{0x100000, 0x80000};
  test::GuestTables tables{test::words_of(ram), 0x102000};
  test::Tree tree = tables.create_tree(3);
  Engine engine;
  test::VtdDriver driver{engine, test::words_of(ram), 0x100000, 0x101000};
  Reader reader = *engine.reader();
};

}  // namespace viommu::capi
