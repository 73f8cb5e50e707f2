// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The window rule where it is hardest: the guest changes its tables and invalidates them while a walk is under way,
// between any two of its reads. The walk may answer with the old value or the new one, but it must leave nothing old
// behind for those who ask after the invalidation has completed.
#include <array>
#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <thread>
#include <utility>
#include <viommu/viommu.hpp>

#include "tests/support/guest_tables.hpp"
#include "tests/support/sparse_memory.hpp"
#include "tests/support/vtd_driver.hpp"

namespace viommu::test {
namespace {

constexpr std::uint64_t iova = 0x40007000;
constexpr std::uint16_t device = 0x0310;
constexpr std::uint16_t old_domain = 5;
constexpr std::uint16_t new_domain = 6;
constexpr std::uint64_t old_gpa = 0x40000000;
constexpr std::uint64_t new_gpa = 0x80000000;

/// A unit whose memory does something in the middle of a chosen read.
class Machine {
 public:
  explicit Machine(unsigned leaf_level) : engine_{create()}, reader{*engine_.reader()}, leaf_level_{leaf_level} {
    tables.map(tree, iova & ~page_mask(), old_gpa, entry_read_write, leaf_level_);
    tables.map(other_tree, iova & ~page_mask(), new_gpa, entry_read_write, leaf_level_);
    ContextFields fields;
    fields.domain_id = old_domain;
    tables.attach(device, tree, fields);
    driver.set_root_table(tables.root_table());
    driver.enable_queue();
    driver.enable_translation(true);
  }

  [[nodiscard]] std::uint64_t page_mask() const { return (std::uint64_t{0x1000} << 9 * (leaf_level_ - 1)) - 1; }
  void change_page() { tables.map(tree, iova & ~page_mask(), new_gpa, entry_read_write, leaf_level_); }
  void change_context() {
    ContextFields fields;
    fields.domain_id = new_domain;
    tables.attach(device, other_tree, fields);
  }

  /// `act` runs in a thread of its own during the k-th read from now on, counted from 1, after its words were taken.
  void during_read(unsigned k, std::function<void()> act) {
    reads_left_ = k;
    act_ = std::move(act);
  }
  [[nodiscard]] bool acted() const { return reads_left_ == 0; }

  [[nodiscard]] viommu_translation ask() {
    viommu_request request{};
    request.iova = iova;
    request.source = device;
    request.access = VIOMMU_WRITE;
    return reader.translate(request);
  }

 private:
  static SparseMemory ram() {
    SparseMemory memory;
    memory.add_ram(0x10000, 0x40000);
    return memory;
  }
  Engine create() {
    viommu_vtd_options options{};
    options.size = sizeof options;
    options.iotlb_pages = 256;  // there are hundreds of these machines
    options.context_entries = 16;
    options.readers = 4;
    viommu_host host{};
    host.size = sizeof host;
    host.opaque = this;
    host.memory_read = [](void* self, std::uint64_t gpa, void* data, std::uint64_t size) {
      return static_cast<Machine*>(self)->read(gpa, data, size);
    };
    host.memory_write = [](void* self, std::uint64_t gpa, const void* data, std::uint64_t size) {
      const std::span bytes{static_cast<const std::byte*>(data), size};
      return static_cast<Machine*>(self)->memory_.write(gpa, bytes) ? 0 : -1;
    };
    Expected<Engine> created = Engine::create_vtd(options, host);
    INFO(created.error().text);
    REQUIRE(created);
    return *std::move(created);
  }
  std::int32_t read(std::uint64_t gpa, void* data, std::uint64_t size) {
    if (!memory_.read(gpa, {static_cast<std::byte*>(data), size})) return -1;
    // The queue's own reads, inside act_, come when the count is 0 already.
    if (reads_left_ == 0) return 0;
    if (--reads_left_ == 0) std::thread{act_}.join();
    return 0;
  }

  SparseMemory memory_ = ram();
  Engine engine_;
  unsigned reads_left_ = 0;
  std::function<void()> act_;

 public:
  GuestTables tables{words_of(memory_), 0x12000};
  Tree tree = tables.create_tree(4);
  Tree other_tree = tables.create_tree(4);
  VtdDriver driver{engine_, words_of(memory_), 0x10000, 0x11000};
  Reader reader;

 private:
  unsigned leaf_level_;
};

struct Change {
  const char* name;
  std::function<void(Machine&)> act;  // changes tables and adds the descriptors
};

const std::array changes{
    Change{"page, its own invalidation",
           [](Machine& machine) {
             machine.change_page();
             machine.driver.add_page(old_domain, iova);
           }},
    Change{"page, a range that holds it",
           [](Machine& machine) {
             machine.change_page();
             machine.driver.add_page(old_domain, iova, 4, true);
           }},
    Change{"page, a range of many pages",
           [](Machine& machine) {
             machine.change_page();
             machine.driver.add_page(old_domain, iova, 18);
           }},
    Change{"page, whole domain",
           [](Machine& machine) {
             machine.change_page();
             machine.driver.add_domain(old_domain);
           }},
    Change{"page, everything",
           [](Machine& machine) {
             machine.change_page();
             machine.driver.add_global();
           }},
    Change{"context, by device",
           [](Machine& machine) {
             machine.change_context();
             machine.driver.add_context_device(old_domain, device);
             machine.driver.add_domain(old_domain);
           }},
    Change{"context, by domain",
           [](Machine& machine) {
             machine.change_context();
             machine.driver.add_context_domain(old_domain);
             machine.driver.add_domain(old_domain);
           }},
    Change{"context, all of them",
           [](Machine& machine) {
             machine.change_context();
             machine.driver.add_context_global();
             machine.driver.add_global();
           }},
};

}  // namespace

TEST_CASE("a walk that an invalidation overtakes leaves nothing old behind",
          "[property][window rule][PR-2][PR-4][SEC-11]") {
  for (const unsigned leaf_level : {1U, 2U, 3U}) {
    for (const Change& change : changes) {
      const unsigned most_reads = 7 - leaf_level;  // root and context entry, then 4 levels or less
      for (unsigned k = 1; k <= most_reads; ++k) {
        for (const bool context_cached : {false, true}) {
          Machine machine{leaf_level};
          CAPTURE(leaf_level, change.name, k, context_cached);
          if (context_cached) {  // a page of the same device that is not there
            viommu_request request{};
            request.source = device;
            request.access = VIOMMU_READ;
            request.flags = VIOMMU_NO_REPORT;
            static_cast<void>(machine.reader.translate(request));
          }
          std::uint32_t ticket = 0;
          bool shown_too_early = false;
          machine.during_read(k, [&] {
            change.act(machine);
            ticket = machine.driver.submit();
            shown_too_early = machine.driver.completed(ticket);
          });
          const viommu_translation during = machine.ask();
          if (!machine.acted()) continue;  // the walk was shorter
          const std::uint64_t offset = iova & machine.page_mask();
          CHECK((during.gpa == old_gpa + offset || during.gpa == new_gpa + offset));
          CHECK_FALSE(shown_too_early);  // the asking reader's guard was open
          machine.driver.wait_for(ticket);
          CHECK(machine.ask().gpa == new_gpa + offset);
          CHECK(machine.ask().gpa == new_gpa + offset);
        }
      }
    }
  }
}

}  // namespace viommu::test
