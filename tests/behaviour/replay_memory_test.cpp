// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What a replay takes beside the guest's tables, by what the host's allocator sees.
#include <viommu/viommu.hpp>

#include <catch2/catch.hpp>
#include <cstdint>
#include <functional>
#include <span>

#include "tests/capi/machine.hpp"
#include "tests/support/counting_allocator.hpp"
#include "tests/support/guarded_region.hpp"
#include "tests/support/guest_tables.hpp"
#include "tests/support/vtd_driver.hpp"

namespace viommu::capi {
namespace {

constexpr std::uint64_t mib = std::uint64_t{1} << 20;
constexpr std::uint64_t large_page = 2 * mib;
constexpr std::uint64_t guest_bytes = std::uint64_t{1} << 40;
constexpr std::uint64_t frames = std::uint64_t{1} << 40;  // guest memory that nobody accesses
constexpr std::uint64_t frames_bytes = std::uint64_t{1} << 41;
constexpr std::uint64_t table_pages = 512;
constexpr std::uint64_t ram_bytes = 8 * mib;
constexpr unsigned levels = 4;

viommu_host host_of(test::CountingAllocator& allocator) {
  viommu_host host = empty_host();
  host.opaque = &allocator;
  host.allocate = [](void* self, std::size_t size, std::size_t alignment) {
    return static_cast<test::CountingAllocator*>(self)->allocate(size, alignment);
  };
  host.deallocate = [](void* self, void* memory, std::size_t size, std::size_t alignment) {
    static_cast<test::CountingAllocator*>(self)->deallocate(memory, size, alignment);
  };
  return host;
}

/// The default unit, which says that consumers hear of new mappings too.
viommu_vtd_options caching_options() {
  constexpr std::uint64_t caching_mode = 1 << 7;
  viommu_vtd_options options = default_options();
  options.capability = create().mmio_read(0x08, 8) | caching_mode;
  return options;
}

/// A guest with tables for a device, and a consumer of it that counts.
class LargeGuest {
 public:
  LargeGuest() {
    REQUIRE(engine_.add_region(0, {ram_.data(), ram_.length()}) == VIOMMU_OK);
    const viommu_region all{frames, frames_bytes, nullptr, VIOMMU_REGION_UNMAPPED};
    REQUIRE(viommu_region_add(engine_.get(), &all) == VIOMMU_OK);
    tables.attach(device, tree);
  }

  /// Adds the consumer, which hears of all that is mapped, in as many slices as it takes.
  /// @param then  what happens before the consumer goes
  void replay(std::uint32_t declares = 0, std::uint64_t unit_bytes = 0, const std::function<void()>& then = [] {}) {
    driver_.set_root_table(tables.root_table());
    driver_.enable_queue();
    driver_.enable_translation(true);
    before_ = allocator_.open_bytes();
    viommu_consumer consumer{};
    consumer.size = sizeof consumer;
    consumer.opaque = this;
    consumer.notify = VIOMMU_EVENT_MAP | VIOMMU_EVENT_UNMAP;
    consumer.declares = declares;
    consumer.last = ~std::uint64_t{0};
    consumer.unit_bytes = unit_bytes;
    consumer.events = [](void* self, viommu_event* events, std::uint32_t count) {
      auto& guest = *static_cast<LargeGuest*>(self);
      for (const viommu_event& event : std::span{events, count}) {
        if (event.kind != VIOMMU_EVENT_MAP) {
          ++guest.withdrawn;
          guest.mapped -= event.last - event.iova + 1;
          continue;
        }
        ++guest.told;
        guest.mapped += event.last - event.iova + 1;
      }
    };
    std::uint64_t subscription = 0;
    REQUIRE(viommu_subscribe(engine_.get(), device, &consumer, nullptr, &subscription) == VIOMMU_OK);
    REQUIRE(viommu_replay(engine_.get(), subscription) == VIOMMU_OK);
    while (engine_.process().state == VIOMMU_PROCESS_MORE) {  // ends: the tables do
    }
    figures.size = sizeof figures;
    REQUIRE(viommu_subscription_figures_get(engine_.get(), subscription, &figures) == VIOMMU_OK);
    CHECK(figures.mapped_bytes == mapped);
    then();
    CHECK(mapped == figures.mapped_bytes);
    REQUIRE(viommu_unsubscribe(engine_.get(), subscription) == VIOMMU_OK);
    CHECK(allocator_.open_bytes() <= before_ + 4 * mib);  // nothing of it stays but what is sized for all
  }
  /// The guest changes an entry of a table and drops the domain.
  void change(std::uint64_t table, std::uint64_t index, std::uint64_t frame) {
    ram_.store_u64(table + 8 * index, frame | test::entry_read_write);
    drop_domain();
  }
  void drop_domain() {
    told = withdrawn = 0;
    driver_.add_domain(test::ContextFields{}.domain_id);
    driver_.submit_and_wait();
  }
  /// More than before there was a consumer, at any time.
  [[nodiscard]] std::uint64_t taken() const noexcept { return allocator_.most_open_bytes() - before_; }

