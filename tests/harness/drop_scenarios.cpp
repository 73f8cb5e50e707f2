// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Runs of invalidations whose domains are dropped side by side, on an executor of two fibers.
#include <array>
#include <cstring>
#include <span>

#include "engine/base/process_barrier.hpp"
#include "engine/core/waist.hpp"
#include "tests/harness/scenario.hpp"

namespace viommu::harness {
namespace {

constexpr std::size_t domains = 2;
constexpr unsigned frame_shift = 24;
constexpr std::uint64_t old_frame = 1;
constexpr std::uint64_t new_frame = 2;

// The tables of each domain, a page each, of which the first entries may be used.
constexpr std::uint64_t large_bit = 1U << 7;
constexpr std::uint64_t tables_each = 4;
constexpr std::size_t entries = 8;
[[nodiscard]] constexpr std::uint64_t root(std::size_t domain) { return 1 + domain * tables_each; }
[[nodiscard]] constexpr std::uint64_t middle(std::size_t domain) { return root(domain) + 1; }
[[nodiscard]] constexpr std::uint64_t leaves(std::size_t domain) { return root(domain) + 2; }
[[nodiscard]] constexpr std::uint64_t other_leaves(std::size_t domain) { return root(domain) + 3; }

[[nodiscard]] constexpr std::uint64_t table_entry(std::uint64_t table) { return table << page_shift | 3; }
/// Each domain has frames of its own.
[[nodiscard]] constexpr std::uint64_t leaf_entry(std::size_t domain, std::uint64_t frame) {
  return (domain * 4 + frame) << frame_shift | 3;
}

/// Tasks of one call, taken by whichever fiber comes first.
class Pool {
 public:
  void execute(std::uint32_t count, void (*task)(void* context, std::uint32_t index), void* context) {
    task_ = task;
    context_ = context;
    open_.store(count, std::memory_order_release);
    while (run_one(count)) {
    }
    while (done_.load(std::memory_order_acquire) != count) simulator().pause();
  }
  /// Of the fiber that helps, until the pool closes.
  void help() {
    while (!closed_.load(std::memory_order_acquire)) {
      const std::uint32_t count = open_.load(std::memory_order_acquire);
      if (count == 0 || !run_one(count)) simulator().pause();
    }
  }
  void close() { closed_.store(true, std::memory_order_release); }

 private:
  bool run_one(std::uint32_t count) {
    const std::uint32_t index = next_.fetch_add(1, std::memory_order_relaxed);
    if (index >= count) return false;
    task_(context_, index);
    done_.fetch_add(1, std::memory_order_acq_rel);
    return true;
  }
  void (*task_)(void* context, std::uint32_t index) = nullptr;
  void* context_ = nullptr;
  Atomic<std::uint32_t> open_{0};
  Atomic<std::uint32_t> next_{0};
  Atomic<std::uint32_t> done_{0};
  Atomic<bool> closed_{false};
};

constexpr core::WaistOptions sharded{.rules = {},
                                     .hash_seed = 5,
                                     .hold_report_ns = 0,
                                     .iotlb_pages = 512,
                                     .structures = 16,
                                     .shards = domains,
                                     .context_entries = 4,
                                     .address_spaces = 4,
                                     .tag_bits = 4,
                                     .readers = 2,
                                     .holds = 4,
                                     .regions = 4,
                                     .fill = core::FillMode::line,
                                     .drain = caches::Drain::fence,
                                     .hand_out_ns = 0};

/// What the guest does to a page of each domain before it invalidates them in one run.
enum class Change : std::uint8_t {
  leaf,
  table,
  large,  ///< a leaf of 2 MiB, a size that nobody has cached before
};
/// Who disturbs, beside a reader.
enum class Beside : std::uint8_t {
  nobody,
  all_dropped,
  reader,  ///< of another large page of the first domain
};

template <Change change, Beside beside>
struct SideBySide {
  static constexpr std::size_t fibers = beside == Beside::nobody ? 3 : 4;

  SideBySide() {
    pairs_are_whole = true;
    has_process_barrier = true;
    require(waist.reset(), "the harness has memory");
    reader = waist.take_reader();        // NOLINT(cppcoreguidelines-prefer-member-initializer): none before reset()
    other_reader = waist.take_reader();  // NOLINT(cppcoreguidelines-prefer-member-initializer): as above
    for (std::size_t domain = 0; domain < domains; ++domain) {
      set(root(domain), table_entry(middle(domain)));
      if (change == Change::large) {
        set(middle(domain), leaf_entry(domain, old_frame) | large_bit);
        words[middle(domain)][1].store(leaf_entry(domain, old_frame) | large_bit, std::memory_order_release);
        const SourceId source{static_cast<std::uint16_t>(domain)};
        require(static_cast<bool>(waist.insert_context(waist.context_version(), source, key(domain), {})),
                "there is room");
        continue;
      }
      set(middle(domain), table_entry(leaves(domain)));
      set(leaves(domain), leaf_entry(domain, old_frame));
      set(other_leaves(domain), leaf_entry(domain, new_frame));
      translate_in_guard(domain);  // tables are announced, and at the second look cached
      if (change == Change::leaf) continue;
      const caches::PageScope page = scope(domain, true);
      waist.drop({&page, 1});
      translate_in_guard(domain);
    }
    if (change == Change::large) waist.enter(*reader);  // its fence is long past
  }
  void fiber(std::size_t number) {
    if (number == 0 && change == Change::large) {
      static_cast<void>(translate(0));
      waist.leave(*reader);
    } else if (number == 0) {
      for (std::size_t i = 0; i < 2 * domains; ++i) translate_in_guard(i % domains);
    } else if (number == 1) {
      change_and_drop();
      pool.close();
    } else if (number == 2) {
      pool.help();
    } else if (beside == Beside::reader) {
      waist.enter(*other_reader);
      static_cast<void>(waist.translate(*other_reader, waist.find_context(SourceId{0}).space(), {1U << 21}, read_only));
      waist.leave(*other_reader);
    } else {
      waist.drop(caches::Scope{});
    }
  }
  void check() {
    for (std::size_t domain = 0; domain < domains; ++domain) {
      waist.enter(*reader);
      require(translate(domain) == new_frame, "what is found afterwards is what the tables say");
      waist.leave(*reader);
    }
  }

