// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/consumer/consumers.hpp"

#include <algorithm>
#include <array>
#include <utility>

namespace viommu::consumer {

Result Consumers::reset(std::size_t subscriptions) noexcept {
  const HostAllocator allocator = host_.allocator();
  // One that is used, one that is to be, and one that is being emptied.
  const bool fits = slots_.reset(allocator, subscriptions) && spaces_.reset(allocator, 3 * subscriptions) &&
                    devices_.reset(allocator, first_devices);
  return fits ? Result::ok : Result::no_memory;
}

void Consumers::follow(const FrontEnd& front_end) noexcept {
  front_end_ = front_end;
  for (Slot& slot : slots_)
    if (slot.id != 0) slot.mirror->limit(front_end_.last_address);
  spaces_.for_each([&](Space& space) { space.mirror().limit(front_end_.last_address); });
}

std::uint32_t Consumers::index_of(SourceId source) const noexcept {
  for (std::uint32_t i = 0; i < device_count_; ++i)
    if (devices_[i].known && devices_[i].source == source) return i;
  return nobody;
}

Content Consumers::content_of(const Device& device) const noexcept {
  return device.bypassed ? Content{View::system, {}} : front_end_.content_of(front_end_.opaque, device.source);
}

// ---- Devices ----

bool Consumers::make_room() noexcept {
  for (std::uint32_t i = 0; i < device_count_; ++i)
    if (!devices_[i].known) return true;
  if (device_count_ < devices_.size()) return true;
  HostArray<Device> larger;
  if (!larger.reset(host_.allocator(), devices_.size() * 2)) return false;
  for (std::uint32_t i = 0; i < device_count_; ++i) {
    Device& to = larger[i];
    const Device& from = devices_[i];
    to.source = from.source;
    to.bypassed = from.bypassed;
    to.withdrawing = from.withdrawing;
    to.in_place = from.in_place;
    to.known = from.known;
    to.content = from.content;
    to.target = from.target;
    to.seen.store(from.seen.load(std::memory_order_relaxed), std::memory_order_relaxed);
    to.mapped.store(from.mapped.load(std::memory_order_relaxed), std::memory_order_relaxed);
    to.pinned.store(from.pinned.load(std::memory_order_relaxed), std::memory_order_relaxed);
  }
  {
    const std::lock_guard lock{devices_lock_};
    std::swap(devices_, larger);
  }
  return true;  // the old ones are given back without the lock
}

Result Consumers::add_device(SourceId source, bool bypasses) noexcept {
  std::uint32_t index = index_of(source);
  if (index == nobody) {
    if (!make_room()) return Result::no_memory;
    index = 0;
    while (index < device_count_ && devices_[index].known) ++index;
    const std::lock_guard lock{devices_lock_};
    device_count_ = std::max(device_count_, index + 1);
    Device& added = devices_[index];
    added.source = source;
    added.withdrawing = false;
    added.known = true;
    added.mapped.store(0, std::memory_order_relaxed);
    added.pinned.store(0, std::memory_order_relaxed);
    any_.store(true, std::memory_order_release);
  }
  Device& device = devices_[index];
  device.bypassed = bypasses;
  if (device.withdrawing) return Result::ok;
  const Content now = content_of(device);
  const bool has_consumers =
      std::ranges::any_of(slots_, [&](const Slot& slot) { return slot.id != 0 && slot.device == index; });
  if (has_consumers) {
    reconsider(index, false);
    return Result::ok;
  }
  device.content = device.target = now;
  device.seen.store(now.view, std::memory_order_release);
  return Result::ok;
}

void Consumers::remove_device(SourceId source) noexcept {
  const std::uint32_t index = index_of(source);
  if (index == nobody) return;
  for_each_of(index, [&](Slot& slot) {
    if (slot.shares) {
      end_sharing(slot, true);
    } else if (slot.replayed) {
      slot.mirror->aim({View::blocked, {}});
      Slice all{~std::uint32_t{0}};
      slot.mirror->advance(tables(), all);
    }
    slot.clear();
    --slot_count_;
  });
  const std::lock_guard lock{devices_lock_};
  devices_[index].known = false;
}

bool Consumers::bypasses(SourceId source) const noexcept {
  const std::uint32_t index = index_of(source);
  return index != nobody && devices_[index].bypassed;
}

Result Consumers::renumber(std::uint8_t from, std::uint8_t to) noexcept {
  if (from == to) return Result::ok;
  for (std::uint32_t i = 0; i < device_count_; ++i)
    if (devices_[i].known && devices_[i].source.bus() == to) return Result::exists;
  for (std::uint32_t i = 0; i < device_count_; ++i) {
    Device& device = devices_[i];
    if (!device.known || device.source.bus() != from) continue;
    {
      const std::lock_guard lock{devices_lock_};
      device.source = {static_cast<std::uint16_t>(to << 8 | device.source.devfn())};
    }
    for_each_of(i, [&](Slot& slot) { slot.mirror->rename(device.source); });
    spaces_.for_each([&](Space& space) {
      if (slots_[space.teller].device == i) space.mirror().rename(device.source);
    });
    reconsider(i, false);
  }
  return Result::ok;
}

std::optional<View> Consumers::view(SourceId source) const noexcept {
  const std::lock_guard lock{devices_lock_};
  const std::uint32_t index = index_of(source);
  if (index == nobody) return std::nullopt;
  return devices_[index].seen.load(std::memory_order_acquire);
}

Bytes Consumers::bytes_of(SourceId source) const noexcept {
  const std::lock_guard lock{devices_lock_};
  const std::uint32_t index = index_of(source);
  if (index == nobody) return {};
  const Device& device = devices_[index];
  return {device.mapped.load(std::memory_order_relaxed), device.pinned.load(std::memory_order_relaxed)};
}

// ---- Subscriptions ----

Result Consumers::subscribe(SourceId source, const Subscription& wanted, std::uint64_t& id) noexcept {
  if (slot_count_ == slots_.size()) return Result::limit;
  if (index_of(source) == nobody)
    if (const Result added = add_device(source, false); added != Result::ok) return added;
  Slot* const slot = std::ranges::find_if(slots_, [](const Slot& s) { return s.id == 0; });
  slot->id = ++ids_;
  slot->device = index_of(source);
  slot->replayed = false;
  slot->shares = wanted.declared.shares;
  slot->key = {wanted.group, wanted.facts, wanted.range, wanted.declared, wanted.quota};
  slot->sink = wanted.sink;
  slot->mirror =
      &slot->room.emplace(host_.allocator(), wanted.sink, source, wanted.declared, wanted.range, wanted.quota);
  slot->mirror->limit(front_end_.last_address);
  ++slot_count_;
  id = slot->id;
  return Result::ok;
}

Consumers::Slot* Consumers::slot_of(std::uint64_t id) noexcept {
  Slot* const slot = std::ranges::find_if(slots_, [&](const Slot& s) { return id != 0 && s.id == id; });
  return slot == slots_.end() ? nullptr : slot;
}

Mirror* Consumers::find(std::uint64_t id) noexcept {
  Slot* const slot = slot_of(id);
  if (slot == nullptr) return nullptr;
  return slot->space != nullptr ? &slot->held() : &slot->current();
}

Result Consumers::replay(std::uint64_t id) noexcept {
  Slot* const slot = slot_of(id);
  if (slot == nullptr) return Result::not_found;
  if (!slot->mirror->declared().map || slot->replayed) return Result::ok;
  slot->replayed = true;
  const Device& device = devices_[slot->device];
  if (!device.withdrawing) aim(*slot, device.content);
  Slice slice{slice_tables};
  advance(*slot, slice);
  refresh_view(slot->device);
  return Result::ok;
}

Result Consumers::unsubscribe(std::uint64_t id) noexcept {
  Slot* const slot = slot_of(id);
  if (slot == nullptr) return Result::not_found;
  const std::uint32_t device = slot->device;
  if (slot->shares) end_sharing(*slot, false);
  slot->clear();
  --slot_count_;
  refresh_view(device);
  return Result::ok;
}

std::uint64_t Consumers::pinned_bytes() const noexcept {
  std::uint64_t bytes = 0;
  for (const Slot& slot : slots_)
    if (slot.id != 0) bytes += slot.mirror->figures().bytes;
  spaces_.for_each([&](const Space& space) { bytes += space.mirror().figures().bytes; });
  return bytes;
}

// ---- What happens ----

void Consumers::mode_changed() noexcept {
  for (std::uint32_t i = 0; i < device_count_; ++i) {
    if (!devices_[i].known) continue;
    reconsider(i, true);
    // Whoever only hears of what goes, hears that all has gone.
    for_each_of(i, [](Slot& slot) { slot.mirror->tell_unmapped(all_iovas); });
  }
}

void Consumers::dropped(const caches::Scope& scope) noexcept {
  using Kind = caches::Scope::Kind;
  if (const std::optional pages = caches::page_scope_of(scope)) return pages_dropped({&*pages, 1});
  for (std::uint32_t i = 0; i < device_count_; ++i) {
    Device& device = devices_[i];
    if (!device.known) continue;
    const bool translated = device.content.view == View::translated;
    if (scope.kind == Kind::everything) continue;  // mode_changed() says it, or nothing has changed
    if (scope.kind == Kind::translations) {
      if (!front_end_.announces && !translated) reconsider(i, false);
      if (device.content.view != View::translated) continue;
      for_each_of(i, [&](Slot& slot) {
        slot.mirror->tell_unmapped(all_iovas);
        if (slot.replayed) slot.current().touch_all();
      });
      continue;
    }
    const caches::AddressSpaceKey& key = device.content.key;
    bool named = true;
    switch (scope.kind) {
      case Kind::source_contexts: named = scope.names(device.source); break;
      // A context of scalable mode names no domain, nor does one that is not there.
      case Kind::domain_contexts:
      case Kind::domain_pasids:   named = !translated || key.domain == scope.domain || key.pasid.has_value(); break;
      case Kind::pasid:           named = !translated || key.pasid == scope.pasid; break;
      default:                    break;
    }
    if (!named) continue;
    reconsider(i, false);
    for_each_of(i, [](Slot& slot) { slot.mirror->tell_unmapped(all_iovas); });
  }
  if (scope.kind == Kind::translations) advance_side_by_side();
}

template <class Named>
void Consumers::advance_in_turns(const Named& named) noexcept {
  const auto for_each_busy = [&](const auto& use) {
    for (Slot& slot : slots_)
      if (slot.id != 0 && slot.replayed && named(slot) && slot.current().busy()) use(slot.current());
  };
  std::uint32_t several = 0;
  for_each_busy([&](const Mirror&) { ++several; });
  const std::uint32_t turn = several > 1 ? turn_tables : slice_tables;
  for (std::uint32_t turns = slice_tables / turn; several != 0 && turns > 0; --turns) {
    several = 0;
    for_each_busy([&](Mirror& mirror) {
      Slice slice{turn};
      mirror.advance(tables(), slice);
      several += mirror.busy() ? 1U : 0U;
    });
  }
  if (several != 0) busy_.store(true, std::memory_order_relaxed);
}

std::uint32_t Consumers::apart(const Slot& slot) const noexcept {
  constexpr std::uint32_t sharing = 1U << 17;
  constexpr std::uint32_t alone = 1U << 16;
  if (slot.shares) return sharing;
  const Content& content = devices_[slot.device].content;
  if (content.view == View::translated) return content.key.domain.value;
  return alone + number_of(slot) % alone;
}

void Consumers::advance_side_by_side() noexcept {
  std::array<std::uint32_t, most_tasks> tasks{};
  std::uint32_t count = 0;
  for (Slot& slot : slots_) {
    if (slot.id == 0 || !slot.replayed || !slot.current().busy()) continue;
    const std::uint32_t task = apart(slot);
    if (count < most_tasks && std::find(tasks.begin(), tasks.begin() + count, task) == tasks.begin() + count)
      tasks[count++] = task;
  }
  if (count == 0) return;
  const auto run = [&](std::uint32_t i) {
    advance_in_turns([this, task = tasks[i]](const Slot& slot) { return apart(slot) == task; });
  };
  if (count == 1)
    run(0);
  else
    host_.execute(count, run);
  // Of those that were too many, too: they go on next time.
  for (std::uint32_t i = 0; i < device_count_; ++i) {
    if (!devices_[i].known) continue;
    if (busy_device(i)) busy_.store(true, std::memory_order_relaxed);
    refresh_view(i);
  }
}

void Consumers::pages_dropped(std::span<const caches::PageScope> scopes) noexcept {
  if (!any_.load(std::memory_order_acquire)) return;
  const auto named = [&](const Device& device) {
    return device.content.view == View::translated && device.content.key.domain == scopes.front().domain;
  };
  for (std::uint32_t i = 0; i < device_count_; ++i) {
    const Device& device = devices_[i];
    if (!device.known) continue;
    // A context may have come without a word.
    if (!front_end_.announces && device.content.view == View::blocked) {
      context_seen_.store(true, std::memory_order_release);
      busy_.store(true, std::memory_order_relaxed);
    }
    if (!named(device)) continue;
    for_each_of(i, [&](Slot& slot) {
      for (const caches::PageScope& scope : scopes) {
        if (scope.by_pasid && device.content.key.pasid != scope.pasid) continue;
        slot.mirror->tell_unmapped(scope.range);
        if (slot.replayed) slot.current().touch(scope.range);
      }
    });
  }
  advance_in_turns([&](const Slot& slot) { return named(devices_[slot.device]); });
  for (std::uint32_t i = 0; i < device_count_; ++i)
    if (devices_[i].known && named(devices_[i])) refresh_view(i);
}

bool Consumers::mappings_changed(DomainId domain, IovaRange range, bool gone) noexcept {
  if (slot_count_ == 0) return true;
  const auto named = [&](const Content& content) {
    return content.view == View::translated && content.key.interpretation == caches::Interpretation::mappings &&
           content.key.domain == domain;
  };
  const bool undo = std::exchange(undo_, std::nullopt) == domain;
  bool held = true;
  // Where one has refused, the others need not hear of it; what is to be as it was is asked of all.
  const auto change = [&](Mirror& mirror) {
    if (held || undo) held &= mirror.change(range, tables(), undo);
  };
  for (Slot& slot : slots_)
    if (slot.id != 0 && slot.replayed && !slot.shares && named(devices_[slot.device].content)) change(*slot.mirror);
  spaces_.for_each([&](Space& space) {
    if (space.members != 0 && named(space.content)) change(space.mirror());
  });
  for (Slot& slot : slots_) {
    if (slot.id == 0 || !gone || !held || undo || !named(devices_[slot.device].content)) continue;
    const std::uint64_t failures = slot.mirror->figures().told.failures;
    slot.mirror->tell_unmapped(range);
    held &= slot.mirror->figures().told.failures == failures;
  }
  if (!held && !undo) undo_ = domain;
  for (std::uint32_t i = 0; i < device_count_; ++i)
    if (devices_[i].known && named(devices_[i].content)) refresh_view(i);
  return held;
}

void Consumers::device_tlb_dropped(SourceId source, IovaRange range) noexcept {
  const std::uint32_t index = index_of(source);
  if (index != nobody) for_each_of(index, [&](Slot& slot) { slot.mirror->tell_device_unmapped(range); });
}

void Consumers::track_writes(bool on) noexcept {
  tracking_ = on;
  for (Slot& slot : slots_) {
    if (slot.id == 0) continue;
    slot.mirror->tell_unmapped(all_iovas);
    const Device& device = devices_[slot.device];
    if (!slot.mirror->declared().logs && !device.withdrawing) aim(slot, device.content);
    Slice slice{slice_tables};
    advance(slot, slice);
    refresh_view(slot.device);
  }
}

void Consumers::aim(Slot& slot, const Content& content) noexcept {
  if (!slot.replayed) return;
  if (slot.shares)
    share(slot, content);
  else
    slot.mirror->aim(logged(content, slot.mirror->declared()));
}

void Consumers::context_seen() noexcept {
  if (!any_.load(std::memory_order_acquire) || context_seen_.exchange(true, std::memory_order_acq_rel)) return;
  host_.wake();
}

std::uint64_t Consumers::regions_told() noexcept {
  const std::uint64_t version = waist_.regions_version();
  if (version != regions_seen_) {
    regions_seen_ = version;
    for (Slot& slot : slots_) {
      if (slot.id == 0 || !slot.replayed) continue;
      slot.held().regions_changed();
      slot.current().regions_changed();
      busy_.store(true, std::memory_order_relaxed);
    }
    advance();
  }
  if (!busy()) regions_told_ = regions_seen_;
  return regions_told_;
}

// ---- Views ----

void Consumers::reconsider(std::uint32_t index, bool whole_range) noexcept {
  Device& device = devices_[index];
  const Content now = content_of(device);
  // Another root table, or translation off and on: all goes, even what comes back.
  const bool all_goes = whole_range && device.content.view == View::translated;
  const bool tables_to_tables =
      front_end_.moves_in_place && !all_goes && device.content.view == View::translated && now.view == View::translated;
  if (!device.withdrawing && device.content == now && !all_goes) {
    // The tables may not be what they were; and what failed is tried again.
    for_each_of(index, [&](Slot& slot) { aim(slot, now); });
  } else {
    device.target = now;
    if (!tables_to_tables && (!device.withdrawing || all_goes)) {
      for_each_of(index, [&](Slot& slot) {
        if (!slot.replayed) return;
        if (slot.shares) return static_cast<void>(change_alone(slot, {View::blocked, {}}));
        // One event for all of it does not say which pages it was about.
        if (all_goes && !tracking_) static_cast<void>(slot.mirror->withdraw_whole_range());
        slot.mirror->aim({View::blocked, {}});
      });
    }
    device.in_place = tables_to_tables && (!device.withdrawing || device.in_place);
    device.withdrawing = true;
  }
  settle(index);
}

bool Consumers::busy_device(std::uint32_t index) const noexcept {
  return std::ranges::any_of(slots_,
                             [&](const Slot& slot) { return slot.id != 0 && slot.device == index && slot.busy(); });
}

bool Consumers::withdrawing(std::uint32_t index) const noexcept {
  return std::ranges::any_of(slots_, [&](const Slot& slot) {
    return slot.id != 0 && slot.device == index && slot.next == nullptr && slot.held().busy();
  });
}

void Consumers::settle(std::uint32_t index) noexcept {
  Device& device = devices_[index];
  Slice slice{slice_tables};
  const auto go_on = [&](Slot& slot) { advance(slot, slice); };
  if (device.withdrawing) {
    if (!device.in_place) for_each_of(index, go_on);
    if (!device.in_place && withdrawing(index)) {
      busy_.store(true, std::memory_order_relaxed);
      return;
    }
    device.withdrawing = false;
    device.content = device.target;
    refresh_view(index);
    for_each_of(index, [&](Slot& slot) { aim(slot, device.content); });
  }
  for_each_of(index, go_on);
  refresh_view(index);
  // Whether a shared space could hold what it should concerns all that use it.
  for_each_of(index, [&](Slot& slot) {
    if (slot.space == nullptr) return;
    for (const Slot& other : slots_)
      if (other.space == slot.space && other.device != index) refresh_view(other.device);
  });
}

void Consumers::refresh_view(std::uint32_t index) noexcept {
  Device& device = devices_[index];
  bool gave_up = false;
  std::uint64_t mapped = 0;
  std::uint64_t pinned = 0;
  for_each_of(index, [&](Slot& slot) {
    gave_up |= slot.current().gave_up();
    const std::uint64_t bytes = slot.held().figures().bytes;
    mapped += bytes;
    const bool tells = slot.space == nullptr || &slots_[slot.space->teller] == &slot;
    pinned += tells ? bytes : 0;
  });
  device.mapped.store(mapped, std::memory_order_relaxed);
  device.pinned.store(pinned, std::memory_order_relaxed);
  const View now = gave_up ? View::blocked : device.content.view;
  if (device.seen.exchange(now, std::memory_order_acq_rel) != now)
    host_.view_changed(device.source, static_cast<std::uint32_t>(now));
}

void Consumers::advance(Slot& slot, Slice& slice) noexcept {
  Mirror& mirror = slot.current();
  if (mirror.busy()) mirror.advance(tables(), slice);
  if (mirror.busy())
    busy_.store(true, std::memory_order_relaxed);
  else if (slot.next != nullptr)
    go_over(slot);
}

bool Consumers::advance() noexcept {
  if (context_seen_.exchange(false, std::memory_order_acq_rel)) {
    for (std::uint32_t i = 0; i < device_count_; ++i) {
      if (!devices_[i].known || devices_[i].content.view != View::blocked) continue;
      reconsider(i, false);
      // Whoever asks on each miss may have been answered through it, and was not told of what went since.
      if (devices_[i].content.view != View::blocked || devices_[i].withdrawing)
        for_each_of(i, [](Slot& slot) { slot.mirror->tell_unmapped(all_iovas); });
    }
  }
  if (!busy_.exchange(false, std::memory_order_relaxed)) return true;
  advance_side_by_side();
  for (std::uint32_t i = 0; i < device_count_; ++i)
    if (devices_[i].known && (devices_[i].withdrawing || busy_device(i))) settle(i);
  Slice slice{slice_tables};
  spaces_.for_each([&](Space& space) { empty(space, slice); });
  return !busy();
}

}  // namespace viommu::consumer
