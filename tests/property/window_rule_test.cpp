// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The window rule for an engine with caches: a guest maps, unmaps, moves devices between domains and invalidates, in
// any order and often without the invalidation it owes; each answer must be one that an uncached walk gave since the
// last covering invalidation. Every page's address names the tree it belongs to and the change that put it there, so
// an answer out of another domain, or out of the past, cannot pass for a right one.
#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <vector>
#include <viommu/viommu.hpp>

#include "tests/support/agreement.hpp"
#include "tests/support/guarded_region.hpp"
#include "tests/support/guest_tables.hpp"
#include "tests/support/memory_backend.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/random.hpp"
#include "tests/support/vtd_driver.hpp"
#include "tests/support/window_model.hpp"

namespace viommu::test {
namespace {

using oracle::Answer;

constexpr std::uint64_t base = 0x40000000;
constexpr unsigned haw = 46;
constexpr unsigned loads_bound = 7;  // root entry, context entry, five levels

// Same devfn on several buses, functions of one device, ids that differ in one bit.
constexpr std::array<std::uint16_t, 6> sources{0x0010, 0x0011, 0x0014, 0x0110, 0x8010, 0xFF10};
// Neighbours in a leaf line, at both ends of a leaf table, in the next one, in the next gigabyte.
constexpr std::array<std::uint64_t, 10> pages{base,
                                              base + 0x1000,
                                              base + 0x7000,
                                              base + 0x8000,
                                              base + 0x9000,
                                              base + 0x1FF000,
                                              base + 0x200000,
                                              base + 0x201000,
                                              base + 0x800000,
                                              2 * base};

/// How an engine is laid out: roomy, or so small that everything is evicted and every id used again.
struct Shape {
  bool caching_mode = false;
  bool queued = true;
  bool regions = false;  // guest memory mapped into the process, not behind callbacks
  bool tiny = false;
  std::uint32_t fill = VIOMMU_FILL_DEFAULT;
  std::uint32_t drain = VIOMMU_DRAIN_DEFAULT;
};

struct Counts {
  unsigned asked = 0;
  unsigned stale = 0;  // answers out of a cache that memory no longer gives
  unsigned faults = 0;
};

class World {
 public:
  World(std::uint64_t seed, const Shape& shape)
      : shape_{shape}, random_{seed}, unit_{make_unit(shape)}, engine_{create()}, reader_{*engine_.reader()} {
    if (shape.regions) engine_.add_region(region_.gpa(), {region_.data(), region_.length()});
    for (unsigned tree = 0; tree < 5; ++tree) trees_.push_back(tables_.create_tree(3 + tree % 3));
    for (const std::uint16_t source : sources) {  // context tables are there from the start
      static_cast<void>(tables_.context_entry(source));
    }
    driver_.set_root_table(unit_.root_table);
    if (shape.queued) driver_.enable_queue();
    driver_.enable_translation(true);
    model_.memory_changed();
  }

  /// One random step.
  void step(Counts& counts) {
    backend_.begin_decision();  // a translation or the fetch of some descriptors: each word once
    const std::uint64_t dice = random_.below(100);
    if (dice < 60) return ask(counts);
    if (dice < 78) return change_page();
    if (dice < 84) return change_context();
    if (dice < 93) return invalidate_translations();
    if (dice < 98) return invalidate_contexts();
    if (dice < 99) return drop_everything();
    return move_roots();
  }

 private:
  static oracle::Unit make_unit(const Shape& shape) {
    oracle::Unit unit;
    unit.cap = 6 | (shape.caching_mode ? 0x80U : 0U) | 0xE00 | std::uint64_t{56} << 16 | std::uint64_t{0x22} << 24 |
               std::uint64_t{3} << 34 | std::uint64_t{1} << 39 | std::uint64_t{18} << 48 | std::uint64_t{3} << 54;
    unit.ecap = 0x43 | std::uint64_t{0xF} << 8;
    unit.haw = haw;
    unit.translation_enabled = true;
    return unit;
  }

  Engine create() {
    unit_.root_table = tables_.root_table();
    viommu_vtd_options options{};
    options.size = sizeof options;
    options.capability = unit_.cap;
    options.extended_capability = unit_.ecap;
    options.host_address_width = unit_.haw;
    options.fill = shape_.fill;
    options.drain = shape_.drain;
    options.structures = shape_.tiny ? 1 : 0;
    options.shards = shape_.tiny ? 0 : 4;
    options.tag_bits = shape_.tiny ? 4 : 0;
    options.iotlb_pages = shape_.tiny ? 16 : 0;
    options.context_entries = shape_.tiny ? 4 : 0;
    options.address_spaces = shape_.tiny ? 4 : 0;
    options.hash_seed = random_.next() | 1;
    viommu_host host{};
    host.size = sizeof host;
    if (!shape_.regions) backend_.install(host);
    backend_.forbid_second_load();
    Expected<Engine> created = Engine::create_vtd(options, host);
    INFO(created.error().text);
    REQUIRE(created);
    return *std::move(created);
  }

