// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Guest memory that changes under a walk: regions that come and go, entries that flip between two values.
#include <atomic>
#include <catch2/catch.hpp>
#include <cstdint>
#include <thread>
#include <viommu/viommu.hpp>

#include "tests/support/guarded_region.hpp"
#include "tests/support/guest_tables.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/vtd_driver.hpp"

namespace viommu::test {
namespace {

constexpr std::uint64_t low_gpa = 0x100000;
constexpr std::uint64_t high_gpa = 0x10000000;
constexpr std::uint64_t bytes = 0x20000;
constexpr std::uint64_t iova = 0x40000000;
constexpr std::uint16_t device = 0x10;

/// A unit with root and context tables in one region and the page tables of each device in another.
class Machine {
 public:
  Machine() : engine_{create()} {
    REQUIRE(engine_.add_region(low_gpa, {low.data(), low.length()}) == VIOMMU_OK);
    driver.set_root_table(tables.root_table());
    driver.enable_queue();
    driver.enable_translation(true);
  }

  [[nodiscard]] Engine& engine() { return engine_; }
  [[nodiscard]] viommu_translation ask(Reader& reader) {
    viommu_request request{};
    request.iova = iova;
    request.source = device;
    request.access = VIOMMU_READ;
    request.flags = VIOMMU_NO_REPORT;
    return reader.translate(request);
  }

  std::atomic<std::uint64_t> regions_gone{0};
  std::atomic<bool> stop{false};
  std::atomic<const char*> complaint{nullptr};
  GuardedRegion low{low_gpa, bytes};
  GuardedRegion high{high_gpa, bytes};
  GuestTables tables{words_of(low), low_gpa + 0x2000};
  GuestTables high_tables{words_of(high), high_gpa};

 private:
  Engine create() {
    viommu_vtd_options options{};
    options.size = sizeof options;
    options.iotlb_pages = 256;  // dropping all of it takes a while otherwise
    options.context_entries = 16;
    viommu_host host{};
    host.size = sizeof host;
    host.opaque = this;
    host.region_gone = [](void* self, std::uint64_t) { static_cast<Machine*>(self)->regions_gone.fetch_add(1); };
    Expected<Engine> created = Engine::create_vtd(options, host);
    INFO(created.error().text);
    REQUIRE(created);
    return *std::move(created);
  }
  Engine engine_;

 public:
  VtdDriver driver{engine_, words_of(low), low_gpa, low_gpa + 0x1000};
};

/// One more thread; ends with the test, however that ends.
class Helper {
 public:
  template <class Work>
  Helper(Machine& machine, const Work& work) : machine_{&machine}, thread_{work} {}
  Helper(const Helper&) = delete;
  Helper& operator=(const Helper&) = delete;
  ~Helper() { dismiss(); }
  void dismiss() {
    machine_->stop = true;
    if (thread_.joinable()) thread_.join();
  }

 private:
  Machine* machine_;
  std::thread thread_;
};

}  // namespace

TEST_CASE("nothing touches a region once region_gone was called", "[stress][SEC-1][PR-9]") {
  const unsigned rounds = run_whole() ? 20'000 : 500;
  Machine machine;
  const Tree tree = machine.high_tables.create_tree(4);
  machine.high_tables.map(tree, iova, 0x5000);
  machine.tables.attach(device, tree);
  std::atomic<std::uint64_t> newest{1};  // the region is there in even generations
  std::atomic<std::uint64_t> settled{1};
  std::atomic<std::uint64_t> answers{0};
  Helper helper{machine, [&] {
                  Reader reader = *machine.engine().reader();
                  while (!machine.stop) {
                    const Guard guard = reader.guard();
                    const std::uint64_t before = settled.load();
                    const viommu_translation answer = machine.ask(reader);
                    const std::uint64_t after = newest.load();
                    const bool gone = answer.kind == VIOMMU_FAULT && (answer.reason == 0x3 || answer.reason == 0x7);
                    const bool found = answer.kind == VIOMMU_TRANSLATED && answer.gpa == 0x5000;
                    if (!gone && !found) machine.complaint = "a wrong answer";
                    std::this_thread::yield();
                    // The guard is open: the region this answer was read from is not gone yet.
                    const std::uint64_t given_in = after % 2 == 0 ? after : after - 1;
                    if (found && settled.load() > given_in) machine.complaint = "gone over an open guard";
                    if (before == after && found != (before % 2 == 0)) machine.complaint = "the region as it was";
                    ++answers;
                  }
                }};
  for (unsigned round = 1; round <= rounds && machine.complaint == nullptr; ++round) {
    newest.fetch_add(1);
    REQUIRE(machine.engine().add_region(high_gpa, {machine.high.data(), machine.high.length()}) == VIOMMU_OK);
    settled.fetch_add(1);
    const std::uint64_t seen = answers.load();
    while (answers.load() < seen + 3) std::this_thread::yield();
    newest.fetch_add(1);
    REQUIRE(machine.engine().remove_region(high_gpa, round) == VIOMMU_OK);
    for (unsigned turn = 0; machine.regions_gone.load() < round && turn < 10'000'000; ++turn) {
      static_cast<void>(machine.engine().process());
      std::this_thread::yield();
    }
    REQUIRE(machine.regions_gone.load() == round);
    settled.fetch_add(1);
    machine.high.make_accessible(false);  // whoever still reads it ends the test
    while (answers.load() < seen + 6) std::this_thread::yield();
    machine.high.make_accessible(true);
  }
  helper.dismiss();
  if (machine.complaint != nullptr) FAIL(machine.complaint.load());
}

TEST_CASE("an entry that flips leads to its old or its new value or to a fault", "[stress][SEC-3][F5]") {
  const unsigned rounds = run_whole() ? 5'000'000 : 20'000;
  Machine machine;
  REQUIRE(machine.engine().add_region(high_gpa, {machine.high.data(), machine.high.length()}) == VIOMMU_OK);
  const Tree three = machine.high_tables.create_tree(3);
  const Tree four = machine.high_tables.create_tree(4);
  machine.high_tables.map(three, iova, 0x3000);
  machine.high_tables.map(four, iova, 0x4000);
  ContextFields other_domain;
  other_domain.domain_id = 2;
  machine.tables.attach(device, three);
  // The driver breaks every rule: both words are rewritten while the entry is in use, and nothing is invalidated.
  Helper helper{machine, [&] {
                  while (!machine.stop) {
                    machine.tables.attach(device, four, other_domain);
                    machine.tables.attach(device, three);
                  }
                }};
  Reader reader = *machine.engine().reader();
  unsigned found_three = 0;
  unsigned found_four = 0;
  const auto seen_both = [&] { return found_three > 0 && found_four > 0; };
  for (unsigned round = 0; round < rounds || (!seen_both() && round < 1000 * rounds); ++round) {
    machine.engine().drop_caches();
    const viommu_translation answer = machine.ask(reader);
    if (answer.kind == VIOMMU_FAULT) continue;
    if (answer.gpa != 0x3000 && answer.gpa != 0x4000) FAIL(std::hex << answer.gpa);
    ++(answer.gpa == 0x3000 ? found_three : found_four);
  }
  helper.dismiss();
  CHECK(seen_both());
}

}  // namespace viommu::test