  /// A table of 4 KiB leaves for many places.
  [[nodiscard]] std::uint64_t leaf_table(const std::function<std::uint64_t(std::uint64_t)>& frame) {
    const std::uint64_t table = tables.allocate_page();
    for (std::uint64_t i = 0; i < table_pages; ++i) ram_.store_u64(table + 8 * i, frame(i) | test::entry_read_write);
    return table;
  }
  void hang(std::uint64_t iova, std::uint64_t table) {
    ram_.store_u64(tables.slot(tree, iova, 2), table | test::entry_read_write);
  }

 private:
  test::CountingAllocator allocator_;
  test::GuardedRegion ram_{0, ram_bytes};
  Engine engine_ = create(caching_options(), host_of(allocator_));
  test::VtdDriver driver_{engine_, test::words_of(ram_), 0x1000, 0x2000};
  std::uint64_t before_ = 0;

 public:
  test::GuestTables tables{test::words_of(ram_), 0x3000};
  const test::Tree tree = tables.create_tree(levels);
  std::uint64_t told = 0;       // MAP events
  std::uint64_t withdrawn = 0;  // UNMAP events
  std::uint64_t mapped = 0;     // bytes
  viommu_subscription_figures figures{};
};

}  // namespace

TEST_CASE("a guest of 1 TiB in runs of 2 MiB or longer is replayed with at most 64 MiB beside its tables",
          "[capi][consumer][replay][memory]") {
  LargeGuest guest;
  const std::uint64_t table = guest.leaf_table([](std::uint64_t i) { return frames + i * page_bytes; });
  std::uint64_t every = 1;  // one large page in so many; 0: none
  SECTION("of 4 KiB pages") { every = 0; }
  SECTION("of 2 MiB pages") { every = 1; }
  SECTION("of both") { every = 2; }
  for (std::uint64_t iova = 0; iova < guest_bytes; iova += large_page) {
    if (every != 0 && iova / large_page % every == 0)
      guest.tables.map(guest.tree, iova, frames + iova, test::entry_read_write, 2);
    else
      guest.hang(iova, table);
  }
  guest.replay();
  CHECK(guest.mapped == guest_bytes);
  CHECK(guest.figures.mappings == guest_bytes / large_page);
  CHECK(guest.taken() <= 64 * mib);
  CHECK(guest.taken() >= guest.figures.shadow_bytes);
}

TEST_CASE("a guest whose pages are scattered is replayed with at most 16 bytes for each",
          "[capi][consumer][replay][memory]") {
  constexpr std::uint64_t leaf_tables = 4096;
  LargeGuest guest;
  const std::uint64_t table =
      guest.leaf_table([](std::uint64_t i) { return frames + (i * 0x9E37 & 0xFFFFF) * page_bytes; });
  for (std::uint64_t number = 0; number < leaf_tables; ++number) guest.hang(number * large_page, table);
  guest.replay(0, 0, [&] {
    CHECK(guest.mapped == leaf_tables * large_page);
    guest.drop_domain();
    CHECK(guest.told + guest.withdrawn == 0);
    guest.change(table, 100, frames + 0x100000 * page_bytes);  // of all leaf tables, which are one
    CHECK(guest.told == leaf_tables);
    CHECK(guest.withdrawn == leaf_tables);
  });
  CHECK(guest.figures.mappings == leaf_tables * table_pages);
  CHECK(guest.taken() <= 16 * leaf_tables * table_pages);
}

TEST_CASE("1 TiB in one piece is told of in fewer pieces than VFIO can hold, where guest and consumer allow it",
          "[capi][consumer][replay][memory]") {
  constexpr std::uint64_t vfio_mappings = 65535;
  constexpr std::uint64_t huge_page = 1024 * mib;
  LargeGuest guest;
  SECTION("pages of 1 GiB, and a consumer that takes them") {
    for (std::uint64_t iova = 0; iova < guest_bytes; iova += huge_page)
      guest.tables.map(guest.tree, iova, frames + iova, test::entry_read_write, 3);
    guest.replay(0, huge_page);
    CHECK(guest.told == guest_bytes / huge_page);
  }
  SECTION("pages of 2 MiB, and a consumer that takes 1 GiB") {
    for (std::uint64_t iova = 0; iova < guest_bytes; iova += large_page)
      guest.tables.map(guest.tree, iova, frames + iova, test::entry_read_write, 2);
    guest.replay(0, huge_page);
    CHECK(guest.told == guest.figures.mappings);
    CHECK(guest.told < 2 * guest_bytes / huge_page);
  }
  SECTION("pages of 2 MiB, and a consumer that can unmap part of an earlier map") {
    for (std::uint64_t iova = 0; iova < guest_bytes; iova += large_page)
      guest.tables.map(guest.tree, iova, frames + iova, test::entry_read_write, 2);
    guest.replay(VIOMMU_CONSUMER_SPLIT);
    CHECK(guest.told < vfio_mappings);
  }
  CHECK(guest.mapped == guest_bytes);
}

}  // namespace viommu::capi
