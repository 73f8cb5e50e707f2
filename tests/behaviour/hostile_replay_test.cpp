// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Guests whose tables are made to keep whoever mirrors them busy for ever, or to fill the host's memory.
#include <viommu/viommu.hpp>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdint>
#include <span>

#include "tests/capi/machine.hpp"
#include "tests/support/counting_allocator.hpp"
#include "tests/support/guarded_region.hpp"
#include "tests/support/guest_tables.hpp"
#include "tests/support/vtd_driver.hpp"

namespace viommu::capi {
namespace {

constexpr std::uint64_t mib = std::uint64_t{1} << 20;
constexpr std::uint64_t gib = 1024 * mib;
constexpr std::uint64_t ram_bytes = 4 * mib;
constexpr std::uint64_t entries = 512;
constexpr std::uint64_t most_tables =
    std::uint64_t{2} * 4096;  // that one call looks through: a slice where it begins, and one more
constexpr std::uint64_t default_quota = std::uint64_t{1} << 24;
constexpr std::uint16_t hostile = 0x0100;
constexpr std::uint16_t neighbour = 0x0200;
constexpr std::uint64_t neighbour_gpa = 2 * gib;

/// Counts, and finds fault with what a host could not do; keeps nothing, there may be millions.
struct Consumer {
  std::uint64_t maps = 0;
  std::uint64_t unmaps = 0;
  std::uint64_t quota_reports = 0;
  std::uint64_t other_reports = 0;
  std::uint64_t most = 0;  // mappings at a time
  std::uint64_t id = 0;

  [[nodiscard]] std::uint64_t held() const { return maps - unmaps; }
  void join(Engine& engine, std::uint16_t source, std::uint64_t quota = 0) {
    viommu_consumer consumer{};
    consumer.size = sizeof consumer;
    consumer.opaque = this;
    consumer.notify = VIOMMU_EVENT_MAP | VIOMMU_EVENT_UNMAP;
    consumer.last = ~std::uint64_t{0};
    consumer.quota = quota;
    consumer.events = [](void* self, viommu_event* events, std::uint32_t count) {
      auto& counts = *static_cast<Consumer*>(self);
      for (const viommu_event& event : std::span{events, count})
        ++(event.kind == VIOMMU_EVENT_MAP ? counts.maps : counts.unmaps);
      counts.most = std::max(counts.most, counts.held());
    };
    consumer.report = [](void* self, const viommu_consumer_report* report) {
      auto& counts = *static_cast<Consumer*>(self);
      ++(report->what == VIOMMU_REPORT_QUOTA ? counts.quota_reports : counts.other_reports);
    };
    REQUIRE(viommu_subscribe(engine.get(), source, &consumer, nullptr, &id) == VIOMMU_OK);
    REQUIRE(viommu_replay(engine.get(), id) == VIOMMU_OK);
  }
};

/// A hostile device in domain 7 and an innocent one in domain 8, each with a consumer.
class Guest {
 public:
  explicit Guest(std::uint64_t quota = 0) : engine_{create(options(), host())} {
    REQUIRE(engine_.add_region(0, {ram_.data(), ram_.length()}) == VIOMMU_OK);
    const viommu_region more{gib, 3 * gib, nullptr, VIOMMU_REGION_UNMAPPED};
    REQUIRE(viommu_region_add(engine_.get(), &more) == VIOMMU_OK);
    const test::Tree innocent = tables.create_tree(4);
    tables.map(innocent, base_iova, neighbour_gpa);
    tables.attach(neighbour, innocent, {.domain_id = 8});
    driver_.set_root_table(tables.root_table());
    driver_.enable_queue();
    driver_.enable_translation(true);
    other.join(engine_, neighbour);
    consumer.join(engine_, hostile, quota);
    REQUIRE(other.held() == 1);
    before_ = allocator_.open_bytes();
  }

