// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdint>
#include <map>
#include <vector>

#include "caches/iotlb.hpp"
#include "engine/core/drop_groups.hpp"
#include "tests/support/counting_allocator.hpp"
#include "tests/support/random.hpp"

namespace viommu::core {
namespace {

using caches::PageScope;

constexpr std::uint64_t most_pages = 512;  // of a range that is dropped page by page

/// Pages [first, first + count) of a domain.
[[nodiscard]] PageScope pages(std::uint16_t domain, std::uint64_t first, std::uint64_t count = 1, bool keep = false) {
  return {{{first << page_shift}, {((first + count) << page_shift) - 1}}, {domain}, keep};
}
[[nodiscard]] PageScope whole(std::uint16_t domain) { return {all_iovas, {domain}, false}; }

struct Sorted {
  std::uint16_t shard = 0;
  bool forget = false;
  std::vector<PageScope> ranges;
};

class Groups {
 public:
  explicit Groups(unsigned shards = 4) { REQUIRE(groups_.reset({}, shards, 16)); }
  [[nodiscard]] std::map<std::uint16_t, Sorted> sort(const std::vector<PageScope>& scopes) {
    groups_.sort(scopes);
    std::map<std::uint16_t, Sorted> sorted;
    for (const std::uint16_t shard : groups_.shards()) {
      groups_.for_each_of(shard, [&](const DropGroups::Group& group, const DropGroups::Group*) {
        const auto ranges = groups_.ranges(group);
        const bool is_new =
            sorted.emplace(group.domain.value, Sorted{shard, group.forget, {ranges.begin(), ranges.end()}}).second;
        CHECK(is_new);
      });
    }
    CHECK(sorted.size() == groups_.groups());
    return sorted;
  }

