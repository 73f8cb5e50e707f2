// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/vhost/feeder.hpp"

#include <algorithm>
#include <new>
#include <optional>

#include "engine/vhost/sized.hpp"

namespace viommu::vhost {
namespace {

constexpr std::uint32_t every_flag = VIOMMU_VHOST_DEVICE_TLB | VIOMMU_VHOST_BATCH | VIOMMU_VHOST_TELL_FAIL;
constexpr std::uint32_t every_right = VIOMMU_READ | VIOMMU_WRITE;

template <class Number>
void take_default(Number& number, Number otherwise) noexcept {
  if (number == 0) number = otherwise;
}

[[nodiscard]] bool complete(viommu_vhost_options& options) noexcept {
  constexpr std::uint64_t usual_window = std::uint64_t{1} << 30;
  constexpr std::uint64_t widest_window = std::uint64_t{1} << 40;
  constexpr std::uint32_t most_ahead = 60;
  constexpr std::uint32_t most_readers = 64;
  take_default(options.window, usual_window);
  take_default(options.readers, 2U);
  const bool second_form = options.form == VIOMMU_VHOST_V2;
  return options.send != nullptr && (options.window & (options.window - 1)) == 0 && options.window >= page_bytes &&
         options.window <= widest_window && options.ahead <= most_ahead && (options.flags & ~every_flag) == 0 &&
         options.form <= VIOMMU_VHOST_V2 && (second_form || options.asid == 0) &&
         (second_form || (options.flags & VIOMMU_VHOST_BATCH) == 0) && options.readers <= most_readers &&
         options.reserved == 0;
}

}  // namespace

// ---- Beginning and end ----

Feeder::~Feeder() {
  if (places_ == nullptr) return;
  for (std::uint32_t i = 0; i < options_.readers; ++i) viommu_reader_destroy(places_[i].reader);
}

viommu_result Feeder::begin(viommu_refusal* refusal) {
  places_.reset(new (std::nothrow) Place[options_.readers]);
  if (places_ == nullptr) return VIOMMU_E_MEMORY;
  for (std::uint32_t i = 0; i < options_.readers; ++i)
    if (const viommu_result made = viommu_reader_create(engine_, &places_[i].reader); made != VIOMMU_OK) return made;
  viommu_consumer consumer{};
  consumer.size = sizeof consumer;
  consumer.opaque = this;
  consumer.notify = VIOMMU_EVENT_UNMAP;
  if ((options_.flags & VIOMMU_VHOST_DEVICE_TLB) != 0) consumer.notify |= VIOMMU_EVENT_DEVICE_UNMAP;
  consumer.last = top_address;
  consumer.events = on_events;
  return viommu_subscribe(engine_, options_.source, &consumer, refusal, &subscription_);
}

viommu_result Feeder::end() noexcept {
  if (subscription_ == 0) return VIOMMU_OK;
  const viommu_result ended = viommu_unsubscribe(engine_, subscription_);
  // It may have gone with its device.
  if (ended != VIOMMU_OK && ended != VIOMMU_E_NOT_FOUND) return ended;
  subscription_ = 0;
  return VIOMMU_OK;
}

// ---- Misses ----

Feeder::Place* Feeder::take_place() noexcept {
  for (std::uint32_t i = 0; i < options_.readers; ++i)
    if (!places_[i].used.exchange(true, std::memory_order_acquire)) return &places_[i];
  return nullptr;
}

viommu_result Feeder::miss(const Range& missed, std::uint8_t access) {
  Place* const place = take_place();
  if (place == nullptr) return VIOMMU_E_BUSY;
  misses_.fetch_add(1, std::memory_order_relaxed);
  viommu_result result = VIOMMU_E_BUSY;
  bool reported = true;  // a fault is, once, however often it is looked for
  for (unsigned attempt = 0; attempt < most_attempts; ++attempt) {
    const std::uint64_t stamp = outbox_.stamp();
    Answer answer;
    look(place->reader, missed, access, reported, answer);
    const bool blocked = answer.count == 0;
    if (blocked) reported = false;
    std::size_t from = 1;
    std::size_t to = from + answer.count;
    if (blocked) {
      answer.ranges[0] = missed;
      if ((options_.flags & VIOMMU_VHOST_TELL_FAIL) != 0) {
        answer.messages[to] = message_of(VIOMMU_VHOST_ACCESS_FAIL, missed);
        answer.messages[to++].access = access;
      }
    } else if (batches() && answer.count > 1) {
      answer.messages[--from] = message_of(VIOMMU_VHOST_BATCH_BEGIN, {});
      answer.messages[to++] = message_of(VIOMMU_VHOST_BATCH_END, {});
    }
    const std::span ranges{answer.ranges.data(), blocked ? 1 : answer.count};
    if (!outbox_.post(stamp, ranges, std::span{answer.messages}.subspan(from, to - from))) {
      overtaken_.fetch_add(1, std::memory_order_relaxed);
      continue;
    }
    if (blocked) faults_.fetch_add(1, std::memory_order_relaxed);
    result = blocked ? VIOMMU_E_FAULT : VIOMMU_OK;
    break;
  }
  place->used.store(false, std::memory_order_release);
  return result;
}

void Feeder::look(viommu_reader* reader, const Range& missed, std::uint8_t access, bool reported,
                  Answer& answer) const {
  const Lookout lookout{engine_, reader, options_.source};
  std::uint32_t ahead = 0;
  for (std::uint64_t at = missed.first; answer.count < most_updates;) {  // ends: `at` grows
    const bool asked = at <= missed.last;
    if (!asked && ahead++ == options_.ahead) return;
    // What nobody has asked for yet leaves no trace.
    if (!add_run(lookout, at, asked ? access : std::uint8_t{VIOMMU_READ}, reported && at == missed.first, answer))
      return;
    const std::uint64_t last = answer.ranges[answer.count - 1].last;
    const std::uint64_t window_last = missed.first | (options_.window - 1);
    if (last == top_address || (last >= missed.last && last >= window_last)) return;
    at = last + 1;
  }
}

bool Feeder::add_run(const Lookout& lookout, std::uint64_t at, std::uint8_t access, bool reported,
                     Answer& answer) const {
  std::optional<Run> run = lookout.at(at, access, reported);
  if (!run) return false;
  const std::uint64_t gpa = run->gpa + (at - run->range.first);
  viommu_region region{};
  std::uint64_t user = gpa;
  std::uint8_t rights = run->rights & every_right;
  Range limits{at & ~(options_.window - 1), at | (options_.window - 1)};
  if (options_.memory != nullptr) {
    if (options_.memory(options_.opaque, gpa, &region) != 0 || region.hva == nullptr || region.length == 0 ||
        (region.flags & (VIOMMU_REGION_UNMAPPED | VIOMMU_REGION_MMIO)) != 0 || gpa < region.gpa ||
        gpa - region.gpa > region.length - 1)
      return false;
    if ((region.flags & VIOMMU_REGION_READ_ONLY) != 0) rights &= static_cast<std::uint8_t>(~VIOMMU_WRITE);
    const std::uint64_t before = gpa - region.gpa;
    const std::uint64_t behind = region.length - 1 - before;
    user = reinterpret_cast<std::uintptr_t>(region.hva) + before;
    if (wraps(reinterpret_cast<std::uintptr_t>(region.hva), region.length - 1)) return false;
    if (at - limits.first > before) limits.first = at - before;
    if (limits.last - at > behind) limits.last = at + behind;
  }
  if ((access & ~rights) != 0) return false;
  // Runs of one answer do not overlap: this one begins where the one before it has ended.
  if (answer.count != 0 && answer.ranges[answer.count - 1].last < at)
    limits.first = std::max(limits.first, answer.ranges[answer.count - 1].last + 1);
  if (run->range.first < limits.first) {
    run->gpa += limits.first - run->range.first;
    run->range.first = limits.first;
  }
  run->range.last = std::min(run->range.last, limits.last);
  lookout.widen(*run, limits);
  viommu_vhost_message& message = answer.messages[1 + answer.count];
  message = message_of(VIOMMU_VHOST_UPDATE, run->range);
  message.uaddr = user - (at - run->range.first);
  message.access = rights;
  answer.ranges[answer.count++] = run->range;
  return true;
}

viommu_result Feeder::message(const void* bytes, std::size_t length) {
  viommu_vhost_message read{};
  if (const viommu_result result = viommu_vhost_message_read(options_.form, bytes, length, &read); result != VIOMMU_OK)
    return result;
  if (read.type != VIOMMU_VHOST_MISS || read.asid != options_.asid) return VIOMMU_E_ARGUMENT;
  return miss({read.iova, read.last}, read.access);
}

// ---- Invalidations ----

void Feeder::on_events(void* opaque, viommu_event* events, std::uint32_t count) {
  auto& feeder = *static_cast<Feeder*>(opaque);
  for (std::uint32_t i = 0; i < count;) {
    Range range{events[i].iova, events[i].last};
    // Those that go on are one.
    for (++i; i < count && range.last != top_address && events[i].iova == range.last + 1; ++i)
      range.last = events[i].last;
    feeder.withdraw(range);
  }
}

void Feeder::withdraw(const Range& range) {
  // No size can say all of 2^64.
  constexpr std::uint64_t half = top_address / 2;
  std::array<viommu_vhost_message, 4> messages;
  std::size_t from = 1;
  std::size_t to = 2;
  if (range == everything) {
    messages[1] = message_of(VIOMMU_VHOST_INVALIDATE, {0, half});
    messages[to++] = message_of(VIOMMU_VHOST_INVALIDATE, {half + 1, top_address});
    if (batches()) {
      messages[--from] = message_of(VIOMMU_VHOST_BATCH_BEGIN, {});
      messages[to++] = message_of(VIOMMU_VHOST_BATCH_END, {});
    }
  } else {
    messages[1] = message_of(VIOMMU_VHOST_INVALIDATE, range);
  }
  outbox_.withdraw(range, std::span{messages}.subspan(from, to - from));
}

// ---- Sending ----

viommu_vhost_message Feeder::message_of(std::uint8_t type, const Range& range) const noexcept {
  viommu_vhost_message message{};
  message.iova = range.first;
  message.last = range.last;
  message.asid = options_.asid;
  message.type = type;
  return message;
}

void Feeder::on_message(void* opaque, const viommu_vhost_message& message) {
  auto& feeder = *static_cast<Feeder*>(opaque);
  std::array<std::byte, VIOMMU_VHOST_MESSAGE_BYTES> bytes;
  std::size_t length = 0;
  if (viommu_vhost_message_write(feeder.options_.form, &message, bytes.data(), bytes.size(), &length) != VIOMMU_OK)
    return;  // does not come here: ranges and user addresses were looked at
  if (message.type == VIOMMU_VHOST_UPDATE) {
    feeder.updates_.fetch_add(1, std::memory_order_relaxed);
    feeder.updated_bytes_.fetch_add(message.last - message.iova + 1, std::memory_order_relaxed);
  }
  if (message.type == VIOMMU_VHOST_INVALIDATE) feeder.invalidations_.fetch_add(1, std::memory_order_relaxed);
  feeder.options_.send(feeder.options_.opaque, bytes.data(), length);
}

viommu_vhost_figures Feeder::figures() const noexcept {
  viommu_vhost_figures now{};
  now.misses = misses_.load(std::memory_order_relaxed);
  now.faults = faults_.load(std::memory_order_relaxed);
  now.updates = updates_.load(std::memory_order_relaxed);
  now.updated_bytes = updated_bytes_.load(std::memory_order_relaxed);
  now.invalidations = invalidations_.load(std::memory_order_relaxed);
  now.overtaken = overtaken_.load(std::memory_order_relaxed);
  return now;
}

}  // namespace viommu::vhost

