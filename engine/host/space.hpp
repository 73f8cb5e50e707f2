// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// One address space of the kernel and what is in it, kept equal: a call is made, and what is remembered follows what
// it returned. `Side` is the kernel's side of it (type1.hpp, ioas.hpp): the calls, and nothing remembered.
//
// An unmap asks the kernel for the span from the first to the last mapping in the range, in one call where that is
// possible. Where that call fails each mapping is asked for alone, so that each event gets the answer that is its own.
#pragma once

#include <viommu/viommu_host.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <mutex>
#include <new>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "engine/host/dirty_runs.hpp"
#include "engine/host/kernel.hpp"
#include "engine/host/mappings.hpp"

namespace viommu::host {

template <class Side>
class Space {
 public:
  template <class... Arguments>
  explicit Space(Arguments&&... arguments) : side_{std::forward<Arguments>(arguments)...} {}

  void apply(std::span<viommu_event> events) noexcept {
    const std::lock_guard lock{mutex_};
    while (!events.empty()) {
      std::size_t count = 1;
      if (events.front().kind == VIOMMU_EVENT_UNMAP) {
        count = run_of_unmaps(events);
        unmap(events.first(count));
      } else {
        events.front().status = events.front().kind == VIOMMU_EVENT_MAP            ? map(events.front())
                                : events.front().kind == VIOMMU_EVENT_DEVICE_UNMAP ? VIOMMU_OK  // the kernel sees to it
                                                                                   : VIOMMU_E_ARGUMENT;
      }
      events = events.subspan(count);
    }
  }

  /// All that was mapped here.
  [[nodiscard]] viommu_result drop() noexcept {
    const std::lock_guard lock{mutex_};
    return take(everything);
  }
  /// All that is in the space, mapped here or not.
  [[nodiscard]] viommu_result clear() noexcept {
    const std::lock_guard lock{mutex_};
    return take_all();
  }

  /// Logs writes, and tells them to `sink`; without one it no longer does.
  [[nodiscard]] viommu_result log(const viommu_dirty_sink* sink) noexcept {
    const std::lock_guard lock{mutex_};
    if ((sink != nullptr) == sink_.has_value()) return VIOMMU_OK;
    if (const int done = counted(side_.log(sink != nullptr)); done < 0) return result_of(done);
    sink_.reset();
    if (sink != nullptr) sink_ = *sink;
    return VIOMMU_OK;
  }
  /// For one that goes: no longer, and nobody is told whatever the kernel says to that.
  void end_log() noexcept {
    static_cast<void>(log(nullptr));
    const std::lock_guard lock{mutex_};
    sink_.reset();
  }
  [[nodiscard]] viommu_result fetch() noexcept {
    const std::lock_guard lock{mutex_};
    return fetch_all();
  }

  /// use(side, fetch): the kernel's side while nothing else happens here. `fetch` tells what was written so far, which
  /// whoever gives up a page table has to do before.
  template <class Use>
  auto with_side(Use use) {
    const std::lock_guard lock{mutex_};
    return use(side_, [this] { return sink_ ? fetch_all() : VIOMMU_OK; });
  }

  [[nodiscard]] viommu_host_figures figures() noexcept {
    const std::lock_guard lock{mutex_};
    viommu_host_figures now = figures_;
    now.mappings = mappings_.all().size();
    now.mapped_bytes = mappings_.bytes();
    return now;
  }
  /// What is remembered. Nothing runs meanwhile.
  [[nodiscard]] const Mappings& mappings() const noexcept { return mappings_; }

 private:
  static constexpr std::uint64_t word_bytes = 8;
  static constexpr std::uint64_t bits_in_word = 64;
  static constexpr std::uint64_t most_grouped = std::uint64_t{1} << 30;  // address space that one bitmap is fetched of

  int counted(int returned) noexcept {
    ++figures_.calls;
    if (returned < 0) {
      ++figures_.failures;
      figures_.last_error = static_cast<std::uint64_t>(-returned);
    }
    return returned;
  }

  /// How many UNMAPs follow each other from the first on, each beginning where the one before ends.
  [[nodiscard]] static std::size_t run_of_unmaps(std::span<const viommu_event> events) noexcept {
    std::size_t count = 1;
    while (count < events.size() && events[count].kind == VIOMMU_EVENT_UNMAP &&
           events[count].last >= events[count].iova && events[count - 1].last != top_address &&
           events[count - 1].last >= events[count - 1].iova && events[count - 1].last + 1 == events[count].iova)
      ++count;
    return count;
  }

  [[nodiscard]] viommu_result map(const viommu_event& event) noexcept {
    const Range range{event.iova, event.last};
    const auto rights = static_cast<std::uint32_t>(event.rights & (VIOMMU_READ | VIOMMU_WRITE));
    if (event.hva == nullptr || rights == 0 || range.last < range.first) return VIOMMU_E_ARGUMENT;
    if (range == everything) return VIOMMU_E_RANGE;  // no length can say it
    if (mappings_.any(range)) return VIOMMU_E_EXISTS;
    const Mapping mapping{range, event.gpa, reinterpret_cast<std::uintptr_t>(event.hva), rights};
    try {
      mappings_.insert(mapping);  // first what can fail here, so that nothing is in the kernel that is not known
    } catch (const std::bad_alloc&) {
      return VIOMMU_E_MEMORY;
    }
    int done = counted(side_.map(mapping));
    if (done == -EBUSY) {  // a remainder that is not ours: taken away, and tried once more
      counted(side_.unmap(range));
      done = counted(side_.map(mapping));
    }
    if (done < 0) mappings_.erase(range);
    return result_of(done);
  }

