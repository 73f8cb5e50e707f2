// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The waist: where every front end and every consumer meets the caches and the walkers.
//
//   translate(reader, address space, iova, rights)  ->  Translation            IOTLB -> walk -> fill
//   drop(scope), ticket(scopes)                     ->  Ticket                 no new lookup serves anything older
//   drained(ticket)                                 ->  bool                   older users have gone
//
// Threads: everything from any thread; a reader belongs to one thread at a time. translate() takes no lock.
#pragma once

#include "caches/address_spaces.hpp"
#include "caches/batch_lookup.hpp"
#include "caches/context_cache.hpp"
#include "caches/epoch.hpp"
#include "caches/iotlb.hpp"
#include "caches/scope.hpp"
#include "engine/base/access.hpp"
#include "engine/base/address.hpp"
#include "engine/base/guest_memory.hpp"
#include "engine/base/scratch.hpp"
#include "engine/core/dirty_log.hpp"
#include "engine/core/drop_groups.hpp"
#include "engine/core/drop_listener.hpp"
#include "engine/core/holds.hpp"
#include "engine/core/host.hpp"
#include "engine/core/mapping_store.hpp"
#include "engine/core/reader.hpp"
#include "engine/core/request_mode.hpp"
#include "walkers/batch.hpp"
#include "walkers/format/first_stage.hpp"
#include "walkers/format/first_stage_layout.hpp"
#include "walkers/format/second_stage.hpp"

#include <array>
#include <cstdint>
#include <optional>
#include <span>

namespace viommu::core {

/// Why an address space answers as it does; front ends give these their own codes.
enum class Outcome : std::uint8_t {
  translated,
  beyond_width,  ///< or not canonical
  absent,        ///< no page there; front ends without a code for it report the missing right
  denied,
  malformed,
  top_table_unreadable,
  table_unreadable,
  output_in_interrupt_window,
  // Of stages with accessed and dirty flags:
  user_denied,      ///< a page of supervisors
  flags_forbidden,  ///< one has to be set, and the walk is not snooped
  flags_not_set,    ///< one could not be set
  // Nested, of a table of the first stage:
  table_beyond_width,  ///< for the second stage
  top_table_denied,    ///< the second stage lets nobody read it
  table_denied,
  table_update_denied,  ///< nor write it, and a flag has to be set there
};

/// Which tables an outcome is about, where an address goes through more than one set of them.
enum class Stage : std::uint8_t { first, second };

/// Filled in where it is wanted, field by field: a copy of what has just been stored in parts waits until the stores
/// have reached the cache, and with it everything that could overlap with the next request.
struct Translation {
  Outcome outcome = Outcome::absent;
  Stage stage = Stage::second;
  Rights rights;           ///< a right to write that a dirty flag is still to be set for is none yet
  bool mmio = false;       ///< it leads to a device's memory
  Gpa gpa;                 ///< of the address asked for
  std::uint64_t mask = 0;  ///< size - 1 of the aligned block in which every address translates alike

  void set(Outcome new_outcome, Rights new_rights, Gpa new_gpa = {}, std::uint64_t new_mask = 0) noexcept {
    outcome = new_outcome;
    rights = new_rights;
    mmio = false;
    gpa = new_gpa;
    mask = new_mask;
  }
};

/// An invalidation whose older users may not have gone yet.
struct Ticket {
  std::uint64_t epoch = 0;
  caches::ScopeSet scopes;
};

/// One lookup of a batch that the IOTLB did not answer.
struct Miss {
  caches::ContextEntry context;
  Iova iova;
  Rights asked;
  std::uint32_t index = 0;  ///< for the caller
  caches::Account account = 0;
  Translation found{};

