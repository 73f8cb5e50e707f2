// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/consumer/delivery.hpp"

#include "engine/core/callback.hpp"

#include <array>
#include <utility>

namespace viommu::consumer {
namespace {

/// Whether `next` goes on where `event` ends, alike in all.
[[nodiscard]] bool goes_on(const Event& event, const Event& next) noexcept {
  if (event.kind != next.kind || event.rights != next.rights || event.last + 1 != next.iova || next.iova == 0)
    return false;
  const std::uint64_t length = event.last - event.iova + 1;
  if ((event.gpa == no_gpa) != (next.gpa == no_gpa)) return false;
  if (event.gpa != no_gpa && event.gpa + length != next.gpa) return false;
  if (event.hva == nullptr || next.hva == nullptr) return event.hva == next.hva;
  return static_cast<std::byte*>(event.hva) + length == next.hva;
}

/// Whether both make up one aligned power of two. `next` goes on where `event` ends, and each of them is one.
[[nodiscard]] bool are_halves(const Event& event, const Event& next) noexcept {
  return event.last - event.iova == next.last - next.iova && (event.iova ^ next.iova) == next.last - next.iova + 1;
}

/// By the signs of all, in four parts: each event comes to a load and an OR that wait for no branch.
[[nodiscard]] bool any_failed(std::span<const Event> events) noexcept {
  constexpr std::size_t parts = 4;
  std::array<std::int32_t, parts> signs{};
  std::size_t i = 0;
  for (; i + parts <= events.size(); i += parts)
    for (std::size_t k = 0; k < parts; ++k) signs[k] |= events[i + k].status;
  for (; i < events.size(); ++i) signs[0] |= events[i].status;
  return (signs[0] | signs[1] | signs[2] | signs[3]) < 0;
}

}  // namespace

bool Delivery::extend_map(IovaRange range, Gpa gpa, std::byte* host, std::uint8_t rights) noexcept {
  if (count_ == 0) return false;
  const Event next{range.first.value, range.last.value, gpa.value, host, EventKind::map, rights};
  if (!goes_on(events_[count_ - 1], next)) return false;
  events_[count_ - 1].last = next.last;
  return true;
}

void Delivery::put_pieces(Event event) noexcept {
  if (!powers_of_two_) return put(event);
  const Event whole = event;
  for_each_power_of_two({{whole.iova}, {whole.last}}, [&](std::uint64_t first, std::uint64_t last) {
    const std::uint64_t inside = first - whole.iova;
    event.iova = first;
    event.last = last;
    if (whole.gpa != no_gpa) event.gpa = whole.gpa + inside;
    if (whole.hva != nullptr) event.hva = static_cast<std::byte*>(whole.hva) + inside;
    put(event);
  });
}

void Delivery::put(Event next) noexcept {
  // Powers of two go together as a binary counter carries: two halves are one that may be half of the next.
  while (merge_ && count_ != 0) {
    const Event& before = events_[count_ - 1];
    if (!goes_on(before, next) || (powers_of_two_ && !are_halves(before, next))) break;
    next.iova = before.iova;
    next.gpa = before.gpa;
    next.hva = before.hva;
    --count_;
    if (next.kind == EventKind::map) --map_count_;
  }
  if (count_ == batch) flush();
  events_.put(count_++, next);
  if (next.kind == EventKind::map) ++map_count_;
}

void Delivery::report(Reported what, const Event& event) noexcept {
  if (what != Reported::failed) ++told_.left_out;
  if (sink_.report == nullptr) return;
  const core::CallbackScope scope{sink_.engine};
  sink_.report(sink_, what, source_, event);
}

void Delivery::flush() noexcept {
  if (count_ == 0) return;
  const std::size_t count = std::exchange(count_, 0);
  const std::size_t maps = std::exchange(map_count_, 0);
  told_.maps += maps;
  told_.unmaps += count - maps;
  {
    const core::CallbackScope scope{sink_.engine};
    sink_.events(sink_, events_.data(), static_cast<std::uint32_t>(count));
  }
  if (!any_failed({events_.data(), count})) return;
  for (std::size_t i = 0; i < count; ++i) {
    if (events_[i].status >= 0) continue;
    ++told_.failures;
    // Room for every event of a batch: whoever puts more in has taken these before (failed()).
    if (failure_count_ < most_failures) failures_.put(failure_count_++, events_[i]);
    report(Reported::failed, events_[i]);
  }
}

}  // namespace viommu::consumer