  /// A run of touching UNMAPs, or one.
  void unmap(std::span<viommu_event> run) noexcept {
    for (viommu_event& event : run) event.status = VIOMMU_OK;
    if (run.front().last < run.front().iova) {
      run.front().status = VIOMMU_E_ARGUMENT;
      return;
    }
    // An event that begins or ends inside a mapping fails and takes nothing. The next one may then do so too: where a
    // mapping lies in both.
    while (!run.empty() && mappings_.cut_at_first(range_of(run))) {
      run.front().status = VIOMMU_E_ARGUMENT;
      run = run.subspan(1);
    }
    while (!run.empty() && mappings_.cut_at_last(range_of(run))) {
      run.back().status = VIOMMU_E_ARGUMENT;
      run = run.first(run.size() - 1);
    }
    if (run.empty()) return;
    const Range range = range_of(run);
    const viommu_result taken = range == everything ? take_all() : take(range);
    if (taken == VIOMMU_OK) return;
    for (viommu_event& event : run)
      if (mappings_.any({event.iova, event.last})) event.status = taken;
  }

  [[nodiscard]] static Range range_of(std::span<const viommu_event> run) noexcept {
    return {run.front().iova, run.back().last};
  }

  /// All mappings of `range`, which cuts none. VIOMMU_OK, or why some are still there.
  [[nodiscard]] viommu_result take(Range range) noexcept {
    const auto first = mappings_.from(range);
    const auto past = mappings_.past(range);
    if (first == past) return VIOMMU_OK;
    const Range span{first->second.range.first, std::prev(past)->second.range.last};
    if (!sink_ && std::next(first) != past && span != everything && counted(side_.unmap(span)) >= 0) {
      mappings_.erase(span);
      return VIOMMU_OK;
    }
    int failed = 0;
    for (auto at = first; at != past;) {
      const Mapping mapping = (at++)->second;  // the iterator goes on before its place is erased
      const int done = take(mapping);
      if (done >= 0)
        mappings_.erase(mapping.range);
      else
        failed = done;
    }
    return result_of(failed);
  }

  /// One mapping. Where it is not there any more the two backends differ in what they say, and it is gone for both.
  [[nodiscard]] int unmap_whole(Range range) noexcept {
    const int done = side_.unmap(range);
    return done == -ENOENT ? counted(0) : counted(done);
  }

  [[nodiscard]] int take(const Mapping& mapping) noexcept {
    if (!sink_ || (mapping.rights & VIOMMU_WRITE) == 0) return unmap_whole(mapping.range);
    const bool told = side_.tells_all() && bits_for(mapping.range);
    const int logged = told ? counted(side_.unmap_logged(mapping.range, bits_)) : -ENOMEM;
    const int done = logged >= 0 ? logged : unmap_whole(mapping.range);
    if (done < 0) return done;
    DirtyRuns runs{*sink_};
    if (logged >= 0)
      runs.add(mapping, mapping.range.first, side_.page_bytes(), bits_);
    else
      runs.add(mapping, mapping.range);  // not known, so all of it
    return done;
  }

  [[nodiscard]] viommu_result take_all() noexcept {
    viommu_result taken = sink_ ? take(everything) : VIOMMU_OK;
    const int done = side_.unmap_all([this](int returned) { return counted(returned); },
                                     [this](Range gone) { mappings_.erase(gone); });
    if (done >= 0) return VIOMMU_OK;
    if (!mappings_.all().empty()) taken = take(everything);
    return mappings_.all().empty() ? VIOMMU_OK : taken;
  }

  /// Makes `bits_` an empty bitmap for a range. False: too long for one call, or no memory.
  [[nodiscard]] bool bits_for(Range range) noexcept {
    const std::uint64_t pages = (range.last - range.first) / side_.page_bytes() + 1;
    const std::uint64_t words = (pages + bits_in_word - 1) / bits_in_word;
    if (words * word_bytes > side_.longest_bitmap_bytes()) return false;
    try {
      bits_.assign(words, 0);
    } catch (const std::bad_alloc&) {
      return false;
    }
    return true;
  }

  [[nodiscard]] viommu_result fetch_all() noexcept {
    if (!sink_) return VIOMMU_E_ARGUMENT;
    DirtyRuns runs{*sink_};
    const auto& all = mappings_.all();
    const std::uint64_t told_at_most = side_.longest_bitmap_bytes() * 8 * side_.page_bytes();
    const std::uint64_t grouped = std::min(most_grouped, told_at_most);
    for (auto first = all.begin(); first != all.end();) {
      auto past = std::next(first);
      Range span = first->second.range;
      for (; past != all.end() && past->second.range.last - span.first < grouped; ++past) {
        if (!Side::bitmaps_span_holes && past->second.range.first != span.last + 1) break;
        span.last = past->second.range.last;
      }
      const bool told = side_.tells_all() && bits_for(span) && counted(side_.dirty(span, bits_)) >= 0;
      for (; first != past; ++first) {
        if ((first->second.rights & VIOMMU_WRITE) == 0) continue;
        if (told)
          runs.add(first->second, span.first, side_.page_bytes(), bits_);
        else
          runs.add(first->second, first->second.range);
      }
    }
    return VIOMMU_OK;
  }

  std::mutex mutex_;
  Side side_;
  Mappings mappings_;
  std::optional<viommu_dirty_sink> sink_;
  std::vector<std::uint64_t> bits_;
  viommu_host_figures figures_{};
};

}  // namespace viommu::host
