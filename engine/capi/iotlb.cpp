// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// viommu_iotlb.h: translations that come as messages.
#include <viommu/viommu_iotlb.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <mutex>
#include <new>
#include <utility>

#include "engine/capi/range_cache.hpp"
#include "engine/capi/sized.hpp"
#include "engine/capi/told_misses.hpp"
#include "engine/capi/write_log.hpp"

using viommu::Gpa;
using viommu::HostAllocator;
using viommu::HostArray;
using viommu::Iova;
using viommu::IovaRange;
using viommu::Rights;
using viommu::capi::Miss;
using viommu::capi::RangeCache;
using viommu::capi::Taken;
using viommu::capi::ToldMisses;
using viommu::capi::WriteLog;

/// Alone in its lines.
struct alignas(viommu::shared_line_bytes) viommu_iotlb_reader {
  static constexpr std::size_t most_owed = 8;

  viommu_iotlb* iotlb = nullptr;
  viommu::caches::GuardWord* word = nullptr;
  bool used = false;  ///< iotlb->lock
  // Of the reader's thread:
  std::uint32_t depth = 0;
  std::uint32_t owed_count = 0;
  std::array<Miss, most_owed> owed;  ///< to be told when the guard has ended
};

struct viommu_iotlb {
  viommu_iotlb(const HostAllocator& with, const viommu_iotlb_options& known)
      : allocator{with}, options{known}, cache{with, known.ranges} {}
  viommu_iotlb(const viommu_iotlb&) = delete;
  viommu_iotlb& operator=(const viommu_iotlb&) = delete;
  ~viommu_iotlb() {
    free_log(log.load(std::memory_order_relaxed));
    while (old_logs != nullptr) free_log(std::exchange(old_logs, old_logs->next));
  }

  [[nodiscard]] bool reset() noexcept {
    if (!cache.reset(options.readers) || !misses.reset(allocator, options.misses, options.repeat) ||
        !readers.reset(allocator, options.readers))
      return false;
    for (std::uint32_t i = 0; i < options.readers; ++i) {
      readers[i].iotlb = this;
      readers[i].word = &cache.word(i);
    }
    return true;
  }

  void free_log(WriteLog* gone) const noexcept {
    if (gone == nullptr) return;
    gone->~WriteLog();
    allocator.put(gone, sizeof(WriteLog), alignof(WriteLog));
  }
  /// Those that no guard can be using. @return how many are left
  std::uint32_t free_old_logs() noexcept {
    std::uint32_t left = 0;
    for (WriteLog** at = &old_logs; *at != nullptr;) {
      WriteLog* const old = *at;
      if (cache.drained(old->ticket)) {
        *at = old->next;
        free_log(old);
      } else {
        at = &old->next;
        ++left;
      }
    }
    return left;
  }

  HostAllocator allocator;
  viommu_iotlb_options options;
  RangeCache cache;
  ToldMisses misses;
  HostArray<viommu_iotlb_reader> readers;
  viommu::Atomic<std::uint64_t> updates{0};
  viommu::Atomic<std::uint64_t> invalidations{0};
  /// Loaded with acquire inside a guard, stored with release; what was there before is freed when its ticket, taken
  /// behind the store, has drained.
  viommu::Atomic<WriteLog*> log{nullptr};
  viommu::Mutex lock;            ///< for the readers' `used`, and:
  WriteLog* old_logs = nullptr;  ///< that wait
};