  [[nodiscard]] caches::AddressSpace& space() const noexcept { return context.space(); }
};
/// Most of them in one call, and the width that a batch is worked in: so many walks are in flight at a time.
inline constexpr std::size_t batch_width = caches::batch_lookup_width;

/// A page table that the paging-structure cache knows.
struct CachedTable {
  Gpa table;
  std::uint8_t level = 0;
  Rights rights;  ///< above it
};

/// Where a walk begins.
enum class WalkFrom : std::uint8_t { root, cached_table };

/// What a walk may put into the IOTLB besides its answer.
enum class FillMode : std::uint8_t {
  exact,  ///< nothing, and only entries on the path of the address are loaded
  line,   ///< the neighbours in the leaf's cache line that go on alike
  all,    ///< also the next line of a sequential stream
};

/// Fixed at creation. All within the ranges that viommu.h gives.
struct WaistOptions {
  walkers::SecondStageRules rules;
  walkers::FirstStageRules first_stage_rules{};
  std::uint64_t hash_seed = 0;
  std::uint64_t hold_report_ns = 0;
  std::uint32_t iotlb_pages = 0;
  std::uint32_t structures = 0;  ///< tables that the paging-structure cache is laid out for
  std::uint32_t shards = 1;
  std::uint32_t context_entries = 0;
  std::uint32_t pasid_entries = 0;  ///< 0: contexts by PASID are not cached
  std::uint32_t address_spaces = 0;
  std::uint32_t tag_bits = 0;
  std::uint32_t readers = 0;
  std::uint32_t holds = 0;
  std::uint32_t regions = 0;
  std::uint32_t accounts = 0;  ///< pairs of a source and a domain that are counted apart
  FillMode fill = FillMode::all;
  bool uncached = false;  ///< nothing is filled: each request walks
  caches::Drain drain = caches::Drain::automatic;
  DropListener listener{};
  MappingStore store{};  ///< where a front end keeps mappings
  /// A run of drops that takes one thread less than this stays on it: by then a second one has hardly woken up.
  std::uint32_t hand_out_ns = 10'000;
  const walkers::Kernels* kernels = nullptr;  ///< null: the best that this CPU has
};

struct StageWalk;

enum class RegionResult : std::uint8_t { ok, exists, not_found, limit, no_memory };

class Waist {
 public:
  Waist(const WaistOptions& options, const Host& host) noexcept;
  ~Waist();
  Waist(const Waist&) = delete;
  Waist& operator=(const Waist&) = delete;
  /// @return false when the host has no memory.
  [[nodiscard]] bool reset() noexcept;
  /// Page tables mean this from now on, and nothing that was cached is served. Nobody translates meanwhile.
  void adopt(const walkers::SecondStageRules& rules, const walkers::FirstStageRules& first_stage_rules) noexcept;

  // ---- Readers and guards ----
  /// Null when all are in use.
  [[nodiscard]] Reader* take_reader() noexcept { return take(0, options_.readers); }
  /// A reader for one call; null when `transient_readers` such calls are running.
  [[nodiscard]] Reader* take_transient_reader() noexcept { return take(options_.readers, transient_readers); }
  void put_reader(Reader& reader) noexcept { reader.in_use.store(false, std::memory_order_release); }
  [[nodiscard]] std::uint64_t readers_in_use() const noexcept;

  void enter(Reader& reader) noexcept {
    if (reader.depth++ == 0) epochs_.enter(*reader.word);
  }
  void leave(Reader& reader) noexcept {
    if (reader.depth == 0) return;
    if (--reader.depth == 0) leave_now(reader);
  }
  /// A guard for the length of one call that nests no other: @return whether it was opened, for leave_once().
  [[nodiscard, gnu::always_inline]] bool enter_once(Reader& reader) noexcept {
    if (reader.depth != 0) return false;
    epochs_.enter(*reader.word);
    return true;
  }
  /// The same in line, for leave_outermost(). @return false when finish_entry() has to come before any lookup; the
  /// guard is open already
  [[nodiscard, gnu::always_inline]] bool enter_cheaply(Reader& reader) noexcept {
    return reader.depth != 0 || epochs_.enter_cheaply(*reader.word);
  }
  /// @return whether somebody waits for that: then wake() is to follow
  [[nodiscard, gnu::always_inline]] bool leave_outermost(Reader& reader) noexcept {
    return reader.depth == 0 && close(reader);
  }
  void wake() noexcept {
    if (waiter_.exchange(false, std::memory_order_seq_cst)) host_.wake();
  }
  void finish_entry(Reader& reader) noexcept { epochs_.finish_entry(*reader.word); }
  [[gnu::always_inline]] void leave_once(Reader& reader, bool entered) noexcept {
    if (entered) leave_now(reader);
  }

  // ---- What the front end says of all requests ----
  [[nodiscard, gnu::always_inline]] RequestMode mode() const noexcept { return mode_.get(); }
  void set_mode(RequestMode mode) noexcept { mode_.put(mode); }
  /// Whether new requests that write are logged (dirty()): an answer then covers no more than was asked for, and
  /// was logged before it is given; and an answer to a read gives no right to write. As set_mode().
  void log_requests(bool on) noexcept {
    const std::uint64_t word = mode().word;
    set_mode({on ? word | RequestMode::logging : word & ~RequestMode::logging});
  }