 private:
  DropGroups groups_;
};

[[nodiscard]] bool same(const std::vector<PageScope>& left, const std::vector<PageScope>& right) {
  return std::ranges::equal(left, right, [](const PageScope& a, const PageScope& b) {
    return a.range == b.range && a.domain == b.domain && a.keep_structures == b.keep_structures;
  });
}

}  // namespace

TEST_CASE("a run is grouped by domain, each domain in order and in its shard", "[core][queue][shards]") {
  Groups groups{2};
  const auto sorted = groups.sort({pages(1, 10), pages(2, 20), pages(1, 5), pages(3, 30), pages(2, 2)});
  REQUIRE(sorted.size() == 3);
  CHECK(same(sorted.at(1).ranges, {pages(1, 10), pages(1, 5)}));
  CHECK(same(sorted.at(2).ranges, {pages(2, 20), pages(2, 2)}));
  CHECK(same(sorted.at(3).ranges, {pages(3, 30)}));
  CHECK(sorted.at(1).shard == 1);
  CHECK(sorted.at(2).shard == 0);
  CHECK(sorted.at(3).shard == 1);
  CHECK_FALSE(sorted.at(1).forget);
}

TEST_CASE("domains are in one task exactly when they share sets of the IOTLB", "[core][queue][shards]") {
  for (const unsigned shards : {2U, 8U, 64U}) {
    Groups groups{shards};
    caches::Iotlb iotlb;
    REQUIRE(iotlb.reset({}, 64, shards, 1));
    std::vector<PageScope> scopes;
    for (const unsigned domain : {0U, 1U, 2U, 7U, 8U, 9U, 63U, 64U, 65U, 500U, 32768U, 65535U})
      scopes.push_back(pages(static_cast<std::uint16_t>(domain), 1));
    const auto sorted = groups.sort(scopes);
    for (const auto& [first, one] : sorted) {
      for (const auto& [second, other] : sorted) {
        const bool meet = iotlb.place(1, first).first_set() == iotlb.place(1, second).first_set();
        CHECK((one.shard == other.shard) == meet);
      }
    }
  }
}

TEST_CASE("adjacent and covered ranges of a domain become one", "[core][queue]") {
  Groups groups;
  const auto ranges = [&](const std::vector<PageScope>& scopes) { return groups.sort(scopes).at(1).ranges; };
  CHECK(same(ranges({pages(1, 10), pages(1, 11), pages(1, 12, 4)}), {pages(1, 10, 6)}));
  CHECK(same(ranges({pages(1, 10), pages(1, 9), pages(1, 1, 8)}), {pages(1, 1, 10)}));
  CHECK(same(ranges({pages(1, 8, 8), pages(1, 10)}), {pages(1, 8, 8)}));
  CHECK(same(ranges({pages(1, 10), pages(1, 8, 8)}), {pages(1, 8, 8)}));
  CHECK(same(ranges({pages(1, 10), pages(1, 12)}), {pages(1, 10), pages(1, 12)}));
  CHECK(same(ranges({pages(1, 0), pages(1, 1)}), {pages(1, 0, 2)}));
  SECTION("another domain in between does not matter") {
    CHECK(same(ranges({pages(1, 10), pages(5, 3), pages(1, 11)}), {pages(1, 10, 2)}));
  }
  SECTION("whether cached tables may stay is never mixed up") {
    CHECK(same(ranges({pages(1, 10, 1, true), pages(1, 11)}), {pages(1, 10, 1, true), pages(1, 11)}));
    CHECK(same(ranges({pages(1, 8, 8, true), pages(1, 10)}), {pages(1, 8, 8, true), pages(1, 10)}));
    CHECK(same(ranges({pages(1, 8, 8), pages(1, 10, 1, true)}), {pages(1, 8, 8)}));
    CHECK(same(ranges({pages(1, 10), pages(1, 8, 8, true)}), {pages(1, 10), pages(1, 8, 8, true)}));
    CHECK(same(ranges({pages(1, 10, 1, true), pages(1, 8, 8)}), {pages(1, 8, 8)}));
  }
  SECTION("pages of a domain and of a PASID are never mixed up, not of PASID 0 either") {
    PageScope of_pasid = pages(1, 11);
    of_pasid.by_pasid = true;
    CHECK(same(ranges({pages(1, 10), of_pasid}), {pages(1, 10), of_pasid}));
    CHECK(same(ranges({of_pasid, pages(1, 10)}), {of_pasid, pages(1, 10)}));
    PageScope next = pages(1, 12);
    next.by_pasid = true;
    CHECK(ranges({of_pasid, next}).size() == 1);
    next.pasid = {1};
    CHECK(ranges({of_pasid, next}).size() == 2);
  }
  SECTION("no range becomes so long that a whole domain is dropped for it") {
    CHECK(same(ranges({pages(1, 0, most_pages - 1), pages(1, most_pages - 1)}), {pages(1, 0, most_pages)}));
    CHECK(
        same(ranges({pages(1, 0, most_pages), pages(1, most_pages)}), {pages(1, 0, most_pages), pages(1, most_pages)}));
    CHECK_FALSE(groups.sort({pages(1, 0, most_pages), pages(1, most_pages, most_pages)}).at(1).forget);
    CHECK(groups.sort({pages(1, 0, most_pages + 1)}).at(1).forget);
  }
  SECTION("the ends of the address space touch nothing") {
    const PageScope last{{{~std::uint64_t{0xFFF}}, {~std::uint64_t{0}}}, {1}, false};
    CHECK(same(ranges({last, pages(1, 0)}), {last, pages(1, 0)}));
    CHECK(same(ranges({pages(1, 0), last}), {pages(1, 0), last}));
  }
}

TEST_CASE("a domain that is named whole swallows its pages, before and behind", "[core][queue]") {
  Groups groups;
  const auto sorted = groups.sort({pages(1, 10), pages(2, 3), whole(1), pages(1, 20, 1, true), whole(1)});
  REQUIRE(sorted.size() == 2);
  CHECK(same(sorted.at(1).ranges, {whole(1)}));
  CHECK(sorted.at(1).forget);
  CHECK(same(sorted.at(2).ranges, {pages(2, 3)}));
  CHECK_FALSE(sorted.at(2).forget);
}

TEST_CASE("a run that is sorted takes the memory that it says, and at once", "[core][queue][P6]") {
  test::CountingAllocator host;
  {
    DropGroups groups;
    CHECK_FALSE(groups.ready());
    REQUIRE(groups.reset(host.functions(), 4, 100));
    CHECK(groups.ready());
    CHECK(groups.bytes() == host.open_bytes());
    const std::uint64_t calls = host.calls();
    const std::vector<PageScope> scopes(DropGroups::most_in_run, pages(3, 5));
    groups.sort(scopes);
    CHECK(groups.groups() == 1);
    CHECK(host.calls() == calls);
  }
  CHECK(host.open_blocks() == 0);
}

TEST_CASE("a full run of any domains loses none of its pages and adds none", "[core][queue][property]") {
  Groups groups{64};
  test::Random random{77};
  for (unsigned round = 0; round < 200; ++round) {
    const std::uint64_t domains = 1 + random.below(random.chance(1, 2) ? 4 : 65536);
    std::vector<PageScope> scopes;
    std::map<std::uint16_t, std::map<std::uint64_t, bool>> wanted;  // page: tables may stay
    const auto note = [](auto& by_domain, const PageScope& scope) {
      auto& of_domain = by_domain[scope.domain.value];
      for (std::uint64_t page = scope.range.first.value >> 12; page <= scope.range.last.value >> 12; ++page) {
        const auto [at, is_new] = of_domain.emplace(page, scope.keep_structures);
        if (!is_new) at->second = at->second && scope.keep_structures;
      }
    };
    while (scopes.size() < DropGroups::most_in_run) {
      const auto domain = static_cast<std::uint16_t>(random.below(domains));
      const std::uint64_t count = std::uint64_t{1} << random.below(4);
      scopes.push_back(pages(domain, random.below(64) / count * count, count, random.chance(1, 3)));
      note(wanted, scopes.back());
    }
    std::map<std::uint16_t, std::map<std::uint64_t, bool>> found;
    for (const auto& [domain, group] : groups.sort(scopes)) {
      CHECK(group.shard == domain % 64);
      for (const PageScope& range : group.ranges) {
        REQUIRE(range.domain.value == domain);
        note(found, range);
      }
    }
    REQUIRE(found == wanted);
  }
}

}  // namespace viommu::core
