// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/vtd/device_tlbs.hpp"

#include <algorithm>

namespace viommu::vtd {

bool DeviceTlbs::add(const Invalidation& invalidation) noexcept {
  if (!host_.has_device_tlbs()) return true;
  const auto place = std::ranges::find_if(
      places_, [](const Place& each) { return state_of(each.word.load(std::memory_order_relaxed)) == State::free; });
  if (place == places_.end() || function_is_busy(invalidation)) return false;
  if (!epoch_) epoch_ = waist_.ticket({}).epoch;
  place->invalidation = invalidation;
  place->number = ++issued_;
  place->epoch = *epoch_;
  const std::uint64_t generation = generation_of(place->word.load(std::memory_order_relaxed));
  place->word.store(in_state(generation << 32 | std::uint64_t{invalidation.what.source.value} << 16, State::queued),
                    std::memory_order_relaxed);
  queued_[(first_queued_ + queued_count_++) % most_open] = static_cast<std::uint8_t>(place - places_.begin());
  open_.fetch_add(1, std::memory_order_relaxed);
  return true;
}

bool DeviceTlbs::function_is_busy(const Invalidation& invalidation) const noexcept {
  constexpr unsigned all_tags = 32;
  const SourceId function = function_of(invalidation);
  const unsigned most = invalidation.max_pending == 0 ? all_tags : invalidation.max_pending;
  return std::ranges::count_if(places_, [&](const Place& each) {
           return state_of(each.word.load(std::memory_order_relaxed)) != State::free &&
                  function_of(each.invalidation) == function;
         }) >= most;
}

bool DeviceTlbs::older_guards_are_gone(std::uint64_t epoch) noexcept {
  if (epoch <= drained_epoch_) return true;
  if (!waist_.drained({epoch, {}})) return false;
  drained_epoch_ = epoch;
  return true;
}

bool DeviceTlbs::ask_next() noexcept {
  const std::size_t index = queued_[first_queued_];
  Place& place = places_[index];
  if (!older_guards_are_gone(place.epoch)) return false;
  first_queued_ = (first_queued_ + 1) % most_open;
  --queued_count_;
  place.deadline_ns = never;
  if (host_.has_clock()) {
    const std::uint64_t now_ns = host_.now_ns();
    place.deadline_ns = now_ns + std::min(timeout_ns_, never - now_ns);
  }
  std::uint64_t asked = in_state(place.word.load(std::memory_order_relaxed), State::asked);
  place.word.store(asked, std::memory_order_release);  // before the call: another thread may answer during it
  const std::int32_t said = host_.device_invalidate(handle_of(index, asked), place.invalidation.what);
  if (said > 0) return true;
  // Lost when another thread has answered already, which counts as much.
  place.word.compare_exchange_strong(asked, in_state(asked, said == 0 ? State::answered : State::timed_out),
                                     std::memory_order_acq_rel);
  return true;
}

std::optional<SourceId> DeviceTlbs::advance() noexcept {
  if (!any_open()) return std::nullopt;
  while (queued_count_ != 0 && ask_next()) {
  }
  const std::uint64_t now_ns = host_.now_ns();
  std::uint64_t next_deadline_ns = never;
  const Place* late = nullptr;
  std::uint64_t late_number = never;
  for (Place& place : places_) {
    std::uint64_t word = place.word.load(std::memory_order_acquire);
    if (state_of(word) == State::asked) {
      const bool is_late = place.deadline_ns != never && now_ns >= place.deadline_ns;
      if (!is_late) next_deadline_ns = std::min(next_deadline_ns, place.deadline_ns);
      if (!is_late ||
          !place.word.compare_exchange_strong(word, in_state(word, State::timed_out), std::memory_order_acq_rel))
        continue;  // what was answered at the last moment is taken in next time
      word = in_state(word, State::timed_out);
    }
    if (state_of(word) == State::timed_out) {
      timeouts_.fetch_add(1, std::memory_order_relaxed);
      if (place.number < late_number) {
        late = &place;
        late_number = place.number;
      }
    }
    if (state_of(word) == State::timed_out || state_of(word) == State::answered) release(place);
  }
  deadline_ns_.store(next_deadline_ns, std::memory_order_relaxed);
  if (late == nullptr) return std::nullopt;
  return late->invalidation.what.source;
}

bool DeviceTlbs::answered_up_to(std::uint64_t number) const noexcept {
  return !any_open() || std::ranges::none_of(places_, [number](const Place& place) {
    return state_of(place.word.load(std::memory_order_relaxed)) != State::free && place.number <= number;
  });
}

void DeviceTlbs::release(Place& place) noexcept {
  const std::uint64_t next = generation_of(place.word.load(std::memory_order_relaxed)) + 1;
  place.word.store(in_state(next << 32, State::free), std::memory_order_release);
  open_.fetch_sub(1, std::memory_order_relaxed);
}

std::size_t DeviceTlbs::describe(std::array<DeviceInvalidationSeen, most_open>& seen) const noexcept {
  std::size_t count = 0;
  for (std::size_t index = 0; index < places_.size(); ++index) {
    const Place& place = places_[index];
    const std::uint64_t word = place.word.load(std::memory_order_relaxed);
    if (state_of(word) != State::queued && state_of(word) != State::asked) continue;
    const bool asked = state_of(word) == State::asked;
    seen[count++] = {place.number, asked ? handle_of(index, word) : 0, place.invalidation.what,
                     asked ? place.deadline_ns : never};
  }
  std::sort(seen.begin(), seen.begin() + count, [](const auto& a, const auto& b) { return a.number < b.number; });
  return count;
}

void DeviceTlbs::forget() noexcept {
  for (Place& place : places_)
    if (state_of(place.word.load(std::memory_order_relaxed)) != State::free) release(place);
  queued_count_ = 0;
  deadline_ns_.store(never, std::memory_order_relaxed);
}

std::optional<std::uint64_t> DeviceTlbs::asked_word(std::uint64_t handle) const noexcept {
  const std::uint64_t index = (handle & low_bits(32)) - 1;
  if (index >= most_open) return std::nullopt;
  const std::uint64_t word = places_[index].word.load(std::memory_order_acquire);
  if (state_of(word) != State::asked || handle_of(index, word) != handle) return std::nullopt;
  return word;
}

bool DeviceTlbs::answer(std::uint64_t handle, Answer answer) noexcept {
  const std::optional asked = asked_word(handle);
  if (!asked) return false;
  const std::uint64_t index = (handle & low_bits(32)) - 1;
  std::uint64_t expected = *asked;
  const State state = answer == Answer::done ? State::answered : State::timed_out;
  return places_[index].word.compare_exchange_strong(expected, in_state(*asked, state), std::memory_order_acq_rel);
}

std::optional<SourceId> DeviceTlbs::source_of(std::uint64_t handle) const noexcept {
  const std::optional word = asked_word(handle);
  if (!word) return std::nullopt;
  return SourceId{static_cast<std::uint16_t>(*word >> 16)};
}

}  // namespace viommu::vtd
