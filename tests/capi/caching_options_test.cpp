// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Options of the caches and walkers, seen by what an engine does: kernels, fills, no cache at all, executors.
#include <viommu/viommu.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <catch2/catch.hpp>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "tests/capi/machine.hpp"
#include "walkers/simd/select.hpp"

namespace viommu::capi {
namespace {

struct Made {
  viommu_result result;
  std::string text;
  std::string kernel;
};
Made make(const char* kernel) {
  viommu_vtd_options options = default_options();
  options.kernel = kernel;
  const viommu_host host = empty_host();
  std::array<char, 128> text{};
  viommu_engine* engine = nullptr;
  const viommu_result result = viommu_create_vtd(&options, &host, text.data(), text.size(), &engine);
  Made made{result, text.data(), engine == nullptr ? "" : viommu_kernel(engine)};
  CHECK(viommu_destroy(engine) == VIOMMU_OK);
  return made;
}

/// VIOMMU_KERNEL for a scope of the test, and afterwards as it was.
class KernelVariable {
 public:
  explicit KernelVariable(const char* value) {
    const char* const before = std::getenv("VIOMMU_KERNEL");
    was_set_ = before != nullptr;
    if (was_set_) before_ = before;
    set(value);
  }
  KernelVariable(const KernelVariable&) = delete;
  KernelVariable& operator=(const KernelVariable&) = delete;
  ~KernelVariable() { set(was_set_ ? before_.c_str() : nullptr); }