  void store(std::uint64_t gpa, std::uint64_t value) { REQUIRE(ram_.store_u64(gpa, value)); }
  [[nodiscard]] std::uint64_t load(std::uint64_t gpa) { return ram_.load_u64(gpa).value(); }
  void fill(std::uint64_t table, std::uint64_t entry) {
    for (std::uint64_t i = 0; i < entries; ++i) store(table + 8 * i, entry);
  }
  /// The device's context, as the guest announces it; then slices until nothing is left to do.
  void attach(const test::Tree& tree) {
    tables.attach(hostile, tree, {.domain_id = 7});
    driver_.add_context_device(0, hostile);
    submit();
  }
  void flush() {
    driver_.add_domain(7);
    submit();
  }
  void submit() {
    std::uint64_t looked_at = figures().tables;
    std::uint64_t told = consumer.maps + consumer.unmaps;
    const std::uint32_t ticket = driver_.submit();  // a slice too
    for (bool more = true; more; more = engine_.process().state == VIOMMU_PROCESS_MORE) {
      REQUIRE(++slices_in_all < 1'000'000);
      // Bounded by the tables in a slice, whatever they say, or by what is held.
      REQUIRE(figures().tables - looked_at <= most_tables);
      REQUIRE(consumer.maps + consumer.unmaps - told <= std::max(most_tables * entries, 2 * consumer.most));
      looked_at = figures().tables;
      told = consumer.maps + consumer.unmaps;
      check_neighbour();
    }
    CHECK(driver_.completed(ticket));
  }
  [[nodiscard]] viommu_subscription_figures figures() {
    viommu_subscription_figures figures{};
    figures.size = sizeof figures;
    REQUIRE(viommu_subscription_figures_get(engine_.get(), consumer.id, &figures) == VIOMMU_OK);
    return figures;
  }
  [[nodiscard]] std::uint32_t view(std::uint16_t source) {
    std::uint32_t view = ~0U;
    REQUIRE(viommu_view(engine_.get(), source, &view) == VIOMMU_OK);
    return view;
  }
  /// Blocked, told once, with nothing held and no memory kept.
  void check_given_up() {
    CHECK(view(hostile) == VIOMMU_VIEW_BLOCKED);
    CHECK(consumer.quota_reports == 1);
    CHECK(consumer.held() == 0);
    CHECK(figures().mappings == 0);
    CHECK(figures().mapped_bytes == 0);
    CHECK(allocator_.open_bytes() == before_);
  }
  /// The domain of the innocent device is invalidated as ever.
  void check_queue_goes_on() {
    driver_.add_domain(8);
    driver_.submit_and_wait();
    CHECK(other.maps == 1);
    CHECK(other.unmaps == 0);
    CHECK(other.quota_reports + other.other_reports == 0);
  }
  /// At a time, beside what was there before.
  [[nodiscard]] std::uint64_t most_bytes() const { return allocator_.most_open_bytes() - before_; }

  Consumer consumer;
  Consumer other;
  std::uint64_t slices_in_all = 0;

 private:
  [[nodiscard]] static viommu_vtd_options options() {
    viommu_vtd_options options = default_options();
    options.capability = create().mmio_read(0x08, 8) | 0x80;  // caching mode
    return options;
  }
  [[nodiscard]] viommu_host host() {
    viommu_host host = empty_host();
    host.opaque = &allocator_;
    host.allocate = [](void* self, std::size_t size, std::size_t alignment) {
      return static_cast<test::CountingAllocator*>(self)->allocate(size, alignment);
    };
    host.deallocate = [](void* self, void* memory, std::size_t size, std::size_t alignment) {
      static_cast<test::CountingAllocator*>(self)->deallocate(memory, size, alignment);
    };
    return host;
  }
  void check_neighbour() {
    const viommu_translation answer = reader_.translate(request(neighbour, base_iova, VIOMMU_READ));
    REQUIRE(answer.kind == VIOMMU_TRANSLATED);
    REQUIRE(answer.gpa == neighbour_gpa);
    REQUIRE(view(neighbour) == VIOMMU_VIEW_TRANSLATED);
    REQUIRE(other.held() == 1);
  }

  test::CountingAllocator allocator_;
  test::GuardedRegion ram_{0, ram_bytes};
  Engine engine_;
  test::VtdDriver driver_{engine_, test::words_of(ram_), 0x1000, 0x2000};
  Reader reader_ = *engine_.reader();
  std::uint64_t before_ = 0;

