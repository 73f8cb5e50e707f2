// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Documents about an engine while threads translate, hold, and a guest maps, unmaps, invalidates, moves devices and
// faults: each is one well-formed document, and none changes an answer or keeps a completion back for good.
#include <array>
#include <atomic>
#include <catch2/catch.hpp>
#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>
#include <viommu/viommu.hpp>

#include "tests/capi/machine.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/random.hpp"

namespace viommu::test {
namespace {

using capi::base_iova;
using capi::device;
using capi::page_bytes;

constexpr std::uint64_t pages = 64;
/// Where a page is mapped, in one of two lives.
constexpr std::uint64_t gpa_of(std::uint64_t page, bool second) {
  return 0x40000000 * std::uint64_t{second ? 2U : 1U} + page * page_bytes;
}

viommu_vtd_options small_caches() {
  viommu_vtd_options options = capi::default_options();
  options.iotlb_pages = 32;
  options.context_entries = 2;
  options.tag_bits = 4;
  return options;
}

class Threads {
 public:
  template <class Work>
  void add(const Work& work) {
    threads_.emplace_back([this, own = Work{work}]() mutable {
      while (!stop_.load(std::memory_order_relaxed)) own();
    });
  }
  ~Threads() {
    stop_ = true;
    for (std::thread& thread : threads_) thread.join();
  }

 private:
  std::atomic<bool> stop_{false};
  std::vector<std::thread> threads_;
};

}  // namespace

TEST_CASE("documents are well formed and answers right while everything runs", "[stress][dump]") {
  const unsigned rounds = run_whole() ? 20'000 : 300;
  capi::Machine machine{small_caches()};
  std::atomic<unsigned> wrong_answers{0};
  std::atomic<unsigned> wrong_documents{0};
  std::atomic<unsigned> documents{0};
  std::atomic<unsigned> answers{0};
  for (std::uint64_t page = 0; page < pages; ++page) machine.map(base_iova + page * page_bytes, gpa_of(page, false));
  {
    Threads threads;
    const auto translate = [&](std::uint64_t seed) {
      threads.add([&, random = Random{seed}, reader = std::make_shared<Reader>(*machine.engine.reader())]() mutable {
        const std::uint64_t page = random.below(pages);
        viommu_translation answer{};
        const viommu_request asked = request(device, base_iova + page * page_bytes, VIOMMU_READ, 8, VIOMMU_NO_REPORT);
        if (random.chance(1, 4)) {
          const Hold hold = reader->hold(asked, page, answer);
        } else {
          const Guard guard = reader->guard();
          answer = reader->translate(asked);
        }
        const bool right =
            answer.kind == VIOMMU_FAULT || answer.gpa == gpa_of(page, false) || answer.gpa == gpa_of(page, true);
        if (!right) ++wrong_answers;
        ++answers;
      });
    };
    translate(1);
    translate(2);
    for (std::uint64_t seed = 3; seed <= 4; ++seed) {
      threads.add([&, random = Random{seed}]() mutable {
        const std::uint64_t page = random.below(pages + 8);
        auto text = machine.engine.dump(63, request(device, base_iova + page * page_bytes, VIOMMU_WRITE), 100);
        if (!text || !nlohmann::json::accept(*text)) ++wrong_documents;
        ++documents;
      });
    }
    Random random{5};
    for (unsigned round = 0; round < rounds; ++round) {
      const std::uint64_t page = random.below(pages);
      const std::uint64_t iova = base_iova + page * page_bytes;
      if (random.chance(1, 3)) {
        machine.tables.unmap(machine.tree, iova);
      } else {
        machine.map(iova, gpa_of(page, random.chance(1, 2)));
      }
      switch (random.below(4)) {
        case 0:  machine.driver.add_global(); break;
        case 1:  machine.driver.add_context_global(); break;
        case 2:  machine.driver.add_domain(1); break;
        default: machine.driver.add_page(1, iova);
      }
      machine.driver.submit_and_wait();
      static_cast<void>(machine.ask(iova, VIOMMU_WRITE, capi::stranger));  // a fault record
      while (documents < round / 8) std::this_thread::yield();
    }
  }
  CHECK(wrong_answers == 0);
  CHECK(wrong_documents == 0);
  CHECK(documents > rounds / 16);
  CHECK(answers > rounds);
}

}  // namespace viommu::test