  // ---- Lookups, inside a guard ----
  /// @param asked  nothing asked (a zero-length read) is granted by any right
  /// @param from   where a walk may begin; a request that has loaded a context begins at the root, so that its loads
  ///               stay few even if a cached table turns out to be stale
  [[nodiscard]] Translation translate(Reader& reader, caches::AddressSpace& space, Iova iova, Rights asked,
                                      WalkFrom from = WalkFrom::cached_table) noexcept {
    Translation found;
    if (iova > space.key.last) {
      translate_beyond_last(reader, space, iova, asked, found);
    } else if (space.key.interpretation == caches::Interpretation::pass_through) {
      identity(reader, iova, found);
    } else if (const Hit hit = look_up(reader, space, iova, asked.bits()); hit.found()) {
      hit.write(found);
    } else {
      // Also when the cached rights do not suffice: a fault is always decided on what the tables say now.
      walk_and_fill(reader, space, iova, asked, from, found);
    }
    return found;
  }
  /// What the IOTLB says, when that is all it takes.
  struct Hit {
    Gpa gpa;
    std::uint64_t mask = 0;
    RightBits rights = 0;  ///< with mmio_bit; 0: no hit, because what grants nothing is not cached

    [[nodiscard]] bool found() const noexcept { return rights != 0; }
    /// Of what was translated.
    [[nodiscard]] static Hit of(const Translation& found) noexcept {
      return {found.gpa, found.mask, found.rights.bits() | (found.mmio ? mmio_bit : 0)};
    }
    void write(Translation& to) const noexcept {
      to.set(Outcome::translated, Rights::in(rights), gpa, mask);
      to.mmio = (rights & mmio_bit) != 0;
    }
  };
  /// No hit for an address beyond the width, in pass-through, in the interrupt window, not cached, or without rights.
  [[nodiscard]] Hit look_up(Reader& reader, const caches::AddressSpace& space, Iova iova, RightBits asked) noexcept {
    if (iova >= space.paged) return {};
    return look_up_folded(reader, space, iova, asked);
  }
  /// The same for an address as it is cached (caches::AddressSpaceKey::folded), of either half.
  [[nodiscard]] Hit look_up_folded(Reader& reader, const caches::AddressSpace& space, Iova iova,
                                   RightBits asked) noexcept {
    using Few = caches::Iotlb::Few;
    const Few which = few(space);
    const caches::Place place = space.place();
    const Hit hit = which == Few::page    ? look_up_small<Few::page>(place, iova, asked)
                    : which == Few::small ? look_up_small<Few::small>(place, iova, asked)
                                          : Hit{};
    if (!hit.found()) return has_more(space, which) ? look_up_more(reader, space, iova, asked) : hit;
    if (count_charged_hit(reader)) [[unlikely]]
      remember(reader, place, iova, hit.mask);
    return hit;
  }