  [[nodiscard]] Words words() {
    if (shape_.regions) return words_of(region_);
    sparse_.add_ram(region_.gpa(), region_.length());
    return words_of(sparse_);
  }

  void ask(Counts& counts) {
    const std::size_t source = random_.below(sources.size());
    const std::size_t page = random_.below(pages.size());
    const auto access = static_cast<unsigned>(1 + random_.below(3));
    oracle::Request request;
    request.source_id = sources[source];
    request.iova = pages[page];
    request.read = (access & 1) != 0;
    request.write = (access & 2) != 0;
    const viommu_translation answer = reader_.translate(engine_request(request, VIOMMU_NO_REPORT));
    const auto agrees = [&](const Answer& allowed) { return difference(answer, allowed, request).empty(); };
    const Answer present = model_.present(source, page, access);
    const std::vector<Answer> allowed = model_.allowed(source, page, access);
    if (backend_.reads() > loads_bound) FAIL(backend_.reads() << " loads");
    ++counts.asked;
    if (!agrees(present)) ++counts.stale;
    if (answer.kind == VIOMMU_FAULT) ++counts.faults;
    if (std::ranges::any_of(allowed, agrees)) return;
    INFO(describe(unit_, request, present, answer));
    for (const Answer& other : allowed)
      UNSCOPED_INFO(std::hex << "allowed: " << other.gpa << " reason " << +other.reason);
    FAIL("neither memory nor a cache in its right gives this answer");
  }

  void change_page() {
    const std::size_t tree = random_.below(trees_.size());
    const std::uint64_t iova = random_.pick(pages);
    const bool large = random_.chance(1, 6);
    const std::uint64_t slot = tables_.slot(trees_[tree], iova, 2);
    const std::uint64_t entry = words_.load(slot).value_or(0);
    const bool is_large = (entry & 0x80) != 0;
    if (!is_large && entry != 0) leaf_tables_[slot] = entry;  // comes back when the large page goes
    model_.memory_changed();                                  // slot() may have made tables
    ++generation_;
    const std::uint64_t gpa = (tree + 1) << 38 | (generation_ % 0x20000) << 21;
    constexpr std::array<std::uint64_t, 8> choices{0, 3, 3, 3, 3, 1, 2, 0};
    const std::uint64_t rights = random_.pick(choices);
    if (large || is_large) {
      for (std::uint16_t domain = 1; domain <= domains; ++domain) tables_changed_[domain].insert(iova >> 21);
      words_.store(slot, large && rights != 0 ? gpa | 0x80 | rights : leaf_tables_[slot]);
    } else {
      // Often the neighbours in its line go along, so that they go on alike and are cached together.
      const bool whole_line = random_.chance(1, 2);
      for (const std::uint64_t page : pages) {
        if (page != iova && (!whole_line || page >> 15 != iova >> 15)) continue;
        words_.store(tables_.slot(trees_[tree], page, 1), rights == 0 ? 0 : gpa | (page & 0x1FF000) | rights);
        model_.memory_changed();
      }
    }
    model_.memory_changed();
    // Now and then the driver does what it should.
    if (random_.chance(1, 3)) invalidate_pages(random_domain(), iova, static_cast<unsigned>(random_.below(10)));
  }

  void change_context() {
    const std::uint16_t source = random_.pick(sources);
    const std::uint64_t dice = random_.below(10);
    if (dice < 2) {
      tables_.detach(source);
    } else if (dice == 2) {  // pass-through
      tables_.set_context(source, 0x9, std::uint64_t{random_domain()} << 8 | 3);
    } else {
      ContextFields fields;
      fields.domain_id = random_domain();  // one id for several trees, too
      tables_.attach(source, trees_[random_.below(trees_.size())], fields);
    }
    model_.memory_changed();
  }

  static constexpr std::uint16_t domains = 3;
  [[nodiscard]] std::uint16_t random_domain() { return static_cast<std::uint16_t>(1 + random_.below(domains)); }
  /// Whether a driver may say of this range that only leaves have changed (IH) since the unit last dropped its tables.
  [[nodiscard]] bool only_leaves_changed(std::uint16_t domain, std::uint64_t first, std::uint64_t last) {
    const std::set<std::uint64_t>& changed = tables_changed_[domain];
    const auto next = changed.lower_bound(first >> 21);
    return next == changed.end() || *next > last >> 21;
  }
  void tables_dropped(std::uint16_t domain, std::uint64_t first, std::uint64_t last) {
    std::erase_if(tables_changed_[domain],
                  [&](std::uint64_t number) { return number >= first >> 21 && number <= last >> 21; });
  }

  void invalidate_pages(std::uint16_t domain, std::uint64_t iova, unsigned address_mask) {
    const std::uint64_t mask = (std::uint64_t{0x1000} << address_mask) - 1;
    if (shape_.queued) {
      const bool leaves_only = random_.chance(1, 2) && only_leaves_changed(domain, iova & ~mask, iova | mask);
      driver_.add_page(domain, iova, address_mask, leaves_only);
      driver_.submit_and_wait();
      if (!leaves_only) tables_dropped(domain, iova & ~mask, iova | mask);
    } else {
      driver_.iotlb_by_register(Granularity::narrow, domain, iova, address_mask);
    }
    model_.translations_invalidated(domain, iova & ~mask, iova | mask);
  }