 private:
  static void set(const char* value) {
    if (value == nullptr) {
      ::unsetenv("VIOMMU_KERNEL");
    } else {
      ::setenv("VIOMMU_KERNEL", value, 1);
    }
  }
  std::string before_;
  bool was_set_ = false;
};

viommu_vtd_options filling(std::uint32_t fill) {
  viommu_vtd_options options = default_options();
  options.fill = fill;
  return options;
}
constexpr std::uint64_t gpa_base = 0x80000000;
void map_run(Machine& machine, std::uint64_t pages) {
  for (std::uint64_t page = 0; page < pages; ++page)
    machine.map(base_iova + page * page_bytes, gpa_base + page * page_bytes);
}
/// Asks for a page. @return whether that took a walk
bool walks(Machine& machine, std::uint64_t page, std::uint64_t gpa) {
  const std::uint64_t before = machine.engine.statistics().walks;
  const viommu_translation answer = machine.ask(base_iova + page * page_bytes + 0x10);
  CHECK(answer.kind == VIOMMU_TRANSLATED);
  CHECK(answer.gpa == gpa + 0x10);
  return machine.engine.statistics().walks != before;
}
bool walks(Machine& machine, std::uint64_t page) { return walks(machine, page, gpa_base + page * page_bytes); }

}  // namespace

TEST_CASE("a walk kernel is chosen by name, by the environment, or for the CPU", "[capi][options][kernel]") {
  const KernelVariable none{nullptr};
  const std::string best = walkers::select_kernels()->name;
  CHECK(make(nullptr).kernel == best);
  for (const walkers::Kernels* const kernel : walkers::runnable_kernels()) {
    CHECK(make(kernel->name).kernel == kernel->name);
    const KernelVariable variable{kernel->name};
    CHECK(make(nullptr).kernel == kernel->name);
    CHECK(make("scalar").kernel == "scalar");  // the option goes first
  }
  const KernelVariable empty{""};
  CHECK(make(nullptr).kernel == best);
}

TEST_CASE("a kernel that is not to be had is refused, wherever it was named", "[capi][options][kernel]") {
  for (const char* const name : {"nonsense", "Scalar", "scalar ", "avx1024"}) {
    const KernelVariable none{nullptr};
    const Made by_option = make(name);
    CHECK(by_option.result == VIOMMU_E_UNSUPPORTED);
    CHECK(by_option.text == "options.kernel (or VIOMMU_KERNEL): not a kernel of this build and CPU");
    const KernelVariable variable{name};
    CHECK(make(nullptr).result == VIOMMU_E_UNSUPPORTED);
    CHECK(make("scalar").result == VIOMMU_OK);
  }
}

TEST_CASE("exact fills cache the page that was asked for alone", "[capi][options][fill]") {
  Machine machine{filling(VIOMMU_FILL_EXACT)};
  map_run(machine, 16);
  for (std::uint64_t page = 0; page < 16; ++page) {
    CHECK(walks(machine, page));
    CHECK_FALSE(walks(machine, page));
  }
}

TEST_CASE("line fills answer the neighbours in a leaf's line that go on alike", "[capi][options][fill]") {
  const std::uint32_t fill = GENERATE(as<std::uint32_t>{}, VIOMMU_FILL_LINE, VIOMMU_FILL_ALL, VIOMMU_FILL_DEFAULT);
  Machine machine{filling(fill)};
  map_run(machine, 8);
  SECTION("all eight") {
    CHECK(walks(machine, 5));
    for (std::uint64_t page = 0; page < 8; ++page) CHECK_FALSE(walks(machine, page));
  }
  SECTION("not one that goes elsewhere, nor one with other rights") {
    machine.map(base_iova + 2 * page_bytes, 0x5000);
    machine.map(base_iova + 6 * page_bytes, gpa_base + 6 * page_bytes, test::entry_read);
    CHECK(walks(machine, 5));
    for (const std::uint64_t page : {0U, 1U, 3U, 4U, 7U}) CHECK_FALSE(walks(machine, page));
    CHECK(walks(machine, 2, 0x5000));
    CHECK(walks(machine, 6));
  }
  SECTION("not one that is not mapped") {
    machine.tables.unmap(machine.tree, base_iova + 3 * page_bytes);
    CHECK(walks(machine, 5));
    CHECK(machine.ask(base_iova + 3 * page_bytes).kind == VIOMMU_FAULT);
    machine.map(base_iova + 3 * page_bytes, gpa_base + 3 * page_bytes);
    CHECK(walks(machine, 3));  // a fault is not cached
    CHECK_FALSE(walks(machine, 3));
  }
  SECTION("as one batch") {
    std::vector<viommu_request> requests{request(device, base_iova + 7 * page_bytes, VIOMMU_READ)};
    std::vector<viommu_translation> answers(1);
    REQUIRE(machine.reader.translate_batch(requests, answers) == VIOMMU_OK);
    for (std::uint64_t page = 0; page < 8; ++page) CHECK_FALSE(walks(machine, page));
  }
}

TEST_CASE("a neighbour that was filled is as old as it says, until it is invalidated", "[capi][options][fill][P1]") {
  const std::uint32_t fill = GENERATE(as<std::uint32_t>{}, VIOMMU_FILL_LINE, VIOMMU_FILL_ALL);
  for (std::uint64_t changed = 0; changed < 8; ++changed) {
    Machine machine{filling(fill)};
    map_run(machine, 8);
    CHECK(walks(machine, 0));
    machine.map(base_iova + changed * page_bytes, 0x5000);
    CHECK_FALSE(walks(machine, changed));  // stale, as allowed
    machine.driver.add_page(1, base_iova + changed * page_bytes, 0, true);
    machine.driver.submit_and_wait();
    for (std::uint64_t page = 0; page < 8; ++page)
      CHECK(walks(machine, page, page == changed ? 0x5000 : gpa_base + page * page_bytes) == (page == changed));
  }
}

TEST_CASE("line fills look no further than the line, whatever comes in a stream", "[capi][options][fill]") {
  Machine machine{filling(VIOMMU_FILL_LINE)};
  map_run(machine, 128);
  for (std::uint64_t page = 0; page < 128; ++page) CHECK(walks(machine, page) == (page % 8 == 0));
}

TEST_CASE("a stream finds the next line filled, and no line that was invalidated since", "[capi][options][fill][P1]") {
  Machine machine{filling(VIOMMU_FILL_ALL)};
  constexpr std::uint64_t pages = 128;
  map_run(machine, pages);
  unsigned walked = 0;
  for (std::uint64_t page = 0; page < pages; ++page) walked += walks(machine, page) ? 1U : 0U;
  CHECK(walked <= 12);  // of 16 lines; every second one once the stream is known
  for (std::uint64_t page = 0; page < pages; ++page) CHECK_FALSE(walks(machine, page));
  machine.driver.add_page(1, base_iova, 7);
  machine.driver.submit_and_wait();
  for (std::uint64_t page = 0; page < pages; ++page)
    machine.map(base_iova + page * page_bytes, 2 * gpa_base + page * page_bytes);
  for (std::uint64_t page = 0; page < pages; ++page)
    static_cast<void>(walks(machine, page, 2 * gpa_base + page * page_bytes));
}

TEST_CASE("an uncached engine walks for each request", "[capi][options][fill]") {
  const std::uint32_t fill = GENERATE(as<std::uint32_t>{}, VIOMMU_FILL_EXACT, VIOMMU_FILL_ALL);
  viommu_vtd_options options = filling(fill);
  options.flags = VIOMMU_UNCACHED;
  Machine machine{options};
  map_run(machine, 16);
  for (unsigned round = 0; round < 3; ++round)
    for (std::uint64_t page = 0; page < 16; ++page) CHECK(walks(machine, page));
  std::vector<viommu_request> requests(20, request(device, base_iova, VIOMMU_READ));
  std::vector<viommu_translation> answers(requests.size());
  const viommu_statistics before = machine.engine.statistics();
  REQUIRE(machine.reader.translate_batch(requests, answers) == VIOMMU_OK);
  const viommu_statistics after = machine.engine.statistics();
  CHECK(after.walks - before.walks == requests.size());
  CHECK(after.walk_loads - before.walk_loads == 3 * requests.size());
  CHECK(after.iotlb_hits == 0);
  CHECK(after.iotlb_fills == 0);
}

TEST_CASE("sweeps for tags run on the host's executor, in any order and from several threads",
          "[capi][options][execute]") {
  struct Executor {
    std::atomic<std::uint64_t> calls{0};
    std::atomic<std::uint64_t> tasks{0};
    bool threads = false;
  } executor;
  executor.threads = GENERATE(false, true);
  viommu_host host = empty_host();
  host.opaque = &executor;
  host.execute = [](void* self, std::uint32_t count, void (*task)(void* context, std::uint32_t index), void* context) {
    auto& own = *static_cast<Executor*>(self);
    own.calls.fetch_add(1);
    const auto every = [&](std::uint32_t first, std::uint32_t step) {
      for (std::uint32_t i = first; i < count; i += step) {
        own.tasks.fetch_add(1);
        task(context, count - 1 - i);
      }
    };
    if (!own.threads) return every(0, 1);
    std::vector<std::thread> threads;
    threads.reserve(3);
    for (std::uint32_t first = 0; first < 3; ++first) threads.emplace_back(every, first, 3U);
    for (std::thread& thread : threads) thread.join();
  };
  viommu_vtd_options options = default_options();
  options.tag_bits = 4;
  Machine machine{options, host};
  for (std::uint64_t round = 0; round < 500; ++round) {
    machine.map(base_iova, round << 12);
    machine.driver.add_domain(1);
    machine.driver.submit_and_wait();
    REQUIRE(machine.ask().gpa == round << 12);
    REQUIRE(machine.ask().gpa == round << 12);
  }
  CHECK(machine.engine.statistics().tag_sweeps > 20);
  CHECK(executor.calls > 20);
  CHECK(executor.tasks >= executor.calls);
}

TEST_CASE("completions make process barriers only where the drain mode says so", "[capi][options][drain]") {
  const auto barriers_of = [](std::uint32_t drain) {
    viommu_vtd_options options = default_options();
    options.drain = drain;
    Machine machine{options};
    for (unsigned i = 0; i < 200; ++i) {
      static_cast<void>(machine.ask());
      machine.driver.add_domain(1);
      machine.driver.submit_and_wait();
    }
    return machine.engine.statistics().process_barriers;
  };
  CHECK(barriers_of(VIOMMU_DRAIN_FENCE) == 0);
  CHECK(barriers_of(VIOMMU_DRAIN_AUTO) < 40);  // a strict guest: entries fence
  const std::uint64_t by_barriers = barriers_of(VIOMMU_DRAIN_BARRIER);
  CHECK((by_barriers == 0 || by_barriers >= 200));  // none where the kernel has none
}

}  // namespace viommu::capi