using namespace viommu::vhost;

namespace {

Feeder& feeder_of(viommu_vhost_feeder* handle) noexcept { return *reinterpret_cast<Feeder*>(handle); }

}  // namespace

extern "C" {

viommu_result viommu_vhost_feeder_create(viommu_engine* engine, const struct viommu_vhost_options* options,
                                         struct viommu_refusal* refusal, viommu_vhost_feeder** feeder) {
  if (engine == nullptr || feeder == nullptr) return VIOMMU_E_ARGUMENT;
  *feeder = nullptr;
  viommu_vhost_options known;
  if (const viommu_result taken = take(options, known); taken != VIOMMU_OK) return taken;
  if (!complete(known)) return VIOMMU_E_ARGUMENT;
  std::unique_ptr<Feeder> made{new (std::nothrow) Feeder{engine, known}};
  if (made == nullptr) return VIOMMU_E_MEMORY;
  if (const viommu_result begun = made->begin(refusal); begun != VIOMMU_OK) return begun;
  *feeder = reinterpret_cast<viommu_vhost_feeder*>(made.release());
  return VIOMMU_OK;
}

viommu_result viommu_vhost_feeder_destroy(viommu_vhost_feeder* feeder) {
  if (feeder == nullptr) return VIOMMU_OK;
  if (const viommu_result ended = feeder_of(feeder).end(); ended != VIOMMU_OK) return ended;
  delete &feeder_of(feeder);
  return VIOMMU_OK;
}

viommu_result viommu_vhost_feeder_miss(viommu_vhost_feeder* feeder, uint64_t first, uint64_t last, uint32_t access) {
  if (feeder == nullptr || last < first || access == 0 || (access & ~every_right) != 0) return VIOMMU_E_ARGUMENT;
  return feeder_of(feeder).miss({first, last}, static_cast<std::uint8_t>(access));
}

viommu_result viommu_vhost_feeder_message(viommu_vhost_feeder* feeder, const void* bytes, size_t length) {
  return feeder == nullptr ? VIOMMU_E_ARGUMENT : feeder_of(feeder).message(bytes, length);
}

viommu_result viommu_vhost_feeder_withdraw(viommu_vhost_feeder* feeder, uint64_t first, uint64_t last) {
  if (feeder == nullptr || last < first) return VIOMMU_E_ARGUMENT;
  feeder_of(feeder).withdraw({first, last});
  return VIOMMU_OK;
}

viommu_result viommu_vhost_figures_get(viommu_vhost_feeder* feeder, struct viommu_vhost_figures* figures) {
  return feeder == nullptr ? VIOMMU_E_ARGUMENT : give(feeder_of(feeder).figures(), figures);
}

}  // extern "C"