  void invalidate_translations() {
    const std::uint64_t dice = random_.below(10);
    const std::uint16_t domain = random_domain();
    if (dice < 6) return invalidate_pages(domain, random_.pick(pages), static_cast<unsigned>(random_.below(19)));
    if (shape_.queued) {
      if (dice < 9) driver_.add_domain(domain);
      if (dice == 9) driver_.add_global();
      driver_.submit_and_wait();
    } else {
      driver_.iotlb_by_register(dice < 9 ? Granularity::domain : Granularity::global, domain);
    }
    if (dice < 9) {
      model_.translations_invalidated(domain);
      tables_changed_[domain].clear();
    } else {
      model_.translations_invalidated();
      tables_changed_.clear();
    }
  }

  void invalidate_contexts() {
    constexpr std::array<std::uint16_t, 4> ignored{0, 4, 6, 7};
    const std::uint64_t dice = random_.below(10);
    const std::uint16_t domain = random_domain();
    const std::uint16_t source = random_.pick(sources);
    const auto functions = static_cast<unsigned>(random_.below(4));
    if (shape_.queued) {
      if (dice < 6) driver_.add_context_device(domain, source, functions);
      if (dice >= 6 && dice < 9) driver_.add_context_domain(domain);
      if (dice == 9) driver_.add_context_global();
      driver_.submit_and_wait();
    } else if (dice < 6) {
      driver_.context_by_register(Granularity::narrow, domain, source, functions);
    } else {
      driver_.context_by_register(dice < 9 ? Granularity::domain : Granularity::global, domain);
    }
    if (dice < 6) return model_.contexts_invalidated(domain, source, ignored.at(functions));
    if (dice < 9) return model_.contexts_invalidated(domain);
    model_.contexts_invalidated();
  }

  void drop_everything() {
    engine_.drop_caches();
    model_.contexts_invalidated();
    model_.translations_invalidated();
    tables_changed_.clear();
  }

  /// Off and on again changes nothing that is cached; while off, nothing is translated.
  void move_roots() {
    driver_.enable_translation(false);
    oracle::Request request;
    request.source_id = random_.pick(sources);
    request.iova = random_.next();
    request.read = true;
    const viommu_translation answer = reader_.translate(engine_request(request));
    REQUIRE(answer.kind == VIOMMU_IDENTITY);
    REQUIRE(answer.gpa == request.iova);
    driver_.enable_translation(true);
  }

  Shape shape_;
  Random random_;
  oracle::Unit unit_;
  SparseMemory sparse_;
  GuardedRegion region_{0x100000, 0x100000};
  MemoryBackend backend_{sparse_};
  Words words_{words()};
  GuestTables tables_{words_, 0x102000};
  std::vector<Tree> trees_;
  Engine engine_;
  Reader reader_;
  VtdDriver driver_{engine_, words_, 0x100000, 0x101000};
  WindowModel model_{unit_, words_, {sources.begin(), sources.end()}, {pages.begin(), pages.end()}};
  std::uint64_t generation_ = 0;
  std::map<std::uint64_t, std::uint64_t> leaf_tables_;
  std::map<std::uint16_t, std::set<std::uint64_t>> tables_changed_;  // by domain, in 2 MiB
};

}  // namespace

TEST_CASE("cached answers obey the window rule and never cross domains",
          "[property][window rule][SEC-2][SEC-4][SEC-10][F4][B01][B04]") {
  std::vector<Shape> shapes;
  for (const bool caching_mode : {false, true}) {
    for (const bool queued : {false, true}) {
      for (const bool regions : {false, true}) {
        for (const bool tiny : {false, true}) {
          shapes.push_back({caching_mode, queued, regions, tiny, VIOMMU_FILL_DEFAULT});
        }
      }
    }
  }
  shapes.push_back({false, true, true, false, VIOMMU_FILL_EXACT});
  shapes.push_back({false, true, true, false, VIOMMU_FILL_LINE});
  for (const std::uint32_t drain : {VIOMMU_DRAIN_FENCE, VIOMMU_DRAIN_BARRIER, VIOMMU_DRAIN_AUTO})
    shapes.push_back({false, true, true, drain == VIOMMU_DRAIN_AUTO, VIOMMU_FILL_ALL, drain});
  const unsigned steps = run_whole() ? 400'000 : 20'000;
  for (std::size_t at = 0; at < shapes.size(); ++at) {
    CAPTURE(at, shapes[at].caching_mode, shapes[at].queued, shapes[at].regions, shapes[at].tiny);
    World world{7000 + at, shapes[at]};
    Counts counts;
    for (unsigned step = 0; step < steps; ++step) world.step(counts);
    // Where nothing is ever served out of date the caches were not tested.
    if (!shapes[at].tiny) CHECK(counts.stale > counts.asked / 200);
    CHECK(counts.faults < counts.asked);
  }
}

}  // namespace viommu::test