  void change_and_drop() {
    for (std::size_t domain = 0; domain < domains; ++domain) {
      if (change == Change::leaf) set(leaves(domain), leaf_entry(domain, new_frame));
      if (change == Change::table) set(middle(domain), table_entry(other_leaves(domain)));
      if (change == Change::large) set(middle(domain), leaf_entry(domain, new_frame) | large_bit);
    }
    const std::array run{scope(0, change == Change::leaf), scope(1, change == Change::leaf)};
    waist.drop(run);
    require(handed_out == 1, "two domains are two tasks");
    if (change == Change::large) return;  // what is found in the end says enough
    caches::ScopeSet scopes;
    for (const caches::PageScope& one : run) scopes.add(caches::scope_of(one));
    const core::Ticket ticket = waist.ticket(scopes);
    while (!waist.drained(ticket)) simulator().pause();
    for (auto& of_domain : frames) of_domain[old_frame].end("a frame that the guest has taken back");
  }
  [[nodiscard]] static caches::PageScope scope(std::size_t domain, bool leaves_only) {
    return {{{0}, {low_bits(page_shift)}}, {static_cast<std::uint16_t>(domain)}, leaves_only};
  }
  [[nodiscard]] static caches::AddressSpaceKey key(std::size_t domain) {
    return {{static_cast<std::uint16_t>(domain)},
            caches::Interpretation::second_stage,
            2,
            {root(domain) << page_shift},
            {low_bits(39)}};
  }
  /// The frame that the first page of a domain is translated to.
  std::uint64_t translate(std::size_t domain) {
    const SourceId source{static_cast<std::uint16_t>(domain)};
    const std::uint64_t version = waist.context_version();
    caches::ContextEntry context = waist.find_context(source);
    if (!context) context = waist.insert_context(version, source, key(domain), {});
    const core::Translation found = context ? waist.translate(*reader, context.space(), {0}, read_only)
                                            : waist.translate_uncached(*reader, key(domain), {0}, read_only);
    require(found.outcome == core::Outcome::translated, "the page is there");
    const std::uint64_t frame = found.gpa.value >> frame_shift;
    require(frame / 4 == domain, "a domain is answered from its own tables");
    return frame % 4;
  }
  void translate_in_guard(std::size_t domain) {
    waist.enter(*reader);
    frames[domain][translate(domain)].use("a frame");
    waist.leave(*reader);
  }
  void set(std::uint64_t table, std::uint64_t entry) { words[table][0].store(entry, std::memory_order_release); }

  [[nodiscard]] core::HostFunctions functions() {
    core::HostFunctions made;
    made.opaque = this;
    made.allocator = arena();
    made.memory.opaque = this;
    made.memory.read = [](void* self, std::uint64_t gpa, void* data, std::uint64_t size) -> std::int32_t {
      const std::uint64_t table = gpa >> page_shift;
      const std::uint64_t index = (gpa & low_bits(page_shift)) / sizeof(std::uint64_t);
      std::uint64_t word = 0;
      auto& all = static_cast<SideBySide*>(self)->words;
      if (table < all.size() && index < entries) word = all[table][index].load(std::memory_order_acquire);
      std::memcpy(data, &word, size);
      return 0;
    };
    made.execute = [](void* self, std::uint32_t count, void (*task)(void*, std::uint32_t), void* context) {
      static_cast<SideBySide*>(self)->handed_out += 1;
      static_cast<SideBySide*>(self)->pool.execute(count, task, context);
    };
    return made;
  }

  std::array<std::array<Atomic<std::uint64_t>, entries>, 1 + domains * tables_each> words{};
  std::array<std::array<Thing, 3>, domains> frames;
  Pool pool;
  int handed_out = 0;
  core::HostFunctions host_functions = functions();
  core::Host host{host_functions};
  core::Waist waist{sharded, host};
  core::Reader* reader = nullptr;
  core::Reader* other_reader = nullptr;
};

constexpr const char* rule = "domains that are dropped side by side are dropped when their ticket is made";

constexpr std::array scenarios{
    scenario<SideBySide<Change::leaf, Beside::nobody>>("drop-leaf", rule, 2'500),
    scenario<SideBySide<Change::table, Beside::nobody>>("drop-table", rule, 2'500),
    scenario<SideBySide<Change::leaf, Beside::all_dropped>>("drop-leaf-all", rule, 2'500),
    scenario<SideBySide<Change::table, Beside::all_dropped>>("drop-table-all", rule, 2'500),
    scenario<SideBySide<Change::large, Beside::reader>>("drop-large", rule, 2'500),
};

}  // namespace

std::span<const Scenario> drop_scenarios() { return scenarios; }

}  // namespace viommu::harness
