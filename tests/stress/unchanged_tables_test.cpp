// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// A storm of invalidations over tables that do not change: nobody may notice. Devices' requests never fault, consumers
// are told nothing, and each wait descriptor writes its status after the one before it.
#include <array>
#include <atomic>
#include <catch2/catch.hpp>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <thread>
#include <vector>
#include <viommu/viommu.hpp>

#include "tests/support/executors.hpp"
#include "tests/support/guarded_region.hpp"
#include "tests/support/guest_tables.hpp"
#include "tests/support/mirror_model.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/random.hpp"
#include "tests/support/vtd_driver.hpp"

namespace viommu::test {
namespace {

constexpr std::uint64_t page = 0x1000;
constexpr std::uint64_t pages = 4096;
constexpr std::uint64_t first_iova = 0x4000'0000;
constexpr std::uint64_t first_gpa = 0x1'0000'0000;
constexpr std::uint64_t ram = 0x10'0000;
constexpr std::uint64_t status_page = 0x10'0000'0000;  // behind the host's functions, which see the order of writes

/// Two devices, each in a domain of its own with 4096 pages that go anywhere.
struct Device {
  std::uint16_t source;
  std::uint16_t domain;
  std::uint64_t xored;  ///< page i is at first_gpa + (i ^ this) pages
};
constexpr std::array<Device, 2> devices{{{0x100, 7, 0x5A5}, {0x208, 8, 0xFFF}}};

[[nodiscard]] std::uint64_t gpa_of(const Device& device, std::uint64_t index) {
  return first_gpa + (index ^ device.xored) * page;
}

class Machine {
 public:
  explicit Machine(bool side_by_side) : side_by_side_{side_by_side}, engine_{create()} {
    REQUIRE(engine_.add_region(region_.gpa(), {region_.data(), region_.length()}) == VIOMMU_OK);
    const viommu_region mapped{first_gpa, pages * page, nullptr, VIOMMU_REGION_UNMAPPED};
    REQUIRE(viommu_region_add(engine_.get(), &mapped) == VIOMMU_OK);
    for (const Device& device : devices) {
      const Tree tree = tables_.create_tree(3);
      for (std::uint64_t i = 0; i < pages; ++i) tables_.map(tree, first_iova + i * page, gpa_of(device, i));
      tables_.attach(device.source, tree, {.domain_id = device.domain});
    }
    driver.set_root_table(tables_.root_table());
    driver.enable_queue();
    driver.enable_translation(true);
  }
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;
  ~Machine() = default;

  [[nodiscard]] Engine& engine() { return engine_; }
  [[nodiscard]] std::uint64_t rounds() const { return pool_.rounds; }

  std::atomic<std::uint32_t> status{0};
  std::atomic<std::uint64_t> out_of_order{0};
  std::atomic<std::uint64_t> view_changes{0};

 private:
  [[nodiscard]] Engine create() {
    viommu_vtd_options options{};
    options.size = sizeof options;
    options.capability = 0x80D2'008C'2226'0286;  // 39 bits, caching mode
    options.extended_capability = 0xF0'0F4A;
    options.host_address_width = 39;
    options.iotlb_pages = 2048;  // for half of them: others are walked for and evicted
    options.shards = side_by_side_ ? 2 : 0;
    viommu_host host{};
    host.size = sizeof host;
    host.opaque = this;
    host.memory_write = [](void* self, std::uint64_t gpa, const void* data, std::uint64_t size) -> std::int32_t {
      return static_cast<Machine*>(self)->write(gpa, data, size);
    };
    host.view_changed = [](void* self, std::uint16_t, std::uint32_t) {
      static_cast<Machine*>(self)->view_changes.fetch_add(1);
    };
    if (side_by_side_)
      host.execute = [](void* self, std::uint32_t count, Task task, void* context) {
        static_cast<Machine*>(self)->pool_.execute(count, task, context);
      };
    Expected<Engine> created = Engine::create_vtd(options, host);
    INFO(created.error().text);
    REQUIRE(created);
    return *std::move(created);
  }
  std::int32_t write(std::uint64_t gpa, const void* data, std::uint64_t size) {
    std::uint32_t number = 0;
    if (gpa != status_page || size != sizeof number) return -1;
    std::memcpy(&number, data, sizeof number);
    if (status.exchange(number) + 1 != number) out_of_order.fetch_add(1);
    return 0;
  }
  [[nodiscard]] Words words() {
    return {[this](std::uint64_t gpa) {
              return gpa == status_page ? std::optional<std::uint64_t>{status.load()} : region_.load_u64(gpa);
            },
            [this](std::uint64_t gpa, std::uint64_t value) { return region_.store_u64(gpa, value); }};
  }