 public:
  test::GuestTables tables{test::words_of(ram_), 0x3000};
};

}  // namespace

TEST_CASE("tables that name themselves everywhere are mirrored up to the quota, in slices, and then not at all",
          "[behaviour][consumer][SEC-7][SEC-8][B59]") {
  Guest guest;
  test::Tree tree = guest.tables.create_tree(4);
  std::uint64_t each = 1;  // mappings that one visit of a table of leaves makes, at least
  SECTION("every entry") {
    guest.fill(tree.root, tree.root | test::entry_read_write);
    each = entries;
  }
  SECTION("every entry, of five levels") {
    tree.levels = 5;
    guest.fill(tree.root, tree.root | test::entry_read_write);
    each = entries;
  }
  SECTION("every second entry, the others large pages") {
    for (std::uint64_t i = 0; i < entries; ++i)
      guest.store(tree.root + 8 * i, i % 2 == 0 ? tree.root | test::entry_read_write
                                                : gib | test::entry_page_size | test::entry_read_write);
    each = entries;
  }
  guest.attach(tree);
  guest.check_given_up();
  CHECK(guest.consumer.other_reports == 0);
  CHECK(guest.consumer.most <= default_quota);
  CHECK(guest.consumer.most > default_quota - each);
  CHECK(guest.slices_in_all >= default_quota / entries / most_tables);
  CHECK(guest.most_bytes() <= 16 * default_quota);
  guest.check_queue_goes_on();
  guest.flush();  // nothing has changed
  guest.check_given_up();
}

TEST_CASE("a table level that names another one everywhere costs no more than the quota",
          "[behaviour][consumer][SEC-7][SEC-8]") {
  constexpr std::uint64_t quota = 65'535;
  Guest guest{quota};
  const test::Tree tree = guest.tables.create_tree(4);
  const std::uint64_t third = guest.tables.allocate_page();
  const std::uint64_t second = guest.tables.allocate_page();
  const std::uint64_t leaves = guest.tables.allocate_page();
  guest.fill(tree.root, third | test::entry_read_write);
  guest.fill(third, second | test::entry_read_write);
  guest.fill(second, leaves | test::entry_read_write);
  for (std::uint64_t i = 0; i < entries; ++i)
    guest.store(leaves + 8 * i, (gib + (i ^ 1) * page_bytes) | test::entry_read_write);
  SECTION("at the top") { guest.store(tree.root, tree.root | test::entry_read_write); }
  SECTION("below it") { guest.fill(third, third | test::entry_read_write); }
  SECTION("above the leaves") { guest.fill(second, second | test::entry_read_write); }
  SECTION("nowhere, but each many times") {}
  guest.attach(tree);
  guest.check_given_up();
  CHECK(guest.consumer.most <= quota);
  CHECK(guest.most_bytes() <= 16 * quota + mib / 4);
  guest.check_queue_goes_on();
}

TEST_CASE(
    "a guest with more scattered pages than the quota is blocked with one report, and comes back when it has fewer",
    "[behaviour][consumer][SEC-7][B59]") {
  constexpr std::uint64_t quota = 65'535;  // VFIO's own
  constexpr std::uint64_t pages = 70'000;
  Guest guest{quota};
  const test::Tree tree = guest.tables.create_tree(3);
  const auto gpa_of = [](std::uint64_t i) { return gib + (i ^ 1) * page_bytes; };
  for (std::uint64_t i = 0; i < pages; ++i) guest.tables.map(tree, base_iova + i * page_bytes, gpa_of(i));
  guest.attach(tree);
  guest.check_given_up();
  CHECK(guest.consumer.most <= quota);
  for (std::uint64_t i = quota; i < pages; ++i) guest.tables.unmap(tree, base_iova + i * page_bytes);
  guest.flush();
  guest.attach(tree);
  CHECK(guest.view(hostile) == VIOMMU_VIEW_TRANSLATED);
  CHECK(guest.consumer.held() == quota);
  CHECK(guest.figures().mappings == quota);
  CHECK(guest.figures().mapped_bytes == quota * page_bytes);
  CHECK(guest.consumer.quota_reports == 1);
  SECTION("one more page is too much again") {
    guest.tables.map(tree, base_iova + quota * page_bytes, gpa_of(quota));
    guest.flush();
    CHECK(guest.view(hostile) == VIOMMU_VIEW_BLOCKED);
    CHECK(guest.consumer.held() == 0);
    CHECK(guest.consumer.quota_reports == 2);
  }
}

TEST_CASE("a few tables that make a wide tree take no more memory than the quota allows",
          "[behaviour][consumer][SEC-7][SEC-8]") {
  constexpr std::uint64_t quota = 100'000;
  Guest guest{quota};
  const test::Tree tree = guest.tables.create_tree(4);
  guest.tables.map(tree, 0, gib);  // and the same in each of 2^18 GiB
  for (const unsigned level : {3U, 4U}) {
    const std::uint64_t slot = guest.tables.slot(tree, 0, level);
    guest.fill(slot & ~(page_bytes - 1), guest.load(slot));
  }
  guest.attach(tree);
  guest.check_given_up();
  CHECK(guest.consumer.most < quota);
  CHECK(guest.most_bytes() <= 64 * mib + 16 * quota + mib);
  guest.check_queue_goes_on();
}

TEST_CASE("tables that lead to none of leaves are looked through in slices too",
          "[behaviour][consumer][SEC-7][SEC-8]") {
  constexpr std::uint64_t ways = entries * entries;  // to one table
  Guest guest;
  const test::Tree tree = guest.tables.create_tree(4);
  const std::uint64_t third = guest.tables.allocate_page();
  const std::uint64_t second = guest.tables.allocate_page();
  guest.fill(tree.root, third | test::entry_read_write);
  guest.fill(third, second | test::entry_read_write);
  guest.attach(tree);
  CHECK(guest.slices_in_all >= ways / most_tables);
  CHECK(guest.view(hostile) == VIOMMU_VIEW_TRANSLATED);
  CHECK(guest.consumer.maps == 0);
  guest.check_queue_goes_on();
}

TEST_CASE("mappings that are left out count as others do", "[behaviour][consumer][SEC-7][SEC-8]") {
  constexpr std::uint64_t quota = 700;
  Guest guest{quota};
  const test::Tree tree = guest.tables.create_tree(4);
  const auto map = [&](std::uint64_t count) {
    for (std::uint64_t i = 0; i < count; ++i) guest.tables.map(tree, i * page_bytes, 8 * gib + 2 * i * page_bytes);
  };
  SECTION("as many as may be") {
    map(quota);
    guest.attach(tree);
    CHECK(guest.consumer.other_reports == quota);
    CHECK(guest.view(hostile) == VIOMMU_VIEW_TRANSLATED);
  }
  SECTION("one more") {
    map(quota + 1);
    guest.attach(tree);
    guest.check_given_up();
  }
  guest.check_queue_goes_on();
}

}  // namespace viommu::capi