namespace {

constexpr std::uint32_t every_right = VIOMMU_READ | VIOMMU_WRITE;
constexpr std::uint32_t most_old_logs = 8;
constexpr std::uint32_t most_log_regions = 4096;
constexpr std::uint32_t most_looks = 65'536;

[[nodiscard]] bool is_right(std::uint32_t access) noexcept { return access != 0 && (access & ~every_right) == 0; }

template <class Number>
void take_default(Number& number, Number otherwise) noexcept {
  if (number == 0) number = otherwise;
}

[[nodiscard]] bool complete(viommu_iotlb_options& options) noexcept {
  constexpr std::uint64_t least_ranges = 8;
  constexpr std::uint64_t most_ranges = std::uint64_t{1} << 24;
  constexpr std::uint32_t most_readers = 4096;
  constexpr std::uint32_t most_misses = 4096;
  take_default(options.ranges, std::uint64_t{65'536});
  take_default(options.readers, 64U);
  take_default(options.misses, 64U);
  take_default(options.repeat, 1024U);
  return options.ranges >= least_ranges && options.ranges <= most_ranges && options.readers <= most_readers &&
         options.misses <= most_misses && options.reserved == 0 &&
         (options.allocate == nullptr) == (options.deallocate == nullptr);
}

/// Outside the guard, so that whoever is asked may wait for what waits for guards.
void tell_misses(viommu_iotlb_reader& reader) noexcept {
  const std::array<Miss, viommu_iotlb_reader::most_owed> owed = reader.owed;
  const std::uint32_t count = std::exchange(reader.owed_count, 0);
  viommu_iotlb& iotlb = *reader.iotlb;
  for (std::uint32_t i = 0; i < count; ++i) {
    if (iotlb.options.miss == nullptr || !iotlb.misses.asked(owed[i])) continue;
    iotlb.options.miss(iotlb.options.opaque, owed[i].range.first.value, owed[i].range.last.value,
                       static_cast<std::uint32_t>(owed[i].access.bits()));
  }
}

void owe(viommu_iotlb_reader& reader, IovaRange range, Rights access) noexcept {
  if (reader.owed_count != 0) {
    Miss& before = reader.owed[reader.owed_count - 1];
    if (before.access == access && range.first.value != 0 && before.range.last.value == range.first.value - 1) {
      before.range.last = range.last;
      return;
    }
  }
  if (reader.owed_count == reader.owed.size()) return;  // asked for when what is before it is there
  reader.owed[reader.owed_count++] = {range, access};
}

/// Pieces, each as long as it goes on.
class Pieces {
 public:
  Pieces(viommu_iotlb_piece* to, std::uint32_t capacity) noexcept : to_{to}, capacity_{capacity} {}

  [[nodiscard]] bool add(std::uint64_t iova, std::uint64_t target, std::uint64_t length, Rights rights) noexcept {
    const auto bits = static_cast<std::uint8_t>(rights.bits());
    if (count_ != 0) {
      viommu_iotlb_piece& open = to_[count_ - 1];
      // `target` is not 0 behind a piece that ends at the last address.
      if (open.rights == bits && target != 0 && open.target + (open.length - 1) == target - 1) {
        open.length += length;
        return true;
      }
    }
    if (count_ == capacity_) return false;
    to_[count_++] = {iova, target, length, bits, {}};
    return true;
  }
  [[nodiscard]] std::uint32_t count() const noexcept { return count_; }

 private:
  viommu_iotlb_piece* to_;
  std::uint32_t capacity_;
  std::uint32_t count_ = 0;
};

void translate(viommu_iotlb_reader& reader, IovaRange range, Rights access, Pieces& pieces,
               viommu_iotlb_end& end) noexcept {
  const RangeCache& cache = reader.iotlb->cache;
  end = {};
  bool stopped = false;
  for (std::uint32_t looks = 0;;) {  // ends: `most_looks`
    const Iova at = range.first;
    const RangeCache::Look look = cache.look(at);
    const Iova last = std::min(look.last, range.last);
    if (look.mapping && look.mapping->rights.covers(access)) {
      const Gpa target = look.mapping->gpa + (at.value - look.mapping->range.first.value);
      const std::uint64_t length = last.value - at.value + 1;
      if (!stopped && !pieces.add(at.value, target.value, length, look.mapping->rights)) {
        end.stopped = VIOMMU_IOTLB_FULL;
        break;
      }
      if (!stopped) end.translated += length;
    } else {
      if (!stopped) end.stopped = look.mapping ? VIOMMU_IOTLB_DENIED : VIOMMU_IOTLB_MISSING;
      stopped = true;
      owe(reader, {at, last}, access);
    }
    if (last == range.last) break;
    range.first = Iova{last.value + 1};
    if (++looks == most_looks) {
      if (!stopped) end.stopped = VIOMMU_IOTLB_MORE;
      break;
    }
  }
  end.pieces = pieces.count();
}

[[nodiscard]] viommu_result result_of(RangeCache::Updated updated) noexcept {
  switch (updated) {
    case RangeCache::Updated::ok:    return VIOMMU_OK;
    case RangeCache::Updated::later: return VIOMMU_E_BUSY;
    default:                         return VIOMMU_E_MEMORY;
  }
}

}  // namespace

extern "C" {

viommu_result viommu_iotlb_create(const struct viommu_iotlb_options* options, viommu_iotlb** iotlb) {
  if (options == nullptr || iotlb == nullptr) return VIOMMU_E_ARGUMENT;
  *iotlb = nullptr;
  viommu_iotlb_options known;
  if (viommu::capi::take_over(*options, known, sizeof known) != Taken::ok || !complete(known)) return VIOMMU_E_ARGUMENT;
  const HostAllocator allocator{known.opaque, known.allocate, known.deallocate};
  void* const memory = allocator.get(sizeof(viommu_iotlb), alignof(viommu_iotlb));
  if (memory == nullptr) return VIOMMU_E_MEMORY;
  auto* const created = ::new (memory) viommu_iotlb{allocator, known};
  if (!created->reset()) {
    created->~viommu_iotlb();
    allocator.put(memory, sizeof(viommu_iotlb), alignof(viommu_iotlb));
    return VIOMMU_E_MEMORY;
  }
  *iotlb = created;
  return VIOMMU_OK;
}

viommu_result viommu_iotlb_destroy(viommu_iotlb* iotlb) {
  if (iotlb == nullptr) return VIOMMU_OK;
  {
    const std::lock_guard lock{iotlb->lock};
    for (const viommu_iotlb_reader& reader : iotlb->readers)
      if (reader.used) return VIOMMU_E_BUSY;
  }
  const HostAllocator allocator = iotlb->allocator;
  iotlb->~viommu_iotlb();
  allocator.put(iotlb, sizeof(viommu_iotlb), alignof(viommu_iotlb));
  return VIOMMU_OK;
}

// ---- Feeding ----

viommu_result viommu_iotlb_update(viommu_iotlb* iotlb, uint64_t first, uint64_t last, uint64_t target,
                                  uint32_t access) {
  if (iotlb == nullptr || last < first || !is_right(access)) return VIOMMU_E_ARGUMENT;
  if (target == VIOMMU_NO_GPA || last - first > ~target) return VIOMMU_E_RANGE;
  const IovaRange range{{first}, {last}};
  const RangeCache::Updated updated = iotlb->cache.update({range, {target}, Rights::in(access), false});
  iotlb->updates.fetch_add(1, std::memory_order_relaxed);
  iotlb->misses.settled(range);
  return result_of(updated);
}

viommu_result viommu_iotlb_invalidate(viommu_iotlb* iotlb, uint64_t first, uint64_t last, uint64_t* ticket) {
  if (iotlb == nullptr || last < first) return VIOMMU_E_ARGUMENT;
  const IovaRange range{{first}, {last}};
  const std::uint64_t given = iotlb->cache.invalidate(range);
  iotlb->invalidations.fetch_add(1, std::memory_order_relaxed);
  iotlb->misses.settled(range);
  if (ticket != nullptr) *ticket = given;
  return VIOMMU_OK;
}

viommu_result viommu_iotlb_failed(viommu_iotlb* iotlb, uint64_t first, uint64_t last) {
  if (iotlb == nullptr || last < first) return VIOMMU_E_ARGUMENT;
  iotlb->misses.settled({{first}, {last}});
  return VIOMMU_OK;
}

viommu_result viommu_iotlb_drained(viommu_iotlb* iotlb, uint64_t ticket, uint32_t* drained) {
  if (iotlb == nullptr || drained == nullptr) return VIOMMU_E_ARGUMENT;
  *drained = iotlb->cache.drained(ticket) ? 1 : 0;
  return VIOMMU_OK;
}

// ---- Translating ----

viommu_result viommu_iotlb_reader_create(viommu_iotlb* iotlb, viommu_iotlb_reader** reader) {
  if (iotlb == nullptr || reader == nullptr) return VIOMMU_E_ARGUMENT;
  *reader = nullptr;
  const std::lock_guard lock{iotlb->lock};
  for (viommu_iotlb_reader& free : iotlb->readers) {
    if (free.used) continue;
    free.used = true;
    free.owed_count = 0;
    iotlb->cache.use(*free.word);
    *reader = &free;
    return VIOMMU_OK;
  }
  return VIOMMU_E_LIMIT;
}

viommu_result viommu_iotlb_reader_destroy(viommu_iotlb_reader* reader) {
  if (reader == nullptr) return VIOMMU_OK;
  if (reader->depth != 0) return VIOMMU_E_BUSY;
  const std::lock_guard lock{reader->iotlb->lock};
  reader->used = false;
  return VIOMMU_OK;
}

void viommu_iotlb_enter(viommu_iotlb_reader* reader) {
  if (reader != nullptr && reader->depth++ == 0) reader->iotlb->cache.enter(*reader->word);
}

void viommu_iotlb_leave(viommu_iotlb_reader* reader) {
  if (reader == nullptr || reader->depth == 0) return;
  --reader->depth;
  if (reader->depth != 0) return;
  reader->iotlb->cache.leave(*reader->word);
  if (reader->owed_count != 0) tell_misses(*reader);
}

viommu_result viommu_iotlb_translate_range(viommu_iotlb_reader* reader, uint64_t iova, uint64_t length, uint32_t access,
                                           struct viommu_iotlb_piece* pieces, uint32_t capacity,
                                           struct viommu_iotlb_end* end) {
  if (reader == nullptr || pieces == nullptr || capacity == 0 || end == nullptr || length == 0 || !is_right(access) ||
      length - 1 > ~iova)
    return VIOMMU_E_ARGUMENT;
  Pieces written{pieces, capacity};
  viommu_iotlb_enter(reader);
  translate(*reader, {{iova}, {iova + (length - 1)}}, Rights::in(access), written, *end);
  viommu_iotlb_leave(reader);
  return end->stopped == VIOMMU_IOTLB_MISSING || end->stopped == VIOMMU_IOTLB_DENIED ? VIOMMU_E_FAULT : VIOMMU_OK;
}

// ---- Which pages were written ----

viommu_result viommu_iotlb_log_set(viommu_iotlb* iotlb, const struct viommu_iotlb_log* log, uint64_t* ticket) {
  if (iotlb == nullptr) return VIOMMU_E_ARGUMENT;
  WriteLog* made = nullptr;
  if (log != nullptr) {
    viommu_iotlb_log known;
    if (viommu::capi::take_over(*log, known, sizeof known) != Taken::ok || known.reserved != 0 ||
        known.region_count > most_log_regions || (known.region_count != 0 && known.regions == nullptr))
      return VIOMMU_E_ARGUMENT;
    void* const memory = iotlb->allocator.get(sizeof(WriteLog), alignof(WriteLog));
    if (memory == nullptr) return VIOMMU_E_MEMORY;
    made = ::new (memory) WriteLog;
    if (const WriteLog::Made how = made->make(iotlb->allocator, known); how != WriteLog::Made::ok) {
      iotlb->free_log(made);
      return how == WriteLog::Made::bad ? VIOMMU_E_ARGUMENT : VIOMMU_E_MEMORY;
    }
  }
  const std::lock_guard lock{iotlb->lock};
  if (iotlb->free_old_logs() >= most_old_logs) {
    iotlb->free_log(made);
    return VIOMMU_E_BUSY;
  }
  WriteLog* const old = iotlb->log.exchange(made, std::memory_order_acq_rel);
  const std::uint64_t given = iotlb->cache.ticket();
  if (ticket != nullptr) *ticket = given;
  if (old != nullptr) {
    old->ticket = given;
    old->next = iotlb->old_logs;
    iotlb->old_logs = old;
  }
  return VIOMMU_OK;
}

viommu_result viommu_iotlb_written(viommu_iotlb_reader* reader, const struct viommu_iotlb_piece* pieces,
                                   uint32_t count) {
  if (reader == nullptr || (pieces == nullptr && count != 0)) return VIOMMU_E_ARGUMENT;
  bool all = true;
  viommu_iotlb_enter(reader);
  if (const WriteLog* const log = reader->iotlb->log.load(std::memory_order_acquire); log != nullptr)
    for (std::uint32_t i = 0; i < count; ++i) all &= log->add(pieces[i]);
  viommu_iotlb_leave(reader);
  return all ? VIOMMU_OK : VIOMMU_E_RANGE;
}

viommu_result viommu_iotlb_figures_get(viommu_iotlb* iotlb, struct viommu_iotlb_figures* figures) {
  if (iotlb == nullptr || !viommu::capi::can_take(figures)) return VIOMMU_E_ARGUMENT;
  const RangeCache::Figures cache = iotlb->cache.figures();
  const ToldMisses::Figures misses = iotlb->misses.figures();
  viommu_iotlb_figures known{};
  known.ranges = cache.ranges;
  known.bytes = cache.bytes;
  known.updates = iotlb->updates.load(std::memory_order_relaxed);
  known.invalidations = iotlb->invalidations.load(std::memory_order_relaxed);
  known.misses = misses.told;
  known.repeated = misses.repeated;
  known.evicted = cache.evicted;
  known.forgotten = cache.forgotten;
  viommu::capi::hand_over(known, *figures);
  return VIOMMU_OK;
}

}  // extern "C"