  /// The same in parts, for an address below space.paged: small pages in line, then, if there are any, larger ones.
  [[nodiscard, gnu::always_inline]] caches::Iotlb::Few few(const caches::AddressSpace& space) const noexcept {
    return iotlb_.few(space.sizes.load(std::memory_order_relaxed));
  }
  [[nodiscard]] static bool has_more(const caches::AddressSpace& space, caches::Iotlb::Few few) noexcept {
    return (space.sizes.load(std::memory_order_relaxed) & ~caches::small_sizes) != 0 || few == caches::Iotlb::Few::any;
  }
  template <caches::Iotlb::Few which>
  [[nodiscard, gnu::always_inline]] Hit look_up_small(caches::Place place, Iova iova, RightBits asked) const noexcept {
    const Pair entry = iotlb_.find_small<which>(place, iova, iotlb_.small_set(place, iova));
    const RightBits rights = entry.second & answer_bits;
    if ((asked & ~rights) != 0 || rights == 0) [[unlikely]]  // what was not found grants nothing
      return {};
    return {caches::Iotlb::small_gpa<which>(entry, iova), low_bits(page_shift), rights};
  }
  /// The same where the reader may have an account.
  [[nodiscard]] static bool count_charged_hit(Reader& reader) noexcept {
    return reader.count(Count::iotlb_hits, caches::Use::hits) % caches::Recent::sample == 0;
  }
  /// To be called for each hit of look_up_small(), where nothing is counted apart. @return whether this one is to be
  /// remembered
  [[nodiscard, gnu::always_inline]] static bool count_hit(Reader& reader) noexcept {
    return reader.counters.add(Count::iotlb_hits) % caches::Recent::sample == 0;
  }
  /// That this page is in use: replacement asks for it.
  static void remember(Reader& reader, caches::Place place, Iova iova, std::uint64_t mask) noexcept {
    reader.recent.mark(caches::Iotlb::trace_of(place, iova, mask));
  }
  /// Whether records can be looked up together: then look_up_records(), of at most batch_width.
  [[nodiscard]] const caches::BatchLookup* batch_lookup() const noexcept { return batch_lookup_; }
  /// @param kind  of the answers (batch_lookup.hpp) @return which were answered; the others are to be asked one by one
  [[nodiscard]] caches::BatchBits look_up_records(Reader& reader, std::uint64_t kind, const std::byte* requests,
                                                  std::byte* answers, std::size_t count) noexcept;
  /// Hits among records by account, where there are any.
  void count_apart(const Reader& reader, const std::byte* requests, const caches::BatchBits& answered) const noexcept;
  // What the caches hold for an address, for who only wants to see it: nothing is counted or remembered
  // (waist_peek.cpp).
  [[nodiscard]] std::optional<caches::CachedTranslation> peek(const caches::AddressSpace& space,
                                                              Iova iova) const noexcept;
  /// Entries of an address space in one group of the IOTLB, of those that it can be in. Inside a guard.
  [[nodiscard]] std::size_t peek_groups(const caches::AddressSpace& space) const noexcept {
    return iotlb_.groups_of(space.place()).count;
  }
  using GroupEntries = std::array<caches::CachedEntry, caches::Iotlb::entries_per_group>;
  [[nodiscard]] std::size_t peek_group(const caches::AddressSpace& space, std::size_t group,
                                       GroupEntries& entries) const noexcept {
    const caches::Place place = space.place();
    return iotlb_.copy_group(iotlb_.groups_of(place).first + group, place.tag(), entries);
  }
  [[nodiscard]] const caches::PasidCache& cached_pasids() const noexcept { return contexts_.pasids(); }
  /// A slot for a reader, as it looks to others.
  struct ReaderSeen {
    bool transient = false;  ///< of calls without a reader
    bool in_use = false;
    bool inside = false;       ///< a guard
    std::uint64_t guards = 0;  ///< ended so far
  };
  [[nodiscard]] std::size_t reader_slots() const noexcept { return readers_.size(); }
  [[nodiscard]] ReaderSeen peek_reader(std::size_t slot) const noexcept;
  [[nodiscard]] bool is_slot_of(const Reader& reader, std::size_t slot) const noexcept {
    return &readers_[slot] == &reader;
  }
  /// The look for older guards that is under way, and in whose slots one is or may be. Of the thread that calls
  /// drained().
  struct ScanSeen {
    bool under_way = false;
    bool truncated = false;
    std::uint64_t target = 0;  ///< tickets up to this one wait for it
    std::size_t count = 0;
    std::array<std::uint16_t, 64> slots{};
  };
  [[nodiscard]] ScanSeen peek_scan() const noexcept;
  /// Regions that are removed, and that somebody may still be using.
  struct RegionsSeen {
    struct Removed {
      std::uint64_t ticket = 0;
      std::uint64_t cookie = 0;
    };
    std::size_t count = 0;
    std::array<Removed, 64> removed{};
  };
  void peek_removed_regions(RegionsSeen& seen) noexcept;
  [[nodiscard]] std::uint64_t tickets_issued() const noexcept { return epochs_.issued(); }
  [[nodiscard]] std::uint64_t tickets_passed() const noexcept { return epochs_.completed(); }
  /// The table that a walk would begin at.
  [[nodiscard]] std::optional<CachedTable> peek_table(const caches::AddressSpace& space, Iova iova) const noexcept;
  [[nodiscard]] Hit look_up_more(Reader& reader, const caches::AddressSpace& space, Iova iova,
                                 RightBits asked) noexcept;
  /// What the tables say, for an address below space.paged that look_up() had no hit for.
  void walk_and_fill(Reader& reader, caches::AddressSpace& space, Iova iova, Rights asked, WalkFrom from,
                     Translation& found) noexcept;
  /// The walks of a batch, together. @param misses  at most batch_width
  void walk_and_fill(Reader& reader, std::span<Miss> misses) noexcept;
  /// As translate(), for an address space that no cache holds.
  [[nodiscard]] Translation translate_uncached(Reader& reader, const caches::AddressSpaceKey& key, Iova iova,
                                               Rights asked) noexcept;

  [[nodiscard]] caches::ContextEntry find_context(SourceId source) const noexcept { return contexts_.find(source); }
  /// Of a request with a PASID.
  [[nodiscard]] caches::ContextEntry find_context(const caches::PasidKey& pasid) const noexcept {
    return contexts_.find(pasid);
  }
  [[nodiscard]] std::uint64_t context_version() const noexcept { return contexts_.version(); }
  /// Null when it cannot be cached now: use translate_uncached() then.
  [[nodiscard]] caches::ContextEntry insert_context(std::uint64_t version, SourceId source,
                                                    const caches::AddressSpaceKey& key,
                                                    caches::ContextFlags flags) noexcept;
  [[nodiscard]] caches::ContextEntry insert_context(std::uint64_t version, const caches::PasidKey& pasid,
                                                    const caches::AddressSpaceKey& key,
                                                    caches::ContextFlags flags) noexcept;

