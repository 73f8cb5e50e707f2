// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/core/waist.hpp"

#include <algorithm>
#include <bit>

#include "engine/base/tracepoint.hpp"
#include "walkers/simd/select.hpp"

namespace viommu::core {

Waist::Waist(const WaistOptions& options, const Host& host) noexcept
    : options_{options},
      host_{host},
      format_{options.rules},
      masks_{walkers::second_stage_masks(options.rules)},
      first_stage_{options.first_stage_rules, {}},
      kernels_{options.kernels != nullptr ? options.kernels : walkers::select_kernels()},
      batch_lookup_{options.uncached ? nullptr : caches::select_batch_lookup(kernels_->name)},
      memory_{host.memory(), host.memory_tap()} {}

Waist::~Waist() {
  RegionMap::destroy(host_.allocator(), memory_.publish(nullptr));
  for (std::size_t i = 0; i < retired_map_count_; ++i) RegionMap::destroy(host_.allocator(), retired_maps_[i].map);
}

bool Waist::reset() noexcept {
  const HostAllocator allocator = host_.allocator();
  const std::size_t readers = options_.readers + transient_readers;
  if (!words_.reset(allocator, readers) || !readers_.reset(allocator, readers) ||
      !holds_.reset(allocator, options_.holds))
    return false;
  if (!accounts_.reset(allocator, options_.accounts, readers, epochs_)) return false;
  for (std::size_t i = 0; i < readers; ++i) {
    readers_[i].word = &words_[i];
    readers_[i].row = accounts_.row(i);
    readers_[i].owner = this;
  }
  const std::span<caches::GuardWord> words{words_.begin(), readers};
  return epochs_.reset(allocator, {words.first(options_.readers), words.subspan(options_.readers)}, options_.drain) &&
         iotlb_.reset(allocator, options_.iotlb_pages, options_.shards, options_.hash_seed) &&
         structures_.reset(allocator, options_.structures, 1, ~options_.hash_seed) &&
         spaces_.reset(allocator, options_.address_spaces, options_.tag_bits, epochs_, {&iotlb_, &structures_}) &&
         contexts_.reset(allocator, options_.context_entries, spaces_, accounts_,
                         {options_.pasid_entries, options_.hash_seed}) &&
         (options_.shards == 1 || !host_.has_executor() ||
          groups_.reset(allocator, options_.shards, options_.address_spaces));
}

void Waist::adopt(const walkers::SecondStageRules& rules, const walkers::FirstStageRules& first_stage_rules) noexcept {
  options_.rules = rules;
  options_.first_stage_rules = first_stage_rules;
  format_ = walkers::SecondStage{rules};
  masks_ = walkers::second_stage_masks(rules);
  first_stage_ = walkers::FirstStage{first_stage_rules, {}};
  drop(caches::Scope{});
}

Reader* Waist::take(std::size_t first, std::size_t count) noexcept {
  for (std::size_t i = first; i < first + count; ++i) {
    Reader& reader = readers_[i];
    if (reader.in_use.load(std::memory_order_relaxed) || reader.in_use.exchange(true, std::memory_order_acquire))
      continue;
    epochs_.use(*reader.word);
    return &reader;
  }
  return nullptr;
}

std::uint64_t Waist::readers_in_use() const noexcept {
  return static_cast<std::uint64_t>(std::ranges::count_if(
      readers_, [](const Reader& reader) { return reader.in_use.load(std::memory_order_acquire); }));
}

caches::BatchBits Waist::look_up_records(Reader& reader, std::uint64_t kind, const std::byte* requests,
                                         std::byte* answers, std::size_t count) noexcept {
  const caches::BatchBits answered =
      batch_lookup_->look_up({.contexts = &contexts_, .iotlb = &iotlb_, .kind = kind}, requests, answers, count);
  std::uint64_t hits = 0;
  for (const std::uint64_t bits : answered) hits += static_cast<std::uint64_t>(std::popcount(bits));
  const std::uint64_t after = reader.counters.add(Count::iotlb_hits, hits);
  if (counts_apart()) [[unlikely]]
    count_apart(reader, requests, answered);
  // One in so many hits is remembered, as one by one (count_hit()), and at another place of the batch each time.
  constexpr std::uint64_t sample = caches::Recent::sample;
  std::uint64_t marks = after / sample - (after - hits) / sample;
  for (std::size_t i = after / sample % std::min(count, sample); i < count && marks != 0; i += sample, --marks) {
    const caches::RecordedRequest request{requests + i * caches::record_bytes};
    if (const caches::ContextEntry context = contexts_.find(request.source()); context)
      remember(reader, context.space().place(), request.iova(), low_bits(page_shift));
  }
  return answered;
}

void Waist::count_apart(const Reader& reader, const std::byte* requests,
                        const caches::BatchBits& answered) const noexcept {
  for (std::size_t word = 0; word < answered.size(); ++word)
    for (std::uint64_t left = answered[word]; left != 0; left &= left - 1) {
      const std::size_t i = word * 64 + static_cast<std::size_t>(std::countr_zero(left));
      const caches::RecordedRequest request{requests + i * caches::record_bytes};
      reader.row.add(caches::Use::hits, contexts_.account(request.source()));
    }
}

/// Null also when another thread has the lock: nobody waits for it here.
template <class Insert>
caches::ContextEntry Waist::insert_if_free(const Insert& insert) noexcept {
  caches::ContextEntry entry;
  {
    const std::unique_lock lock{caches_lock_, std::try_to_lock};
    if (!lock.owns_lock()) return {};
    entry = insert();
  }
  // Pools are short, and only the thread that processes can wait for a grace period.
  if (!entry && spaces_.short_of_something() && !reclaim_asked_.exchange(true, std::memory_order_relaxed)) host_.wake();
  return entry;
}

caches::ContextEntry Waist::insert_context(std::uint64_t version, SourceId source, const caches::AddressSpaceKey& key,
                                           caches::ContextFlags flags) noexcept {
  return insert_if_free([&] { return contexts_.insert(version, source, key, flags); });
}

caches::ContextEntry Waist::insert_context(std::uint64_t version, const caches::PasidKey& pasid,
                                           const caches::AddressSpaceKey& key, caches::ContextFlags flags) noexcept {
  return insert_if_free([&] { return contexts_.insert(version, pasid, key, flags); });
}

void Waist::drop_from_caches(const caches::Scope& scope) noexcept {
  tracepoint::drop(static_cast<std::uint32_t>(scope.kind), scope.domain.value, scope.range.first.value,
                   scope.range.last.value);
  full_fence();  // B1 of address_spaces.hpp
  using Kind = caches::Scope::Kind;
  const std::lock_guard lock{caches_lock_};
  contexts_.drop(scope);
  if (scope.kind == Kind::everything || scope.kind == Kind::translations)
    return spaces_.for_each([this](caches::AddressSpace& space) { spaces_.forget(space); });
  if (const std::optional pages = caches::page_scope_of(scope))
    spaces_.for_each_of(scope.domain, [&](caches::AddressSpace& space) { drop_from(space, *pages); });
}

bool Waist::still_in_use(const Ticket& ticket) noexcept {
  if (!epochs_.scan(ticket.epoch)) return true;
  if (ticket.scopes.empty() || holds_.none_open()) return false;
  // After the guards: a hold made inside a guard is in the list before that guard ends.
  std::array<OverdueHold, 16> overdue;
  std::size_t told = 0;
  const bool delayed = holds_.delays(ticket.scopes, ticket.epoch, host_.now_ns(),
                                     host_.has_clock() ? options_.hold_report_ns : ~0ULL, overdue, &told);
  for (std::size_t i = 0; i < told; ++i) host_.hold_overdue(overdue[i].handle, overdue[i].cookie, overdue[i].age_ns);
  return delayed;
}

Ticket Waist::ticket(const caches::ScopeSet& scopes) noexcept {
  const Ticket made{epochs_.advance(), scopes};
  tracepoint::drain_begun(made.epoch);
  return made;
}

bool Waist::drained(const Ticket& ticket) noexcept {
  const bool done = look_whether_drained(ticket);
  if (done && ticket.epoch != 0) tracepoint::drain_ended(ticket.epoch);
  return done;
}

bool Waist::look_whether_drained(const Ticket& ticket) noexcept {
  if (!still_in_use(ticket)) return true;
  // Say that somebody waits, then look once more: whoever ends in between is either seen here or sees the flag.
  waiter_.store(true, std::memory_order_seq_cst);
  epochs_.settle();
  return !still_in_use(ticket);
}

bool Waist::reclaim() noexcept {
  if (!sweeping_) {
    if (!spaces_.short_of_something()) return false;
    reclaim_asked_.store(false, std::memory_order_relaxed);
    static_cast<void>(epochs_.scan(epochs_.issued()));
    const std::lock_guard lock{caches_lock_};
    sweeping_ = spaces_.begin_sweep();
    sweep_at_ = 0;
    if (!sweeping_) return false;
  }
  // One slice a call, in parts that the host may run side by side.
  constexpr std::size_t part_groups = 512;
  constexpr std::uint32_t parts = 8;
  host_.execute(parts,
                [this](std::uint32_t part) { spaces_.sweep_slice(sweep_at_ + part * part_groups, part_groups); });
  sweep_at_ += parts * part_groups;
  if (sweep_at_ < spaces_.sweep_groups()) return true;
  const std::lock_guard lock{caches_lock_};
  spaces_.end_sweep();
  sweeping_ = false;
  return false;
}

std::uint64_t Waist::hold(std::uint64_t since, const caches::Usage& usage, std::uint64_t cookie,
                          const std::optional<GpaRange>& written) noexcept {
  const std::uint64_t handle = holds_.open(usage, since, cookie, host_.now_ns(), written);
  if (handle != 0) {
    tracepoint::hold_opened(handle, cookie, usage.source.value, usage.range.first.value, usage.range.last.value);
  }
  return handle;
}

bool Waist::release(std::uint64_t handle, bool revoked) noexcept {
  // While the hold still keeps back whoever waits for the log to be complete.
  if (dirty_.logging()) [[unlikely]]
    if (const std::optional written = holds_.written_by(handle)) dirty_.log(*written);
  if (!holds_.close(handle, revoked)) return false;
  tracepoint::hold_closed(handle, revoked ? 1 : 0);
  if (waiter_.load(std::memory_order_seq_cst)) wake();
  return true;
}

void Waist::log_own_writes(bool on) noexcept {
  if (on) dirty_.start();
  memory_.log_writes(on ? &own_writes_ : nullptr);
  if (!on) dirty_.stop();
}

std::uint64_t Waist::count(Count which) const noexcept {
  std::uint64_t total = 0;
  for (const Reader& reader : readers_) total += reader.counters.get(which);
  return total;
}

caches::Accounts::Figures Waist::figures_of(SourceId source) noexcept {
  const std::lock_guard lock{caches_lock_};
  return accounts_.of(source);
}
caches::Accounts::Figures Waist::figures_of(DomainId domain) noexcept {
  const std::lock_guard lock{caches_lock_};
  return accounts_.of(domain);
}

void Waist::begin_counting(DomainId domain) noexcept {
  if (!counts_apart()) return;
  const std::lock_guard lock{caches_lock_};
  accounts_.begin(domain);
}

Waist::CacheFigures Waist::cache_figures() noexcept {
  const std::lock_guard lock{caches_lock_};
  return {spaces_.in_use(), spaces_.sweeps(),
          iotlb_.bytes() + structures_.bytes() + spaces_.bytes() + contexts_.bytes() + accounts_.bytes() +
              epochs_.bytes() + groups_.bytes(),
          epochs_.barriers()};
}

}  // namespace viommu::core
