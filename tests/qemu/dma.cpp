// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "tests/qemu/dma.hpp"

#include <algorithm>
#include <cinttypes>
#include <utility>

#include "tests/support/agreement.hpp"

namespace viommu::qemu {
namespace {

using oracle::Answer;

constexpr std::uint64_t pointer = 0x000F'FFFF'FFFF'F000;  // in any entry
constexpr std::size_t fsts = 0x34 / 4;
constexpr std::uint32_t overflow = 1;
constexpr std::size_t record = 0x220 / 4;
constexpr std::uint32_t record_set = 0x8000'0000;
constexpr std::uint32_t record_read = 0x4000'0000;

oracle::Request request_for(std::size_t source, std::uint64_t iova, bool write) {
  oracle::Request request;
  request.source_id = sources.at(source);
  request.iova = iova;
  request.read = !write;
  request.write = write;
  return request;
}

/// QEMU caches nothing that faults, whatever it says.
oracle::Unit without_caching_mode(oracle::Unit unit) {
  unit.cap &= ~std::uint64_t{0x80};
  return unit;
}

bool is_fault(const Answer& answer) { return answer.kind == Answer::fault; }
bool reaches_memory(const Answer& answer) { return !is_fault(answer) && is_ram(answer.gpa); }

/// Whether an answer looks like this from outside. Of a read it does not show at once where it came from.
bool looks_like(const Answer& answer, const Outcome& outcome, bool write, bool pending) {
  switch (outcome.kind) {
    case Outcome::recorded: return is_fault(answer) && answer.reported && answer.reason == outcome.reason;
    case Outcome::landed:   return !is_fault(answer) && answer.gpa == outcome.gpa;
    case Outcome::nowhere:  break;
  }
  if (is_fault(answer)) return pending || !answer.reported;
  return !write || !is_ram(answer.gpa);
}

std::string text(const Answer& answer) {
  if (is_fault(answer)) return format("fault 0x%x%s", answer.reason, answer.reported ? "" : " (not reported)");
  return format("0x%" PRIx64 " in a page of 0x%" PRIx64, answer.gpa, answer.page_mask + 1);
}

std::string text(const Outcome& outcome) {
  switch (outcome.kind) {
    case Outcome::recorded: return format("fault 0x%x recorded", outcome.reason);
    case Outcome::landed:   return format("reached 0x%" PRIx64, outcome.gpa);
    case Outcome::nowhere:  break;
  }
  return "no record, and no memory written";
}

std::string text(const std::vector<Answer>& answers) {
  std::string all;
  for (const Answer& answer : answers) all += (all.empty() ? "" : " or ") + text(answer);
  return all;
}

std::string text(const std::vector<Way>& ways) {
  std::string all;
  for (const Way& way : ways) {
    all += format("%s %" PRIx64 " %" PRIx64 ":", all.empty() ? "" : ";", way.low, way.high);
    for (const std::uint64_t entry : way.entries) all += format(" %" PRIx64, entry);
  }
  return all;
}

}  // namespace

Rules::Rules(const oracle::Unit& unit, const test::Words& words, bool broken_root)
    : unit_{unit},
      words_{words},
      broken_root_{broken_root},
      strict_{unit, words, {sources.begin(), sources.end()}, {iovas.begin(), iovas.end()}},
      by_source_{without_caching_mode(unit), words, {sources.begin(), sources.end()}, {iovas.begin(), iovas.end()}} {
  memory_changed();
}

std::vector<Answer> Rules::answers(const test::WindowModel& model, std::size_t source, std::size_t iova,
                                   std::uint64_t offset, bool write) const {
  oracle::Unit unit = unit_;
  unit.translation_enabled = translation_on;
  if (!translation_on || (broken_root_ && source == other_bus)) {
    return {oracle::translate(unit, words_.load, request_for(source, iovas.at(iova) + offset, write))};
  }
  std::vector<Answer> all = model.allowed(source, iova, write ? 2 : 1);
  for (Answer& answer : all) answer.gpa += offset;
  return all;
}

std::vector<Answer> Rules::allowed(std::size_t source, std::size_t iova, std::uint64_t offset, bool write) const {
  return answers(strict_, source, iova, offset, write);
}

std::vector<Answer> Rules::by_source(std::size_t source, std::size_t iova, std::uint64_t offset, bool write) const {
  return answers(by_source_, source, iova, offset, write);
}

Answer Rules::present(std::size_t source, std::size_t iova, bool write) const {
  oracle::Unit unit = unit_;
  unit.translation_enabled = translation_on;
  return oracle::translate(unit, words_.load, request_for(source, iovas.at(iova), write));
}

void Rules::memory_changed() {
  each([](test::WindowModel& model) { model.memory_changed(); });
  for (std::size_t source = 0; source < sources.size(); ++source) {
    const std::uint64_t bus = unit_.root_table + std::uint64_t{16} * (sources.at(source) >> 8);
    const std::uint64_t at = (words_.load(bus).value_or(0) & pointer) + std::uint64_t{16} * (sources.at(source) & 0xFF);
    const Way now{words_.load(at).value_or(0), words_.load(at + 8).value_or(0), {}};
    std::vector<Way>& known = contexts_.at(source);
    std::erase_if(known, [&](const Way& context) { return context.low == now.low && context.high == now.high; });
    known.push_back(now);
  }
}

std::vector<std::uint64_t> Rules::entries(const Way& context, std::uint64_t iova) const {
  std::vector<std::uint64_t> found;
  std::uint64_t table = context.low & pointer;
  for (std::uint64_t level = std::min<std::uint64_t>((context.high & 7) + 2, 5); level >= 1; --level) {
    const std::optional<std::uint64_t> entry = words_.load(table + 8 * (iova >> (12 + 9 * (level - 1)) & 511));
    if (!entry) break;
    found.push_back(*entry);
    if ((*entry & 3) == 0 || (*entry & 0x80) != 0) break;
    table = *entry & pointer;
  }
  return found;
}

std::vector<Way> Rules::ways(std::size_t source, std::uint64_t iova) const {
  std::vector<Way> all = contexts_.at(source);
  for (Way& way : all) way.entries = entries(way, iova);
  return all;
}

void Devices::load_buffers() {
  for (std::size_t source = 0; source < sources.size(); ++source) {
    const std::uint32_t tag = new_tag();
    pair_->store(first_data, sizeof tag, tag);
    pair_->qemu().dma(source, first_data, false);
    static_cast<void>(pair_->library().dma(source, first_data, false));
    qemu_.at(source) = {{tag}, true};
  }
}

void Devices::clear_faults() {
  pair_->clear_faults();
  pending_ = false;
}

Outcome Devices::outcome_of_qemu(const std::vector<std::uint64_t>& places, const std::vector<std::uint32_t>& tags,
                                 std::size_t source, std::uint64_t iova, bool write) {
  const Registers& now = pair_->qemu_registers();
  if (!pending_ && (now.at(record + 3) & record_set) != 0) {
    const std::uint64_t page = std::uint64_t{now.at(record + 1)} << 32 | now.at(record);
    if ((now.at(record + 2) & 0xFFFF) != sources.at(source) || page != (iova & ~std::uint64_t{0xFFF}) ||
        ((now.at(record + 3) & record_read) != 0) == write) {
      throw Mismatch{format("QEMU's record is of another request: %08x %08x %08x %08x", now.at(record),
                            now.at(record + 1), now.at(record + 2), now.at(record + 3))};
    }
    return {Outcome::recorded, static_cast<std::uint8_t>(now.at(record + 3)), 0};
  }
  if (!write) return {};
  Outcome outcome;
  for (std::size_t at = 0; at < places.size(); ++at) {
    const std::uint32_t word = pair_->qemu().load(places[at]);
    if (word == tags[at]) continue;
    if (outcome.kind == Outcome::landed) throw Mismatch{"QEMU wrote two places in one DMA"};
    outcome = {Outcome::landed, 0, places[at]};
    if (qemu_.at(source).known && !qemu_.at(source).words.contains(word)) {
      throw Mismatch{format("QEMU's device wrote 0x%08x, which it has not read", word)};
    }
    qemu_.at(source) = {{word}, true};
  }
  return outcome;
}

bool Devices::dma(const Rules& rules, std::size_t source, std::size_t iova_index, std::uint64_t offset, bool write) {
  const std::uint64_t iova = iovas.at(iova_index) + offset;
  const std::vector<Answer> allowed = rules.allowed(source, iova_index, offset, write);
  const std::vector<Answer> by_source = rules.by_source(source, iova_index, offset, write);

  // Every place where the word may come from or go to gets a word of its own.
  std::vector<std::uint64_t> places;
  for (const std::vector<Answer>* answers : {&allowed, &by_source}) {
    for (const Answer& answer : *answers) {
      if (!reaches_memory(answer)) continue;
      if (!is_data(answer.gpa)) return false;
      if (std::ranges::find(places, answer.gpa) == places.end()) places.push_back(answer.gpa);
    }
  }
  // Also the address itself: a unit that lets pass what it should not is to be seen.
  if (is_data(iova) && std::ranges::find(places, iova) == places.end()) places.push_back(iova);
  std::vector<std::uint32_t> tags;
  for (const std::uint64_t place : places) {
    tags.push_back(new_tag());
    pair_->store(place, sizeof tags.back(), tags.back());
  }

  const viommu_translation answer = pair_->library().dma(source, iova, write);
  pair_->qemu().dma(source, iova, write);
  pair_->read_registers();
  const std::string what = format("%s of %04x at 0x%" PRIx64, write ? "write" : "read", sources.at(source), iova);
  pair_->note(what);

  // The library: its answer is known as such.
  const oracle::Request request = request_for(source, iova, write);
  if (std::ranges::none_of(allowed, [&](const Answer& a) { return test::difference(answer, a, request).empty(); })) {
    throw Mismatch{what +
                   format(": the library answers kind %u, 0x%" PRIx64 ", reason 0x%x; allowed: ", answer.kind,
                          answer.gpa, answer.reason) +
                   text(allowed)};
  }
  Outcome ours;
  if (answer.kind == VIOMMU_FAULT) {
    if (answer.status == VIOMMU_FAULT_RECORDED) ours = {Outcome::recorded, answer.reason, 0};
  } else if (is_ram(answer.gpa)) {
    ours = {Outcome::landed, 0, answer.gpa};
  }

  // QEMU: seen from outside.
  const Outcome theirs = outcome_of_qemu(places, tags, source, iova, write);
  pair_->note("  library: " + text(ours) + "; QEMU: " + text(theirs) + "; allowed: " + text(allowed));
  const auto fits = [&](const Answer& a) { return looks_like(a, theirs, write, pending_); };
  const std::uint32_t full = pair_->qemu_registers().at(fsts) & overflow;
  const bool log_differs = pending_ && full != (pair_->library_registers().at(fsts) & overflow);
  const bool certain = allowed.size() == 1;
  if (std::ranges::none_of(allowed, fits) || (log_differs && certain)) {
    const DmaObservation seen{.variant = &pair_->variant(),
                              .iova = iova,
                              .write = write,
                              .qemu = theirs,
                              .pending = pending_,
                              .overflowed = log_differs && full != 0,
                              .allowed = allowed,
                              .by_source = by_source,
                              .ways = rules.ways(source, iova)};
    pair_->judge(seen, what + ": QEMU: " + text(theirs) + "; allowed: " + text(allowed) +
                           "; by source: " + text(by_source) + "; contexts and entries:" + text(seen.ways));
  }

  // What the devices have in their buffers now.
  if (!write) {
    Buffer expected{{}, theirs.kind != Outcome::recorded};
    for (const std::vector<Answer>* answers : {&allowed, &by_source}) {
      for (const Answer& a : *answers) {
        const auto place = std::ranges::find(places, a.gpa);
        if (!reaches_memory(a) || place == places.end()) {
          // A fault that would have been recorded did not happen; others leave anything in the buffer. For want of a
          // right QEMU may block without a record ("rights-of-cached-page").
          if (!is_fault(a) || !a.reported || a.reason == 0x6 || pending_) expected.known = false;
        } else {
          expected.words.insert(tags[static_cast<std::size_t>(place - places.begin())]);
        }
      }
    }
    if (expected.words.empty()) expected.known = false;
    qemu_.at(source) = expected;
  }

  // Both sides go on with the same memory, whichever place each of them chose.
  for (const std::uint64_t place : places) pair_->store(place, 4, new_tag());
  const bool same = ours.kind == theirs.kind && ours.reason == theirs.reason;
  const bool alike = !log_differs &&
                     (same || (!write && ours.kind == Outcome::landed && theirs.kind == Outcome::nowhere)) &&
                     (certain || !pending_);
  if (!alike) pair_->clear_faults();
  if (!alike) pair_->read_registers();
  pair_->compare_read_registers();
  pending_ = (pair_->library_registers().at(record + 3) & record_set) != 0;
  return true;
}

}  // namespace viommu::qemu