  // ---- Invalidation ----
  /// Drops what the scope names. When it returns no new lookup serves any of it, and no walk begun before fills it in.
  void drop(const caches::Scope& scope) noexcept;
  /// All of them, which costs less than one by one: in order on this thread or, where it is worth it, several domains
  /// side by side on the host's executor (waist_drop.cpp). Called by the thread that calls drained() and reclaim().
  void drop(std::span<const caches::PageScope> scopes) noexcept;
  /// Devices are no longer those they were: drops their contexts, and what is cached in the domains that these lead to.
  /// Nobody is told. As drop(). @param ignored_bits  of the source ids that count
  void forget_sources(SourceId source, std::uint8_t ignored_bits = 0) noexcept;
  /// Where a longer run for drop() may be put together; empty where it would not be handed out.
  [[nodiscard]] std::span<caches::PageScope> long_run() noexcept { return groups_.run(); }
  /// Everything dropped so far; drained when the guards open now, and the holds in `scopes` open now, have ended.
  [[nodiscard]] Ticket ticket(const caches::ScopeSet& scopes) noexcept;
  /// Reports holds that are overdue. When it says false, host.wake is called once something has ended since. Called by
  /// one thread at a time; looks for some microseconds at most.
  [[nodiscard]] bool drained(const Ticket& ticket) noexcept;
  /// Makes tags and objects free whose grace period is over, a slice at a time, before they are short. Called by the
  /// thread that calls drained(). @return whether there is more to do
  bool reclaim() noexcept;

  // ---- Holds ----
  /// The tickets given out so far: to be asked, inside the guard, before the translation that is to be held.
  [[nodiscard]] std::uint64_t hold_since() const noexcept { return epochs_.issued(); }
  /// Inside the guard of that translation. 0 when all holds are open.
  /// @param written  what the DMA may write
  [[nodiscard]] std::uint64_t hold(std::uint64_t since, const caches::Usage& usage, std::uint64_t cookie,
                                   const std::optional<GpaRange>& written = std::nullopt) noexcept;
  /// @return false when the handle is not open.
  [[nodiscard]] bool release(std::uint64_t handle, bool revoked) noexcept;
  [[nodiscard]] const Holds& holds() const noexcept { return holds_; }

  // ---- Dirty tracking (dirty_log.hpp) ----
  [[nodiscard]] DirtyLog& dirty() noexcept { return dirty_; }
  /// Whether regions that are added from now on bring room for their bits.
  void want_dirty(bool wanted) noexcept;
  /// Room for the bits of all regions in force. Inside a guard. @return false when the host has no memory
  [[nodiscard]] bool cover_regions() noexcept;
  /// What the engine itself writes, and what holds have written, is logged from now on; or no more.
  void log_own_writes(bool on) noexcept;

  // ---- Guest memory ----
  [[nodiscard]] const GuestMemory& memory() const noexcept { return memory_; }
  [[nodiscard]] RegionResult add_region(const Region& region) noexcept;
  [[nodiscard]] RegionResult remove_region(Gpa first, std::uint64_t cookie) noexcept;
  /// Makes a part of one region such a part; `cookie` as for a removal.
  [[nodiscard]] RegionResult set_part(GpaRange range, Part part, std::uint64_t cookie) noexcept;
  /// Grows with each change of the regions, once the change is in force.
  [[nodiscard]] std::uint64_t regions_version() const noexcept {
    return regions_version_.load(std::memory_order_acquire);
  }
  /// Frees what no reader can reach any more and tells the host. @return false while something is still waiting.
  /// Called by one thread at a time; that thread may load guest memory without a guard, because nobody else frees maps.
  /// @param told_version  changes that whoever keeps mappings knows of: memory that later ones took away stays
  bool reclaim_regions(std::uint64_t told_version = ~std::uint64_t{0}) noexcept;