  bool side_by_side_;
  ThreadPool pool_{1};
  GuardedRegion region_{ram, 0x10'0000};
  Engine engine_;
  GuestTables tables_{words(), ram + page};

 public:
  VtdDriver driver{engine_, words(), ram, status_page};
};

[[nodiscard]] bool right(const Device& device, std::uint64_t index, const viommu_translation& answer) {
  return answer.kind == VIOMMU_TRANSLATED && answer.gpa == gpa_of(device, index) &&
         answer.rights == (VIOMMU_READ | VIOMMU_WRITE);
}

/// Asks until `over`, and at least `count` times. @return how many answers were not the right one
[[nodiscard]] std::uint64_t ask(Reader& reader, std::uint64_t seed, std::uint64_t count,
                                const std::atomic<bool>& over) {
  constexpr std::size_t together = 16;
  Random random{seed};
  std::uint64_t wrong = 0;
  for (std::uint64_t asked = 0; asked < count || !over.load(std::memory_order_relaxed);) {
    const Device& device = devices[random.below(devices.size())];
    std::array<std::uint64_t, together> indexes{};
    std::vector<viommu_request> requests(together);
    for (std::size_t i = 0; i < together; ++i) {
      indexes[i] = random.below(pages);
      requests[i].iova = first_iova + indexes[i] * page;
      requests[i].source = device.source;
      requests[i].access = VIOMMU_READ | VIOMMU_WRITE;
    }
    const Guard guard = reader.guard();
    if (random.chance(1, 4)) {
      std::vector<viommu_translation> answers(together);
      if (reader.translate_batch(requests, answers) != VIOMMU_OK) ++wrong;
      for (std::size_t i = 0; i < together; ++i) wrong += right(device, indexes[i], answers[i]) ? 0U : 1U;
    } else {
      for (std::size_t i = 0; i < together; ++i)
        wrong += right(device, indexes[i], reader.translate(requests[i])) ? 0U : 1U;
    }
    asked += together;
  }
  return wrong;
}

void add_one(VtdDriver& driver, Random& random) {
  const Device& device = devices[random.below(devices.size())];
  switch (random.below(6)) {
    case 0:  driver.add_global(); break;
    case 1:  driver.add_domain(device.domain); break;
    case 2:  driver.add_context_device(device.domain, device.source); break;
    case 3:  driver.add_context_global(); break;
    default: {
      const auto mask = static_cast<unsigned>(random.below(11));
      const std::uint64_t iova = first_iova + random.below(pages) * page;
      driver.add_page(device.domain, iova & ~((page << mask) - 1), mask, random.chance(1, 2));
    }
  }
}

/// So many of all kinds, some waits at a time open. @return how many waits there were
std::uint32_t post(VtdDriver& driver, std::uint64_t count, std::uint64_t seed) {
  Random random{seed};
  std::uint32_t last = 0;
  for (std::uint64_t posted = 0; posted < count;) {
    for (std::uint64_t waits = 1 + random.below(4); waits > 0; --waits) {
      // Now and then so many pages that it pays to do the domains side by side.
      const bool many = random.chance(1, 8);
      for (std::uint64_t more = many ? 40 : random.below(8); more > 0; --more, ++posted) {
        if (many)
          driver.add_page(devices[more % devices.size()].domain, first_iova + random.below(8) * 0x20'0000, 9);
        else
          add_one(driver, random);
      }
      last = driver.submit();
    }
    driver.wait_for(last);
  }
  return last;
}

}  // namespace

TEST_CASE("a storm of invalidations over unchanged tables faults nobody and tells no consumer anything",
          "[stress][A15][S1.8][PR-8]") {
  const std::uint64_t descriptors = run_whole() ? 100'000 : 800;
  const std::uint64_t requests = run_whole() ? 1'000'000 : 10'000;
  for (const bool side_by_side : {false, true}) {
    CAPTURE(side_by_side);
    Machine machine{side_by_side};
    MirrorModel usual;
    MirrorModel never_blinks{VIOMMU_CONSUMER_NO_BLINK};
    MirrorModel second;
    usual.join(machine.engine(), devices[0].source);
    never_blinks.join(machine.engine(), devices[0].source);
    second.join(machine.engine(), devices[1].source);
    const std::array<MirrorModel*, 3> consumers{&usual, &never_blinks, &second};
    for (MirrorModel* consumer : consumers) {
      REQUIRE(consumer->extents().size() == pages);  // no neighbours
      consumer->seen.clear();
    }
    const std::uint64_t views = machine.view_changes;
    const std::uint64_t before = machine.engine().statistics().translations;

    std::atomic<bool> over{false};
    std::atomic<std::uint64_t> wrong{0};
    std::vector<std::thread> threads;
    for (std::uint64_t seed = 1; seed <= 4; ++seed)
      threads.emplace_back(
          [&, seed, reader = *machine.engine().reader()]() mutable { wrong += ask(reader, seed, requests, over); });
    std::string stuck;
    std::uint32_t waits = 0;
    try {
      waits = post(machine.driver, descriptors, 5);
    } catch (const std::exception& error) {
      stuck = error.what();
    }
    over = true;
    for (std::thread& thread : threads) thread.join();

    CHECK(stuck == "");
    CHECK(wrong == 0);
    CHECK(machine.engine().statistics().faults == 0);
    CHECK(machine.engine().statistics().translations - before >= 4 * requests);
    CHECK(machine.status == waits);
    CHECK(machine.out_of_order == 0);
    CHECK(machine.engine().statistics().waits == waits);
    CHECK(machine.view_changes == views);
    for (const MirrorModel* consumer : consumers) {
      CHECK(consumer->seen.empty());
      CHECK(consumer->reports.empty());
      CHECK(consumer->wrong.empty());
    }
    if (side_by_side) CHECK(machine.rounds() > 0);
  }
}

}  // namespace viommu::test
