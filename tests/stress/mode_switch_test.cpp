// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The guest switches what holds for every device: translation on and off, one root table for another. Threads translate
// all the while. A switch is a generation: `newest` is raised before the register write, `settled` after GSTS shows it.
#include <atomic>
#include <catch2/catch.hpp>
#include <cstdint>
#include <thread>
#include <vector>
#include <viommu/viommu.hpp>

#include "tests/support/guarded_region.hpp"
#include "tests/support/guest_tables.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/random.hpp"
#include "tests/support/vtd_driver.hpp"

namespace viommu::test {
namespace {

constexpr std::uint64_t iova = 0x40000000;
constexpr std::uint64_t even_gpa = 0x2000;
constexpr std::uint64_t odd_gpa = 0x3000;
constexpr std::uint16_t devices = 8;

/// Two root tables for the same devices: below one the page is at even_gpa, below the other at odd_gpa.
class Machine {
 public:
  Machine() : engine_{create()} {
    REQUIRE(engine_.add_region(region_.gpa(), {region_.data(), region_.length()}) == VIOMMU_OK);
    fill(even, even_gpa);
    fill(odd, odd_gpa);
    driver.set_root_table(even.root_table());
    driver.enable_queue();
    driver.enable_translation(true);
  }

  /// Threads that ask until the test ends. `even_answer` and `odd_answer` are the only two right kinds of answer.
  template <class Even, class Odd>
  void ask_for_ever(const Even& even_answer, const Odd& odd_answer) {
    for (std::uint64_t seed = 1; seed <= 3; ++seed) {
      threads_.emplace_back([this, seed, even_answer, odd_answer, reader = *engine_.reader()]() mutable {
        Random random{seed};
        while (!stop_) ask(reader, random, even_answer, odd_answer);
      });
    }
  }
  /// One switch: `act` returns when the guest has seen it done.
  template <class Act>
  void turn(const Act& act) {
    const std::uint64_t until = answers_.load() + 5;  // the other threads may not get a turn otherwise
    while (answers_.load() < until && fine()) std::this_thread::yield();
    newest_.fetch_add(1);
    act(newest_.load() % 2 == 0);
    settled_.fetch_add(1);
  }
  [[nodiscard]] bool fine() const { return complaint_ == nullptr; }
  void finish() {
    dismiss();
    if (complaint_ != nullptr) FAIL(complaint_.load());
    CHECK(answers_ > 0);
  }
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;
  ~Machine() { dismiss(); }

 private:
  static Engine create() {
    viommu_vtd_options options{};
    options.size = sizeof options;
    options.capability = std::uint64_t{1} << 63 | 6 | 0x400 | std::uint64_t{47} << 16 | std::uint64_t{0x22} << 24 |
                         std::uint64_t{1} << 39 | std::uint64_t{18} << 48 | std::uint64_t{3} << 54;  // with ESRTPS
    options.extended_capability = 0x43 | std::uint64_t{0xF} << 8;
    viommu_host host{};
    host.size = sizeof host;
    Expected<Engine> created = Engine::create_vtd(options, host);
    INFO(created.error().text);
    REQUIRE(created);
    return *std::move(created);
  }
  static void fill(GuestTables& tables, std::uint64_t gpa) {
    const Tree tree = tables.create_tree(4);
    tables.map(tree, iova, gpa);
    for (std::uint16_t device = 0; device < devices; ++device) tables.attach(device, tree);
  }
  void dismiss() {
    stop_ = true;
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
  }

  template <class Even, class Odd>
  void ask(Reader& reader, Random& random, const Even& even_answer, const Odd& odd_answer) {
    viommu_request request{};
    request.iova = iova;
    request.source = static_cast<std::uint16_t>(random.below(devices));
    request.access = VIOMMU_READ;
    request.flags = VIOMMU_NO_REPORT;
    const Guard guard = reader.guard();
    const std::uint64_t before = settled_.load();
    const viommu_translation answer = reader.translate(request);
    const std::uint64_t after = newest_.load();
    answers_.fetch_add(1, std::memory_order_relaxed);
    const bool is_even = even_answer(answer);
    if (!is_even && !odd_answer(answer)) complaint_ = "an answer of neither kind";
    if (before == after && is_even != (before % 2 == 0)) complaint_ = "the way it was before the last switch";
    if (random.chance(1, 8)) std::this_thread::yield();
    // This way of answering may have been left since, but the guest must not have been told: the guard is open.
    const std::uint64_t given_in = (after % 2 == 0) == is_even ? after : after - 1;
    if (settled_.load() > given_in) complaint_ = "a switch was shown over an open guard";
  }

  GuardedRegion region_{0x100000, 0x40000};
  Engine engine_;
  std::atomic<std::uint64_t> newest_{0};
  std::atomic<std::uint64_t> settled_{0};
  std::atomic<std::uint64_t> answers_{0};
  std::atomic<const char*> complaint_{nullptr};
  std::atomic<bool> stop_{false};
  std::vector<std::thread> threads_;

 public:
  GuestTables even{words_of(region_), 0x102000};
  GuestTables odd{words_of(region_), 0x120000};
  VtdDriver driver{engine_, words_of(region_), 0x100000, 0x101000};
};

}  // namespace

TEST_CASE("translation is on or off for a whole guard once GSTS says so", "[stress][PR-5][B61][B62]") {
  const unsigned rounds = run_whole() ? 200'000 : 2'000;
  Machine machine;
  machine.ask_for_ever([](const auto& answer) { return answer.kind == VIOMMU_TRANSLATED && answer.gpa == even_gpa; },
                       [](const auto& answer) { return answer.kind == VIOMMU_IDENTITY && answer.gpa == iova; });
  for (unsigned round = 0; round < rounds && machine.fine(); ++round) {
    machine.turn([&](bool on) { machine.driver.enable_translation(on); });
  }
  machine.finish();
}

TEST_CASE("a new root table holds for every device once GSTS says so", "[stress][PR-5][B61]") {
  const unsigned rounds = run_whole() ? 200'000 : 2'000;
  Machine machine;
  machine.ask_for_ever([](const auto& answer) { return answer.kind == VIOMMU_TRANSLATED && answer.gpa == even_gpa; },
                       [](const auto& answer) { return answer.kind == VIOMMU_TRANSLATED && answer.gpa == odd_gpa; });
  for (unsigned round = 0; round < rounds && machine.fine(); ++round) {
    // The unit says that setting the root table pointer invalidates by itself (ESRTPS).
    machine.turn([&](bool even) { machine.driver.set_root_table((even ? machine.even : machine.odd).root_table()); });
  }
  machine.finish();
}

}  // namespace viommu::test