  // ---- What a walk comes to ----
  /// Marks an answer that leads to a device's memory, and cuts it where that begins or ends. Inside a guard.
  void mark_device(Translation& found) const noexcept {
    const RegionMap* const map = memory_.map();
    if (map != nullptr && map->has_devices()) [[unlikely]]
      mark_device(*map, found);
  }
  [[nodiscard]] static bool overlaps_window(Gpa frame, std::uint64_t mask) noexcept {
    return Range<std::uint64_t>{frame.value, frame.value + mask}.overlaps(interrupt_window);
  }
  [[nodiscard]] static constexpr caches::PageSize size_at(unsigned level) noexcept {
    return level == 0 ? caches::PageSize::kib4 : level == 1 ? caches::PageSize::mib2 : caches::PageSize::gib1;
  }
  static void judge_identity(Iova iova, Translation& found) noexcept {
    if (interrupt_window.contains(iova.value)) [[unlikely]]  // of a request with a PASID: others end before
      return found.set(Outcome::output_in_interrupt_window, read_write);
    found.set(Outcome::translated, read_write, {iova.value}, mask_clear_of_interrupts(iova.value));
  }
  static void judge_beyond_width(const caches::AddressSpaceKey& key, Translation& found) noexcept {
    if (key.has_first_stage()) found.stage = Stage::first;
    found.set(Outcome::beyond_width, {});
  }
  /// An answer for a leaf. @return whether it may be cached
  [[nodiscard]] static bool judge(Iova iova, Gpa frame, caches::PageSize size, Rights rights,
                                  Translation& found) noexcept {
    const std::uint64_t mask = caches::mask_of(size);
    const Gpa gpa = frame + (iova.value & mask);
    const std::uint64_t clear = size == caches::PageSize::kib4 ? mask : mask & mask_clear_of_interrupts(iova.value);
    if (overlaps_window(frame, mask)) [[unlikely]] {
      // Blocked for the addresses that come out in the window, and for those only: such a page is walked each time.
      if (interrupt_window.contains(gpa.value)) {
        found.set(Outcome::output_in_interrupt_window, rights);
      } else {
        found.set(Outcome::translated, rights, gpa, clear & mask_clear_of_interrupts(gpa.value));
      }
      return false;
    }
    found.set(Outcome::translated, rights, gpa, clear);
    return !rights.none();
  }

  // ---- Statistics ----
  [[nodiscard]] std::uint64_t count(Count which) const noexcept;
  /// By device and by domain, where options.accounts says so.
  [[nodiscard]] bool counts_apart() const noexcept { return accounts_.any(); }
  /// What the reader does next is done by the context that was just found.
  template <class Key>
  void charge(Reader& reader, const Key& source_or_pasid) const noexcept {
    if (counts_apart()) [[unlikely]]
      reader.account = contexts_.account(source_or_pasid);
  }
  [[nodiscard]] caches::Accounts::Figures figures_of(SourceId source) noexcept;
  [[nodiscard]] caches::Accounts::Figures figures_of(DomainId domain) noexcept;
  [[nodiscard]] std::uint32_t generation(DomainId domain) const noexcept { return accounts_.generation(domain); }
  /// Another domain has this id from now on.
  void begin_counting(DomainId domain) noexcept;
  template <class Id>
  void count_dropped(Id id, caches::Dropped kind, std::uint64_t amount = 1) noexcept {
    if (!counts_apart() || accounts_.count_dropped(id, kind, amount)) return;
    const std::lock_guard lock{caches_lock_};
    accounts_.meet(id);
    accounts_.count_dropped(id, kind, amount);
  }
  struct CacheFigures {
    std::uint64_t address_spaces;
    std::uint64_t tag_sweeps;
    std::uint64_t bytes;
    std::uint64_t barriers;
  };
  [[nodiscard]] CacheFigures cache_figures() noexcept;
  /// Whether each request walks, so that asking the caches first is lost time.
  [[nodiscard]] bool uncached() const noexcept { return options_.uncached; }
  [[nodiscard]] const char* kernel() const noexcept { return kernels_->name; }
  [[nodiscard]] const walkers::Kernels& kernels() const noexcept { return *kernels_; }
  /// What second-stage entries mean here.
  [[nodiscard]] const walkers::SecondStage& second_stage() const noexcept { return format_; }

  static constexpr std::uint32_t transient_readers = 64;

 private:
  /// A map that was in force; and, when a region was removed by it, whom to tell.
  struct RetiredMap {
    const RegionMap* map = nullptr;
    Ticket ticket;
    std::uint64_t cookie = 0;
    std::uint64_t version = 0;  ///< of the map that replaced it
    bool tell = false;
  };

  [[nodiscard]] static constexpr bool grants(Rights granted, Rights asked) noexcept {
    return asked.none() ? !granted.none() : granted.covers(asked);
  }
  void identity(Reader& reader, Iova iova, Translation& found) const noexcept {
    reader.count(Count::pass_throughs, caches::Use::identities);
    judge_identity(iova, found);
    mark_device(found);
  }
  static void beyond_width(Reader& reader, const caches::AddressSpaceKey& key, Translation& found) noexcept {
    reader.counters.add(Count::beyond_width);
    judge_beyond_width(key, found);
  }
  /// The upper half of canonical addresses, or none at all.
  void translate_beyond_last(Reader& reader, caches::AddressSpace& space, Iova iova, Rights asked,
                             Translation& found) noexcept;

