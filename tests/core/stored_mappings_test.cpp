// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Translating where a front end keeps the mappings: what one look into its store answers from then on.
#include <catch2/catch.hpp>
#include <cstdint>

#include "tests/core/test_waist.hpp"

namespace viommu::core {
namespace {

using caches::Interpretation;
using test::TestWaist;

constexpr DomainId domain{5};
constexpr std::uint64_t page = page_size_bytes;

/// One domain with one mapping.
class World {
 public:
  World(const StoredMapping& mapping, FillMode fill) : mapping_{mapping}, waist_{options(fill)} {
    waist_->enter(reader_);
    const caches::ContextEntry context = waist_->insert_context(
        waist_->context_version(), {1}, {domain, Interpretation::mappings, 0, {}, {low_bits(48)}}, false);
    REQUIRE(context);
    space_ = &context.space();
  }
  World(const World&) = delete;
  World& operator=(const World&) = delete;
  ~World() { waist_->leave(reader_); }

  /// Whether it takes a look into the store.
  [[nodiscard]] bool looks(Iova iova) {
    const std::uint64_t before = waist_->count(Count::walks);
    const Translation found = waist_->translate(reader_, *space_, iova, read_only);
    const bool is_mapped = iova >= mapping_.range.first && iova <= mapping_.range.last;
    CHECK(found.outcome == (is_mapped ? Outcome::translated : Outcome::absent));
    if (is_mapped) CHECK(found.gpa == mapping_.gpa_of(iova));
    return waist_->count(Count::walks) != before;
  }

 private:
  [[nodiscard]] WaistOptions options(FillMode fill) {
    WaistOptions options = test::small_waist;
    options.fill = fill;
    options.store.opaque = this;
    options.store.find = [](void* self, DomainId of, Iova iova, StoredMapping& found) noexcept {
      found = static_cast<World*>(self)->mapping_;
      return of == domain && iova >= found.range.first && iova <= found.range.last;
    };
    return options;
  }

  StoredMapping mapping_;
  TestWaist waist_;
  Reader& reader_ = waist_.reader();
  caches::AddressSpace* space_ = nullptr;
};

}  // namespace

TEST_CASE("one look into a store answers the pages of its block that the mapping covers, and no others",
          "[core][waist][mappings]") {
  const std::uint64_t block = 0x40000000;
  const StoredMapping mapping{{{block + 2 * page}, {block + 6 * page - 1}}, {0x7000}, read_write};
  const std::uint64_t asked = GENERATE(2U, 3U, 5U);
  SECTION("where neighbours are filled") {
    const FillMode fill = GENERATE(FillMode::line, FillMode::all);
    World world{mapping, fill};
    CHECK(world.looks({block + asked * page + 0x123}));
    for (std::uint64_t number = 2; number < 6; ++number) {
      CAPTURE(number);
      CHECK_FALSE(world.looks({block + number * page}));
      CHECK_FALSE(world.looks({block + number * page + 0xFFF}));
    }
    CHECK(world.looks({block + page}));
    CHECK(world.looks({block + 6 * page}));
  }
  SECTION("where they are not") {
    World world{mapping, FillMode::exact};
    CHECK(world.looks({block + asked * page}));
    for (std::uint64_t number = 2; number < 6; ++number) {
      CAPTURE(number);
      CHECK(world.looks({block + number * page}) == (number != asked));
    }
  }
}

TEST_CASE("a page that a mapping covers in part is looked up each time", "[core][waist][mappings]") {
  const std::uint64_t block = 0x40000000;
  World world{{{{block + 0x800}, {block + 2 * page - 1}}, {0x7800}, read_write}, FillMode::all};
  CHECK(world.looks({block + page}));
  CHECK_FALSE(world.looks({block + page + 0x10}));
  for (unsigned round = 0; round < 2; ++round) CHECK(world.looks({block + 0x900}));
  CHECK(world.looks({block}));
}

}  // namespace viommu::core
