// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Batches of misses in scalable mode, whose walks go down together: answers, flags, counts and what is cached are those
// of one request after another.
#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "engine/base/atomic_pair.hpp"
#include "tests/behaviour/scalable_machine.hpp"
#include "walkers/simd/select.hpp"

namespace viommu::test {
namespace {

using namespace scalable;
using Machine = ScalableMachine;

constexpr std::uint64_t ssade = bit(9);
constexpr std::uint64_t middle = 0x5000'0000;

struct Kind {
  std::uint64_t type;
  std::uint64_t low;
};

/// How the requests ask.
struct Way {
  std::uint64_t base;  ///< of the pages
  bool by_pasid;
};
constexpr std::uint64_t upper_half = 0xFFFF'9000'4000'0000;

/// Two devices by their RID_PASIDs 5 and 6, domains 1 and 2, or by PASIDs 7 and 8 with the same tables: 60 pages, of
/// which some are not there and some may only be read.
struct Guest : Machine {
  Guest(const Kind& kind, const Way& way, const char* kernel)
      : Machine{capability, everything, 0x30, capi::empty_host(), 0, kernel} {
    attach(device, 8, 5);
    attach(upper_device, 8, 6);
    const bool is_nested = kind.type == nested;
    Tree first = tables.create_tree(4);
    const Tree second = tables.create_tree(4);
    for (std::uint64_t i = 0; i < pages; ++i) {
      const std::uint64_t rights = i % 11 == 7 ? 0 : (i % 7 == 3 ? 1 : 3);
      const std::uint64_t at = is_nested ? middle + i * 0x3000 : 0x2000'0000 + i * 0x3000;
      map(first, way.base + i * 0x1000, at, rights == 0 ? 0 : rights | (kind.type == second_stage ? 0 : user));
      if (is_nested && i % 13 != 5) map(second, at, 0x2000'0000 + i * 0x5000, i % 17 == 9 ? 1 : 3);
    }
    for (std::uint64_t at = 0x10'0000; at < 0x20'0000; at += 0x1000) map(second, at, at, 3);
    for (const std::uint32_t pasid : {5U, 6U, 7U, 8U}) {
      PasidEntry fields;
      fields.type = kind.type;
      fields.domain = static_cast<std::uint16_t>(pasid % 2 == 1 ? 1 : 2);
      fields.tree = first;
      fields.second = second;
      fields.low = kind.low;
      fields.high = bit(23);  // PWSNP
      set_pasid(pasid, fields);
    }
    invalidate_all();
  }

  static constexpr std::uint64_t pages = 60;
};

}  // namespace

TEST_CASE("misses of a batch walk together in each kind of stages, and leave what single ones leave",
          "[scalable][batch][statistics][B30][B31][B37]") {
  const Kind kind = GENERATE(Kind{first_stage, 0}, Kind{second_stage, ssade}, Kind{nested, 0}, Kind{nested, ssade});
  const Way way =
      GENERATE(Way{Machine::iova, false}, Way{Machine::iova, true}, Way{upper_half, false}, Way{upper_half, true});
  if (way.base == upper_half && kind.type == second_stage) return;  // has no upper half
  std::vector<viommu_request> requests;
  for (std::size_t i = 0; i < 2 * Guest::pages; ++i) {
    // Each page once by each device; writes are to pages of their own, so that no walk sees another one's flag or not.
    const std::uint64_t page = i / 2;
    const std::uint16_t source = i % 2 == 0 ? Machine::device : Machine::upper_device;
    const std::uint8_t access = page % 3 == 0 ? VIOMMU_WRITE : VIOMMU_READ;
    requests.push_back(request(source, way.base + page * 0x1000 + i, access));
    requests.back().flags = static_cast<std::uint8_t>(VIOMMU_NO_REPORT | (way.by_pasid ? VIOMMU_HAS_PASID : 0));
    if (way.by_pasid) requests.back().pasid = i % 2 == 0 ? 7 : 8;
    if (page % 5 == 1 && access == VIOMMU_READ) requests.back().flags |= VIOMMU_ZERO_LENGTH;
  }
  for (const walkers::Kernels* const kernels : walkers::runnable_kernels()) {
    Guest together{kind, way, kernels->name};
    Guest alone{kind, way, kernels->name};
    std::vector<viommu_translation> answers(requests.size());
    for (int pass = 0; pass < 4; ++pass) {  // flags to be set, all set and nothing cached, all cached, and again afresh
      CAPTURE(kind.type, kind.low, way.base, way.by_pasid, kernels->name, pass);
      if (pass != 2) {
        together.invalidate_all();
        alone.invalidate_all();
      }
      const viommu_statistics before = together.engine.statistics();
      const viommu_statistics alone_before = alone.engine.statistics();
      REQUIRE(together.reader.translate_batch(requests, answers) == VIOMMU_OK);
      for (std::size_t i = 0; i < requests.size(); ++i) {
        const viommu_translation right = alone.reader.translate(requests[i]);
        CAPTURE(i);
        REQUIRE(answers[i].kind == right.kind);
        REQUIRE(answers[i].gpa == right.gpa);
        REQUIRE(answers[i].mask == right.mask);
        REQUIRE(answers[i].rights == right.rights);
        REQUIRE(answers[i].reason == right.reason);
      }
      for (std::uint64_t at = Machine::directory_page; at < 0x20'0000; at += 8)
        if (together.word(at) != alone.word(at)) FAIL("another word at " << at);
      const viommu_statistics now = together.engine.statistics();
      const viommu_statistics alone_now = alone.engine.statistics();
      // Where pairs of words are not whole, fills of a batch spoil one another's samples: less is cached then.
      if (pass == 2 && !AtomicPair::whole()) continue;
      CHECK(now.walks - before.walks == alone_now.walks - alone_before.walks);
      CHECK(now.walk_loads - before.walk_loads == alone_now.walk_loads - alone_before.walk_loads);
      if (pass != 2) CHECK(now.walks - before.walks == requests.size());
      if (pass == 2) CHECK(now.walks - before.walks < requests.size() / 2);  // those that fault alone
    }
  }
}

}  // namespace viommu::test