  /// What was sampled before a walk, and where the walk begins.
  struct Start {
    caches::Place place;
    caches::FillGuard pages;
    caches::FillGuard tables;
    caches::Sizes fillable = 0;
    caches::Sizes reachable = 0;
    walkers::WalkRequest request;
  };
  static void begin_at_root(const caches::AddressSpace& space, Iova iova, walkers::WalkRequest& request) noexcept;
  void start_walk(const caches::AddressSpace& space, Iova iova, WalkFrom from, Start& start) const noexcept;
  /// What the tables say now, for a walk that began at a cached table and came to no answer: a fault is never decided
  /// on what is cached. Words that were loaded are not loaded again unless another path leads to them.
  [[nodiscard]] walkers::WalkAnswer check_path(const caches::AddressSpace& space, Start& start,
                                               const walkers::WalkAnswer& walk) const noexcept;
  void finish_walk(Reader& reader, caches::AddressSpace& space, Start& start, Rights asked,
                   const walkers::WalkAnswer& walk, Translation& found) noexcept;
  void conclude(Reader& reader, caches::AddressSpace& space, const Start& start, Rights asked,
                const walkers::WalkAnswer& walk, Translation& found) noexcept;
  /// What is known without the caches. @return whether it may be cached
  [[nodiscard]] bool answer_walk(Iova iova, Rights asked, const walkers::WalkAnswer& walk,
                                 Translation& found) const noexcept;
  static void mark_device(const RegionMap& map, Translation& found) noexcept;
  /// The same for what is to be cached; a block of which only part is a device's becomes the page that was asked for.
  /// @return false for a larger page of which only part is one's: it cannot be cached
  [[nodiscard]] static bool mark_device(const RegionMap& map, Iova iova, caches::CachedPage& page) noexcept;
  /// Of a walk that answer_walk() has looked at.
  static void count_walk(Reader& reader, const walkers::WalkAnswer& walk, const Translation& found) noexcept {
    reader.count(Count::walks, caches::Use::walks);
    reader.counters.add(Count::walk_loads, walk.loads);
    if (found.outcome == Outcome::translated) reader.counters.add(Count::answers_with_walk);
  }
  void walk_with_next(Reader& reader, caches::AddressSpace& space, Start& start, Rights asked, const MemoryView& view,
                      Translation& found) noexcept;
  void walk_all(Reader& reader, std::span<Miss> misses) noexcept;
  /// The walks that may set flags (waist_stages.cpp): one, or those of a batch, of which `numbers` are the places.
  void walk_stages_and_fill(Reader& reader, caches::AddressSpace& space, Iova iova, Rights asked,
                            Translation& found) noexcept;
  using MissNumbers = Scratch<std::uint8_t, batch_width>;
  void walk_stages_and_fill(Reader& reader, std::span<Miss> misses, MissNumbers& numbers, std::size_t count) noexcept;
  /// The first `count` of `numbers`: misses of one address space, more than one.
  void walk_space_and_fill(Reader& reader, std::span<Miss> misses, const MissNumbers& numbers,
                           std::size_t count) noexcept;
  /// The same, by the walks of one kind. @param request  request(miss) is that miss's
  /// @param walk  walk(requests, answers) answers them all
  template <class Request, class Answer, class Ask, class Walk>
  void walk_together_and_fill(Reader& reader, std::span<Miss> misses, const MissNumbers& numbers, std::size_t count,
                              const Ask& request, const Walk& walk) noexcept;
  void sample_stages(const caches::AddressSpace& space, Iova iova, Start& start) const noexcept;
  void fill_staged(Reader& reader, caches::AddressSpace& space, const Start& start, Iova iova,
                   const caches::CachedPage& page) noexcept;
  /// @return whether it may be cached; `page` is then what for
  [[nodiscard]] bool conclude_stages(Reader& reader, Iova iova, const StageWalk& walked, Translation& found,
                                     caches::CachedPage& page) const noexcept;
  /// @return whether it may be cached; `page` is then what for
  [[nodiscard]] bool walk_stages(Reader& reader, const caches::AddressSpaceKey& key, Iova iova, Rights asked,
                                 Translation& found, caches::CachedPage& page) const noexcept;
  /// The same of mappings that a front end keeps (waist_mappings.cpp).
  [[nodiscard]] bool look_in_store(Reader& reader, DomainId domain, Iova iova, Rights asked, Translation& found,
                                   caches::CachedPage& page) const noexcept;
  void fill_page(Reader& reader, caches::AddressSpace& space, const Start& start, Iova iova,
                 caches::CachedPage page) noexcept;
  void fill_table(caches::AddressSpace& space, const Start& start, Iova iova, const walkers::WalkAnswer& walk) noexcept;
  void walk_ahead(Reader& reader, caches::AddressSpace& space, const Start& start, Iova next,
                  const walkers::WalkAnswer& walk) noexcept;
  [[nodiscard]] walkers::Fill walk_fill() const noexcept {
    return options_.fill == FillMode::exact || options_.uncached ? walkers::Fill::exact : walkers::Fill::line;
  }

