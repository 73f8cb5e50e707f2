// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "tests/qemu/queue.hpp"

#include <array>
#include <cinttypes>
#include <string>
#include <utility>

#include "tests/qemu/guest.hpp"

namespace viommu::qemu {
namespace {

using test::Random;

constexpr std::uint64_t ccmd = 0x28;
constexpr std::uint64_t fsts = 0x34;
constexpr std::uint64_t iqh = 0x80;
constexpr std::uint64_t iqt = 0x88;
constexpr std::uint64_t iqa = 0x90;
constexpr std::uint64_t iva = 0xF0;
constexpr std::uint64_t iotlb = 0xF8;
constexpr std::uint32_t queue_error = 0x10;
constexpr std::uint64_t top_bit = std::uint64_t{1} << 63;

constexpr std::uint64_t descriptor_bytes = 16;
constexpr std::uint64_t status_word = status_page;                     ///< of the waits at the end of a batch
constexpr std::uint64_t spare_word = status_page + 0x40;               ///< of other waits
constexpr unsigned largest_mask = 18;                                  // MAMV
constexpr std::array<std::uint16_t, 4> ignored_functions{0, 4, 6, 7};  // by FM

std::uint64_t one_bit(Random& random, unsigned high, unsigned low) {
  return std::uint64_t{1} << (low + random.below(high - low + 1));
}

std::uint64_t wait(std::uint32_t data) { return 0x25 | std::uint64_t{data} << 32; }

}  // namespace

bool Queue::enable(Random& random) {
  if (!queued_) return false;
  const std::uint64_t size = random.below(2);  // QS
  bytes_ = std::uint64_t{4096} << size;
  tail_ = 0;
  enabled_ = true;
  pair_.note(format("queue of %u KiB", 4U << size));
  // Some drivers have descriptors there before they set QIE.
  if (random.chance(1, 4)) add({wait(++waits_), status_word});
  pair_.write_register(iqt, 8, tail_);
  pair_.write_register(iqa, 8, queue_page | size);
  pair_.compare_registers();
  return true;
}

void Queue::enabled() {
  if (!status_is(waits_)) throw Mismatch{"a descriptor that was there before QIE is not carried out"};
}

bool Queue::disable(Random& random) {
  if (!queued_) return false;
  pair_.note("queue off");
  if (!submit(random)) throw Mismatch{"a side has not written the status of the last wait"};
  enabled_ = false;
  return true;
}

void Queue::odd_tail(Random& random) {
  if (!queued_) return;
  const std::uint64_t tail = bytes_ + 16 * random.below(16);
  pair_.note(format("tail 0x%" PRIx64, tail));
  pair_.write_register(iqt, 8, tail);
  pair_.compare_registers();
  if ((pair_.library_registers().at(fsts / 4) & queue_error) == 0) throw Mismatch{"a tail outside the queue is taken"};
  pair_.write_register(iqt, 8, tail_);
  pair_.write_register(fsts, 4, queue_error);
  pair_.compare_registers();
}

Queue::Descriptor Queue::some_context_descriptor(Random& random) {
  const std::uint16_t domain = Guest::domain(random);
  const std::uint16_t source = random.pick(sources);
  const std::uint64_t functions = random.below(4);
  switch (random.below(3)) {
    case 0: return {0x11, 0, [this] { rules_.contexts_invalidated(); }};
    case 1: return {0x21 | std::uint64_t{domain} << 16, 0, [=, this] { rules_.contexts_invalidated(domain); }};
    default:
      return {0x31 | std::uint64_t{domain} << 16 | std::uint64_t{source} << 32 | functions << 48, 0,
              [=, this] { rules_.contexts_invalidated(domain, source, ignored_functions.at(functions)); }};
  }
}

Queue::Descriptor Queue::some_translation_descriptor(Random& random) {
  const std::uint16_t domain = Guest::domain(random);
  const std::uint64_t drain = random.below(4) << 6;  // DW, DR
  switch (random.below(5)) {
    case 0: return {0x12 | drain, 0, [this] { rules_.translations_invalidated(); }};
    case 1:
      return {0x22 | drain | std::uint64_t{domain} << 16, 0, [=, this] { rules_.translations_invalidated(domain); }};
    default: break;
  }
  const std::uint64_t iova = random.pick(iovas);
  const auto mask = static_cast<unsigned>(random.chance(1, 2) ? 0 : random.below(largest_mask + 1));
  return pages(domain, iova, mask, drain);
}

Queue::Descriptor Queue::pages(std::uint16_t domain, std::uint64_t iova, unsigned mask, std::uint64_t drain) {
  const std::uint64_t inside = (std::uint64_t{0x1000} << mask) - 1;
  return {0x32 | drain | std::uint64_t{domain} << 16, iova | mask,
          [=, this] { rules_.translations_invalidated(domain, iova & ~inside, iova | inside); }};
}

Queue::Descriptor Queue::some_odd_descriptor(Random& random) {
  Descriptor made = random.chance(1, 2) ? some_context_descriptor(random) : some_translation_descriptor(random);
  made.rule = nullptr;  // whether it is carried out is not relied on
  switch (random.below(14)) {
    case 0:  made.low |= one_bit(random, 15, 8); break;
    case 1:  made.low |= one_bit(random, 63, 50); break;
    case 2:  made.high |= one_bit(random, 11, 7); break;
    case 3:  made.low &= ~std::uint64_t{0x30}; break;
    case 4:  made = {0x32 | std::uint64_t{1} << 16, iovas[0] | (largest_mask + 1 + random.below(45))}; break;
    case 5:  made.low = (made.low & ~std::uint64_t{0xF}) | random.below(16); break;
    case 6:  made = {5 | random.below(8) << 4 | std::uint64_t{7} << 32, spare_word}; break;
    case 7:  made = {wait(8), spare_word | 1 << random.below(2)}; break;
    case 8:  made = {wait(9) | one_bit(random, 31, 7), spare_word}; break;
    case 9:  made = {wait(10), no_memory}; break;
    case 10: made = {4 | random.below(2) << 4 | random.below(16) << 32, 0}; break;
    case 11: made = {4 | one_bit(random, 63, 5), random.chance(1, 2) ? one_bit(random, 63, 0) : 0}; break;
    case 12: made = {6 | random.below(4) << 4 | std::uint64_t{1} << 16, iovas[0]}; break;
    default: made = {7 | random.below(4) << 4 | std::uint64_t{1} << 16, 0}; break;
  }
  // Status write and interrupt together end QEMU 7.2 (B69).
  if ((made.low & 0xF) == 5 && (made.low & 0x30) == 0x30) made.low &= ~std::uint64_t{0x10};
  return made;
}

void Queue::add(const Descriptor& descriptor) {
  pair_.note(format("descriptor %" PRIx64 " %" PRIx64, descriptor.low, descriptor.high));
  pair_.store(queue_page + tail_, 8, descriptor.low);
  pair_.store(queue_page + tail_ + 8, 8, descriptor.high);
  tail_ = (tail_ + descriptor_bytes) % bytes_;
}

bool Queue::status_is(std::uint32_t value) {
  return pair_.qemu().load(status_word) == value && pair_.library().load(status_word) == value;
}

bool Queue::submit(Random& random) {
  ++waits_;
  add({wait(waits_) | (random.chance(1, 4) ? 0x40U : 0U), status_word, nullptr});
  pair_.write_register(iqt, random.chance(1, 2) ? 4 : 8, tail_);
  return status_is(waits_);
}

void Queue::invalidate(Random& random) {
  if (!queued_) {
    return by_register(random.chance(1, 3) ? some_context_descriptor(random) : some_translation_descriptor(random),
                       random);
  }
  std::vector<std::function<void()>> rules;
  for (std::uint64_t count = 1 + random.below(3); count > 0; --count) {
    Descriptor chosen = random.chance(1, 3) ? some_context_descriptor(random) : some_translation_descriptor(random);
    add(chosen);
    rules.push_back(std::move(chosen.rule));
  }
  if (!submit(random)) throw Mismatch{"a side has not written the status of a wait"};
  for (const std::function<void()>& rule : rules) rule();
  pair_.compare_registers();
}

void Queue::invalidate_about(Random& random, std::uint16_t domain, std::uint64_t iova) {
  Descriptor chosen;
  switch (random.below(8)) {
    case 0: chosen = {0x12, 0, [this] { rules_.translations_invalidated(); }}; break;
    case 1:
      chosen = {0x22 | std::uint64_t{domain} << 16, 0, [=, this] { rules_.translations_invalidated(domain); }};
      break;
    case 2:  chosen = pages(static_cast<std::uint16_t>(domain ^ 1), iova, 0, 0); break;
    default: {
      // Named by any of its pages, or by the first one that is not covered.
      const auto mask = static_cast<unsigned>(random.below(random.chance(1, 2) ? 4 : largest_mask + 1));
      const std::uint64_t size = std::uint64_t{0x1000} << mask;
      const std::uint64_t named = (iova & ~(size - 1)) | (random.next() & (size - 1) & ~std::uint64_t{0xFFF});
      chosen = pages(domain, random.chance(1, 5) ? named ^ size : named, mask, 0);
      break;
    }
  }
  if (!queued_) return by_register(chosen, random);
  add(chosen);
  if (!submit(random)) throw Mismatch{"a side has not written the status of a wait"};
  chosen.rule();
  pair_.compare_registers();
}

void Queue::odd_descriptor(Random& random) {
  if (!queued_) return;
  if (random.chance(1, 2)) add(some_translation_descriptor(random));
  const std::uint64_t place = tail_;
  const Descriptor odd = some_odd_descriptor(random);
  add(odd);
  static_cast<void>(submit(random));
  pair_.read_registers();
  const bool qemu_stopped = (pair_.qemu_registers().at(fsts / 4) & queue_error) != 0;
  const bool library_stopped = (pair_.library_registers().at(fsts / 4) & queue_error) != 0;
  if (qemu_stopped != library_stopped) {
    pair_.judge(DescriptorObservation{odd.low, odd.high, library_stopped, qemu_stopped},
                format("descriptor %" PRIx64 " %" PRIx64 ": library %s, QEMU %s", odd.low, odd.high,
                       library_stopped ? "stops" : "goes on", qemu_stopped ? "stops" : "goes on"));
  } else {
    pair_.compare_read_registers();
    if (library_stopped && pair_.library_registers().at(iqh / 4) != place) {
      throw Mismatch{"the queue has stopped elsewhere than at the descriptor that is wrong"};
    }
  }
  if (qemu_stopped || library_stopped) {
    // A harmless descriptor in its place, and the queue goes on: as the specification wants it when the error is
    // cleared; QEMU 7.2 at the next write of the tail.
    pair_.store(queue_page + place, 8, wait(0));
    pair_.store(queue_page + place + 8, 8, spare_word);
    pair_.write_register(fsts, 4, queue_error);
    if (qemu_stopped == library_stopped) pair_.compare_registers();
    pair_.write_register(iqt, 8, tail_);
  }
  if (!status_is(waits_)) throw Mismatch{"a side has not written the status of a wait after a queue error"};
  pair_.compare_registers();
  // What a wait of the two sides has written differently is the same again.
  pair_.store(spare_word, 4, 0);
}

void Queue::by_register(const Descriptor& chosen, Random& random) {
  const std::uint64_t granularity = chosen.low >> 4 & 3;
  const std::uint64_t domain = chosen.low >> 16 & 0xFFFF;
  const bool contexts = (chosen.low & 0xF) == 1;
  const std::uint64_t command =
      contexts ? top_bit | granularity << 61 | (chosen.low >> 48 & 3) << 32 | (chosen.low >> 32 & 0xFFFF) << 16 | domain
               : top_bit | granularity << 60 | (chosen.low >> 6 & 3) << 48 | domain << 32;
  const std::uint64_t where = contexts ? ccmd : iotlb;
  pair_.note(format("%s: %" PRIx64 ", address %" PRIx64, contexts ? "CCMD" : "IOTLB_REG", command, chosen.high));
  if (!contexts) pair_.write_register(iva, 8, chosen.high);
  if (random.chance(1, 2)) {
    pair_.write_register(where, 8, command);
  } else {
    pair_.write_register(where, 4, command & 0xFFFF'FFFF);
    pair_.write_register(where + 4, 4, command >> 32);
  }
  pair_.compare_registers();
  if ((pair_.library_registers().at(where / 4 + 1) >> 31) != 0) throw Mismatch{"a register command does not end"};
  chosen.rule();
}

}  // namespace viommu::qemu
