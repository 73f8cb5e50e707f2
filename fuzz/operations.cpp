// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Property: whatever a guest does to its tables, with or without the invalidations it owes, each answer is one that an
// uncached walk gave since the last invalidation that covers it, also where memory changes between two loads of one
// request; no word is loaded twice for it, and there are at most seven loads.
//
//   head: shape of the unit     record: an operation, three numbers, more, a word
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "fuzz/support/flat_guest.hpp"
#include "fuzz/support/input.hpp"
#include "fuzz/support/records.hpp"
#include "fuzz/support/target.hpp"
#include "fuzz/support/work_done.hpp"
#include "fuzz/support/worlds.hpp"
#include "tests/support/agreement.hpp"
#include "tests/support/guest_tables.hpp"
#include "tests/support/vtd_driver.hpp"
#include "tests/support/window_model.hpp"

namespace viommu::fuzz {
namespace {

using oracle::Answer;
using test::Granularity;

constexpr std::size_t ram_bytes = 0x40000;
constexpr std::uint64_t queue_page = 0x1000;
constexpr std::uint64_t status_word = 0x2000;
constexpr std::uint64_t first_table = 0x3000;
constexpr std::uint64_t base = 0x4000'0000;
constexpr unsigned haw = 46;
constexpr std::uint64_t most_loads = 7;  // root entry, context entry, five levels
constexpr std::uint16_t domains = 3;

constexpr std::array<std::uint16_t, 3> sources{0x0010, 0x0011, 0x0110};
constexpr std::array<std::uint64_t, 5> pages{base, base + 0x1000, base + 0x7000, base + 0x20'0000, 2 * base};

struct Shape {
  bool caching_mode = false;
  bool queued = true;
  std::uint32_t fill = VIOMMU_FILL_DEFAULT;
  std::uint32_t flags = 0;
};

oracle::Unit unit_of(const Shape& shape) {
  oracle::Unit unit;
  unit.cap = 6 | (shape.caching_mode ? 0x80U : 0U) | 0xE00 | std::uint64_t{56} << 16 | std::uint64_t{0x22} << 24 |
             std::uint64_t{3} << 34 | std::uint64_t{1} << 39 | std::uint64_t{18} << 48 | std::uint64_t{3} << 54;
  unit.ecap = 0x43 | std::uint64_t{0xF} << 8;
  unit.haw = haw;
  unit.translation_enabled = true;
  return unit;
}

viommu_vtd_options options_of(const Shape& shape) {
  const oracle::Unit unit = unit_of(shape);
  viommu_vtd_options options = smallest_options(unit.cap, unit.ecap, unit.haw);
  options.version = 0x10;
  options.fill = shape.fill;
  options.flags = shape.flags;
  return options;
}

/// The unit, made once for each shape.
struct Machine {
  explicit Machine(const Shape& of)
      : shape{of}, engine{create(options_of(of), guest.host())}, reader{*engine.reader()} {}
  Shape shape;
  FlatGuest guest{ram_bytes};
  Engine engine;
  Reader reader;
};

/// One input on it.
class Run {
 public:
  static constexpr std::size_t record_bytes = 16;

  explicit Run(Machine& machine) : machine_{machine}, guest_{machine.guest}, unit_{unit_of(machine.shape)} {
    for (unsigned tree = 0; tree < 3; ++tree) trees_.at(tree) = tables_.create_tree(3 + tree % 3);
    for (const std::uint16_t source : sources) static_cast<void>(tables_.context_entry(source));
    unit_.root_table = tables_.root_table();
    model_ =
        std::make_unique<test::WindowModel>(unit_, words_, std::vector<std::uint16_t>{sources.begin(), sources.end()},
                                            std::vector<std::uint64_t>{pages.begin(), pages.end()});
    driver_.set_root_table(unit_.root_table);
    if (machine.shape.queued) driver_.enable_queue();
    driver_.enable_translation(true);
  }
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;
  ~Run() {
    guest_.on_read = {};
    static_cast<void>(machine_.engine.reset());
    guest_.clear();
  }

  void step(Input record) {
    const unsigned operation = record.below(16);
    const auto a = record.take<std::uint8_t>();
    const auto b = record.take<std::uint8_t>();
    const auto c = record.take<std::uint8_t>();
    const auto more = record.take<std::uint32_t>();
    const auto word = record.take<std::uint64_t>();
    switch (operation) {
      default: return ask(a, b, c, 0, 0);
      case 5:  return ask(a, b, c, 1 + (more & 7), word);
      case 6:
      case 7:  return change_page(a, b, c);
      case 8:  return change_large_page(a, b, c);
      case 9:  return change_word(a, b, c, word);
      case 10: return change_context(a, b, c);
      case 11: return invalidate_pages(domain_of(a), pages.at(b % pages.size()), c % 19, (c & 0x80) != 0);
      case 12: return invalidate_translations(a, b);
      case 13: return invalidate_contexts(a, b, c);
      case 14: return drop_everything();
      case 15: return switch_off_and_on(word);
    }
  }

 private:
  [[nodiscard]] static std::uint16_t domain_of(unsigned number) {
    return static_cast<std::uint16_t>(1 + number % domains);
  }
  [[nodiscard]] std::uint64_t new_frame(std::size_t tree) { return (tree + 1) << 38 | (++generation_ % 0x20000) << 21; }

  /// @param change_at  before this load of the request, 0: none; an entry of some page's table becomes `word`'s
  void ask(unsigned a, unsigned b, unsigned c, unsigned change_at, std::uint64_t word) {
    const std::size_t source = a % sources.size();
    const std::size_t page = b % pages.size();
    const unsigned access = 1 + c % 3;
    oracle::Request asked;
    asked.source_id = sources.at(source);
    asked.iova = pages.at(page);
    asked.read = (access & 1) != 0;
    asked.write = (access & 2) != 0;
    std::vector<Answer> before;
    std::vector<std::uint64_t> loaded;
    guest_.on_read = [&](std::uint64_t gpa) {
      loaded.push_back(gpa);
      if (loaded.size() != change_at) return;
      before = model_->allowed(source, page, access);
      change_now(word, page);
    };
    const viommu_translation answer = machine_.reader.translate(test::engine_request(asked, VIOMMU_NO_REPORT));
    guest_.on_read = {};
    require(loaded.size() <= most_loads, "more loads than a request may make");
    std::ranges::sort(loaded);
    if (!self_pointing_)
      require(std::ranges::adjacent_find(loaded) == loaded.end(), "a word that is loaded twice for one request");
    std::vector<Answer> allowed = model_->allowed(source, page, access);
    allowed.insert(allowed.end(), before.begin(), before.end());
    ++work_done;
    if (std::ranges::any_of(allowed, [&](const Answer& one) { return test::difference(answer, one, asked).empty(); }))
      return;
    std::fprintf(stderr, "%s\n", test::describe(unit_, asked, model_->present(source, page, access), answer).c_str());
    fail("neither memory nor a cache in its right gives this answer");
  }
  /// One word of a path that exists, which is one store.
  void change_now(std::uint64_t word, std::size_t near) {
    const std::size_t tree = word % trees_.size();
    const unsigned level = 1 + static_cast<unsigned>(word >> 8) % 3;
    std::uint64_t table = trees_.at(tree).root;
    const std::uint64_t iova = pages.at((word & 0x80) != 0 ? near : (word >> 4) % pages.size());
    for (unsigned at = trees_.at(tree).levels; at > level; --at) {
      const std::uint64_t entry = guest_.load(table + 8 * (iova >> (12 + 9 * (at - 1)) & 511)).value_or(0);
      if ((entry & 3) == 0 || (entry & 0x80) != 0) return;
      table = entry & 0xF'FFFF'FFFF'F000;
      if (table >= ram_bytes) return;
    }
    const std::uint64_t slot = table + 8 * (iova >> (12 + 9 * (level - 1)) & 511);
    if (level != 1) tables_changed_ = true;
    guest_.store(slot, level == 1 ? new_frame(tree) | (word >> 12 & 3) : 0);
    model_->memory_changed();
  }
  void change_page(unsigned a, unsigned b, unsigned c) {
    const std::size_t tree = a % trees_.size();
    const std::uint64_t iova = pages.at(b % pages.size());
    const std::uint64_t rights = c & 3;
    if (!leads_to_tables(tree, iova)) return;
    const std::uint64_t frame = new_frame(tree);
    // Often the neighbours in its line go along, so that they go on alike and are cached together.
    for (const std::uint64_t page : pages) {
      if (page != iova && ((c & 4) == 0 || page >> 15 != iova >> 15)) continue;
      guest_.store(tables_.slot(trees_.at(tree), page, 1), rights == 0 ? 0 : frame | (page & 0x1F'F000) | rights);
      model_->memory_changed();
    }
  }
  void change_large_page(unsigned a, unsigned b, unsigned c) {
    const std::size_t tree = a % trees_.size();
    const std::uint64_t iova = pages.at(b % pages.size());
    const unsigned level = 2 + (c >> 2) % 2;
    if (!leads_to_tables(tree, iova)) return;
    const std::uint64_t slot = tables_.slot(trees_.at(tree), iova, level);
    tables_changed_ = true;
    guest_.store(slot, (c & 3) == 0 ? 0 : (new_frame(tree) & ~std::uint64_t{0x3FFF'FFFF}) | 0x80 | (c & 3));
    model_->memory_changed();
  }
  /// Any word, and pointers to its own table and to others.
  void change_word(unsigned a, unsigned b, unsigned c, std::uint64_t word) {
    const test::Tree& tree = trees_.at(a % trees_.size());
    const std::uint64_t iova = pages.at(b % pages.size());
    const unsigned level = 1 + c % 4;
    if (level > tree.levels || !leads_to_tables(a % trees_.size(), iova)) return;
    const std::uint64_t slot = tables_.slot(tree, iova, level);
    if ((c & 0x80) != 0) word = (word & 0xFFF) | (slot & ~std::uint64_t{0xFFF});
    if ((c & 0x40) != 0) word = (word & 0xFFF) | trees_.at(word >> 12 & 1).root;
    if (!may_be_table(word & 0xF'FFFF'FFFF'F000)) word = (word & ~0xF'FFFF'FFFF'F000ULL) | trees_.at(0).root;
    tables_changed_ = true;
    self_pointing_ = true;
    model_->tables_are_shared();
    guest_.store(slot, word);
    model_->memory_changed();
  }
  /// The model takes root entries as they are, has a context table of its own at address 0, and hears nothing of what
  /// the queue and context entries do to a table.
  [[nodiscard]] bool may_be_table(std::uint64_t page) const {
    const auto holds_contexts = [&](std::uint16_t source) {
      return page == (guest_.load(unit_.root_table + std::uint64_t{16} * (source >> 8)).value_or(0) & ~0xFFFULL);
    };
    return page > first_table && std::ranges::none_of(sources, holds_contexts);
  }
  /// Whether slot() would follow tables only, down to the last one, and find its pages in memory.
  [[nodiscard]] bool leads_to_tables(std::size_t tree, std::uint64_t iova) const {
    std::uint64_t table = trees_.at(tree).root;
    for (unsigned at = trees_.at(tree).levels; at > 1; --at) {
      const std::uint64_t entry = guest_.load(table + 8 * (iova >> (12 + 9 * (at - 1)) & 511)).value_or(0);
      if (entry == 0) return true;  // made as needed
      if ((entry & 3) == 0 || (entry & 0x80) != 0) return false;
      table = entry & 0xF'FFFF'FFFF'F000;
      if (table < first_table || table >= ram_bytes) return false;
    }
    return true;
  }
  void change_context(unsigned a, unsigned b, unsigned c) {
    const std::uint16_t source = sources.at(a % sources.size());
    test::ContextFields fields;
    fields.domain_id = domain_of(c);
    if ((b & 7) == 7)
      tables_.detach(source);
    else if ((b & 7) == 6)
      tables_.set_context(source, 9, std::uint64_t{fields.domain_id} << 8 | 3);
    else
      tables_.attach(source, trees_.at(b % trees_.size()), fields);
    model_->memory_changed();
  }
  void invalidate_pages(std::uint16_t domain, std::uint64_t iova, unsigned address_mask, bool leaves_only) {
    const std::uint64_t inside = (std::uint64_t{0x1000} << address_mask) - 1;
    if (machine_.shape.queued) {
      driver_.add_page(domain, iova, address_mask, leaves_only && !tables_changed_);
      driver_.submit_and_wait();
    } else {
      driver_.iotlb_by_register(Granularity::narrow, domain, iova, address_mask);
    }
    model_->translations_invalidated(domain, iova & ~inside, iova | inside);
  }
  void invalidate_translations(unsigned a, unsigned b) {
    const std::uint16_t domain = domain_of(a);
    const bool global = b % 4 == 0;
    if (machine_.shape.queued) {
      if (global) driver_.add_global();
      if (!global) driver_.add_domain(domain);
      driver_.submit_and_wait();
    } else {
      driver_.iotlb_by_register(global ? Granularity::global : Granularity::domain, domain);
    }
    if (!global) return model_->translations_invalidated(domain);
    model_->translations_invalidated();
    tables_changed_ = false;
  }
  void invalidate_contexts(unsigned a, unsigned b, unsigned c) {
    constexpr std::array<std::uint16_t, 4> ignored{0, 4, 6, 7};
    const std::uint16_t domain = domain_of(a);
    const std::uint16_t source = sources.at(b % sources.size());
    const unsigned functions = c >> 2 & 3;
    const auto granularity = static_cast<Granularity>(1 + c % 3);
    if (machine_.shape.queued) {
      if (granularity == Granularity::narrow) driver_.add_context_device(domain, source, functions);
      if (granularity == Granularity::domain) driver_.add_context_domain(domain);
      if (granularity == Granularity::global) driver_.add_context_global();
      driver_.submit_and_wait();
    } else {
      driver_.context_by_register(granularity, domain, source, functions);
    }
    if (granularity == Granularity::narrow) return model_->contexts_invalidated(domain, source, ignored.at(functions));
    if (granularity == Granularity::domain) return model_->contexts_invalidated(domain);
    model_->contexts_invalidated();
  }
  void drop_everything() {
    machine_.engine.drop_caches();
    model_->contexts_invalidated();
    model_->translations_invalidated();
    tables_changed_ = false;
  }
  /// Off and on again changes nothing that is cached; while off, nothing is translated.
  void switch_off_and_on(std::uint64_t word) {
    driver_.enable_translation(false);
    oracle::Request asked;
    asked.source_id = sources.at(word % sources.size());
    asked.iova = word;
    asked.read = true;
    const viommu_translation answer = machine_.reader.translate(test::engine_request(asked));
    require_equal(answer.kind, VIOMMU_IDENTITY, "an answer while translation is off");
    require_equal(answer.gpa, word, "an address while translation is off");
    driver_.enable_translation(true);
  }

  Machine& machine_;
  FlatGuest& guest_;
  oracle::Unit unit_;
  test::Words words_{[this](std::uint64_t gpa) { return guest_.load(gpa); },
                     [this](std::uint64_t gpa, std::uint64_t value) { return guest_.store(gpa, value); }};
  test::GuestTables tables_{words_, first_table};
  std::array<test::Tree, 3> trees_{};
  test::VtdDriver driver_{machine_.engine, words_, queue_page, status_word};
  std::unique_ptr<test::WindowModel> model_;
  std::uint64_t generation_ = 0;
  bool tables_changed_ = false;  ///< other than leaves, since the last global invalidation
  bool self_pointing_ = false;   ///< a table may be met twice on one way
};

constexpr std::size_t head_bytes = 1;
constexpr std::array<Cell, 6> cells{{{0, 1}, {1, 1}, {2, 1}, {3, 1}, {4, 1}, {8, 8}}};
constexpr std::array<std::uint64_t, 6> values{0x1, 0x3, 0x83, 0x3003, 0x7, 0x803};
constexpr RecordShape shape{head_bytes, Run::record_bytes, cells, values};

}  // namespace
}  // namespace viommu::fuzz

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace viommu::fuzz;
  Input input{data, size};
  const unsigned number = input.below(16);
  const std::uint32_t fill = number >> 2;
  const Shape unit{(number & 1) != 0, (number & 2) == 0, fill, fill == 0 ? std::uint32_t{VIOMMU_UNCACHED} : 0U};
  Run run{world_of<Machine, 16>(number, unit)};
  try {
    while (!input.empty()) run.step(input.record(Run::record_bytes));
  } catch (const std::out_of_range&) {
    return 0;  // the guest has no more room for tables
  }
  return 0;
}

std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t most, unsigned seed) {
  return viommu::fuzz::mutate_records(viommu::fuzz::shape, data, size, most, seed);
}