  [[gnu::always_inline]] void leave_now(Reader& reader) noexcept {
    if (close(reader)) [[unlikely]]
      wake();
  }
  /// @return whether somebody waits for guards to end
  [[nodiscard, gnu::always_inline]] bool close(Reader& reader) noexcept {
    epochs_.leave(*reader.word);
    return waiter_.load(std::memory_order_relaxed);
  }
  void drop_from(caches::AddressSpace& space, const caches::PageScope& scope) noexcept;
  [[nodiscard]] Reader* take(std::size_t first, std::size_t count) noexcept;
  template <class Insert>
  [[nodiscard]] caches::ContextEntry insert_if_free(const Insert& insert) noexcept;
  [[nodiscard]] bool still_in_use(const Ticket& ticket) noexcept;
  [[nodiscard]] bool look_whether_drained(const Ticket& ticket) noexcept;
  /// drop(), but nobody is told.
  void drop_from_caches(const caches::Scope& scope) noexcept;
  /// On this thread, in order.
  void drop_in_order(std::span<const caches::PageScope> scopes) noexcept;
  /// Sorted by domain, on the host's executor.
  void drop_side_by_side(std::span<const caches::PageScope> scopes) noexcept;
  void drop_shard(std::uint16_t shard) noexcept;
  [[nodiscard]] bool worth_handing_out(std::span<const caches::PageScope> scopes) const noexcept;
  void tell_in_order(std::span<const caches::PageScope> scopes) const noexcept;
  /// A map with room for `extra` regions more than there are; taken before the lock, because the host's allocator is
  /// never called under one.
  [[nodiscard]] RegionMap* spare_map(std::size_t extra) noexcept;
  void put_in_force(const RegionMap* next, std::optional<std::uint64_t> cookie) noexcept;

  WaistOptions options_;
  const Host& host_;
  walkers::SecondStage format_;
  walkers::SecondStageMasks masks_;
  walkers::FirstStage first_stage_;  // of the unit; each PASID table entry puts its controls in
  const walkers::Kernels* const kernels_;
  const caches::BatchLookup* const batch_lookup_;  ///< null: there is none, or nothing is cached
  GuestMemory memory_;
  caches::Iotlb iotlb_;
  caches::Iotlb structures_;  ///< the paging-structure cache: a "page" is the table that maps so much
  caches::AddressSpaces spaces_;
  caches::Accounts accounts_;
  caches::ContextCache contexts_;
  caches::Epochs epochs_;
  HostArray<caches::GuardWord> words_;
  HostArray<Reader> readers_;
  Holds holds_;
  DirtyLog dirty_;
  WriteLog own_writes_{&dirty_, [](void* log, std::uint64_t gpa, std::uint64_t size_bytes) noexcept {
                         static_cast<DirtyLog*>(log)->log({{gpa}, {gpa + (size_bytes - 1)}});
                       }};
  DropGroups groups_;         ///< of whoever calls drop() of a run
  std::size_t sweep_at_ = 0;  ///< first group of the next slice; of the thread that calls reclaim()
  bool sweeping_ = false;
  Atomic<bool> reclaim_asked_{false};  ///< host.wake was called for want of pools
  /// Guards address spaces and context entries. Held for memory accesses of the engine's own only; the translating
  /// threads only ever try it.
  Mutex caches_lock_;
  /// Guards the list of retired maps and who publishes the next.
  Mutex regions_lock_;
  static constexpr std::size_t most_retired_maps = 64;
  std::array<RetiredMap, most_retired_maps> retired_maps_{};
  std::size_t retired_map_count_ = 0;
  Atomic<bool> maps_retired_{false};  ///< retired_map_count_ is not 0
  Atomic<std::size_t> region_count_{0};
  Atomic<std::uint64_t> regions_version_{0};
  /// Somebody waits for guards or holds to end, and wants host.wake.
  alignas(shared_line_bytes) Atomic<bool> waiter_{false};
  ModeInForce mode_;
};

}  // namespace viommu::core
