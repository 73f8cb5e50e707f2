// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "tests/support/scalable_oracle.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <optional>

namespace viommu::oracle {
namespace {

constexpr unsigned attempts_per_entry = 4;  // lost exchanges of one entry, before the walk begins again
constexpr unsigned passes = 2;

bool bit(std::uint64_t word, unsigned number) { return (word >> number) % 2 == 1; }

/// Whether any bit of [high:low] is set; an empty range (low > high) has none.
bool any_set(std::uint64_t word, unsigned high, unsigned low) {
  for (unsigned number = low; number <= high; ++number)
    if (bit(word, number)) return true;
  return false;
}

/// Bits [high:low] as a number; high is at most 62.
std::uint64_t number_in(std::uint64_t word, unsigned high, unsigned low) {
  return word % (std::uint64_t{1} << (high + 1)) / (std::uint64_t{1} << low);
}

std::uint64_t page_address(std::uint64_t word) { return word / 4096 * 4096; }
/// ADDR of a paging entry.
std::uint64_t entry_address(std::uint64_t entry) { return number_in(entry, 51, 12) * 4096; }
std::uint64_t page_mask_of(unsigned level) { return (std::uint64_t{1} << (12 + 9 * (level - 1))) - 1; }
std::uint64_t slot_of(std::uint64_t table, std::uint64_t address, unsigned level) {
  return table + 8 * ((address >> (12 + 9 * (level - 1))) % 512);
}
bool in_interrupt_range(std::uint64_t address) { return address >= 0xFEE00000 && address <= 0xFEEFFFFF; }

// Capability Register.
bool caching_mode(const Unit& unit) { return bit(unit.cap, 7); }
bool offers_width(const Unit& unit, std::uint64_t aw) {
  return (aw == 1 && bit(unit.cap, 9)) || (aw == 2 && bit(unit.cap, 10)) || (aw == 3 && bit(unit.cap, 11));
}
bool zero_length_reads(const Unit& unit) { return bit(unit.cap, 22); }
bool second_stage_2m(const Unit& unit) { return bit(unit.cap, 34); }
bool second_stage_1g(const Unit& unit) { return bit(unit.cap, 35); }
bool first_stage_1g(const Unit& unit) { return bit(unit.cap, 56); }
bool first_stage_5_levels(const Unit& unit) { return bit(unit.cap, 60); }
/// The highest input of a second stage of that width.
std::uint64_t highest_input(const Unit& unit, std::uint64_t aw) {
  const std::uint64_t guest_width = number_in(unit.cap, 21, 16) + 1;
  return (std::uint64_t{1} << std::min(guest_width, 30 + 9 * aw)) - 1;
}

// Extended Capability Register.
bool device_tlbs(const Unit& unit) { return bit(unit.ecap, 2); }
bool pass_through(const Unit& unit) { return bit(unit.ecap, 6); }
bool snoop_control(const Unit& unit) { return bit(unit.ecap, 7); }
bool memory_types(const Unit& unit) { return bit(unit.ecap, 25); }
bool nested(const Unit& unit) { return bit(unit.ecap, 26); }
bool page_requests(const Unit& unit) { return bit(unit.ecap, 29); }
bool execute_requests(const Unit& unit) { return bit(unit.ecap, 30); }
bool supervisor_requests(const Unit& unit) { return bit(unit.ecap, 31); }
bool extended_accessed(const Unit& unit) { return bit(unit.ecap, 34); }
unsigned pasid_width(const Unit& unit) { return static_cast<unsigned>(number_in(unit.ecap, 39, 35)) + 1; }
bool pasids(const Unit& unit) { return bit(unit.ecap, 40); }
bool scalable_mode(const Unit& unit) { return bit(unit.ecap, 43); }
bool second_stage_flags(const Unit& unit) { return bit(unit.ecap, 45); }
bool second_stage(const Unit& unit) { return bit(unit.ecap, 46); }
bool first_stage(const Unit& unit) { return bit(unit.ecap, 47); }
bool walk_snoop_control(const Unit& unit) { return bit(unit.ecap, 48); }
bool rid_pasids(const Unit& unit) { return bit(unit.ecap, 49); }
bool abort_dma_mode(const Unit& unit) { return bit(unit.ecap, 52); }
bool rid_privileged(const Unit& unit) { return bit(unit.ecap, 53); }
bool translated_pasids(const Unit& unit) { return bit(unit.ecap, 56); }

/// "Scalable-Mode PASID Table Entry", PGTT.
constexpr std::uint64_t by_first_stage = 1;
constexpr std::uint64_t by_second_stage = 2;
constexpr std::uint64_t by_both = 3;
constexpr std::uint64_t untouched = 4;

/// A PASID table entry and what it says; the words are numbered as in the figure.
struct Entry {
  std::array<std::uint64_t, 8> words{};

  [[nodiscard]] std::uint64_t kind() const { return number_in(words[0], 8, 6); }
  [[nodiscard]] bool has_first_stage() const { return kind() == by_first_stage || kind() == by_both; }
  [[nodiscard]] bool has_second_stage() const { return kind() == by_second_stage || kind() == by_both; }
  [[nodiscard]] std::uint64_t aw() const { return number_in(words[0], 4, 2); }
  [[nodiscard]] bool ssade() const { return has_second_stage() && bit(words[0], 9); }
  [[nodiscard]] std::uint64_t ssptptr() const { return page_address(words[0]); }
  [[nodiscard]] bool pwsnp() const { return bit(words[1], 23); }
  [[nodiscard]] bool sre() const { return bit(words[2], 0); }
  [[nodiscard]] std::uint64_t fspm() const { return number_in(words[2], 3, 2); }
  [[nodiscard]] bool wpe() const { return bit(words[2], 4); }
  [[nodiscard]] bool eafe() const { return bit(words[2], 7); }
  [[nodiscard]] std::uint64_t fsptptr() const { return page_address(words[2]); }
  [[nodiscard]] unsigned first_levels() const { return fspm() == 0 ? 4 : 5; }
  [[nodiscard]] unsigned second_levels() const { return static_cast<unsigned>(aw()) + 2; }
};

/// What one stage says to a request.
struct Stage {
  std::uint8_t reason = 0;  // 0: translated
  bool read = false;        // rights of a page, granted or denied
  bool write = false;
  bool dirty = false;  // nothing is left to be set before the page may be written
  std::uint64_t address = 0;
  std::uint64_t page_mask = 0;
};
Stage blocked(std::uint8_t reason) {
  Stage stage;
  stage.reason = reason;
  return stage;
}

/// What an access wants.
struct Access {
  bool read = false;
  bool write = false;
  bool zero_length = false;  // a read that the right to write is enough for
  bool supervisor = false;
};

/// Whether a read may be done with these rights.
bool readable(const Access& access, bool may_read, bool may_write) {
  return may_read || (access.zero_length && may_write);
}

/// "Address Translation Services", AT; and page requests, which have none.
enum class Asks { to_go, for_translation, to_go_translated, for_page };

/// One request on its way.
class Translation {
 public:
  Translation(const Unit& unit, const ReadWord& read_word, const ExchangeWord& exchange_word, const Request& request,
              Asks asks = Asks::to_go)
      : unit_{unit}, read_word_{read_word}, exchange_word_{exchange_word}, request_{request}, asks_{asks} {}

  [[nodiscard]] Answer answer() {
    if (!unit_.translation_enabled) return page(Answer::identity, {0, true, true, true, request_.iova, ~0ULL});
    if (!request_.pasid && in_interrupt_range(request_.iova)) return interrupt_range();
    const std::uint64_t mode = number_in(unit_.root_table, 11, 10);
    if (mode == 2 || (mode == 3 && !abort_dma_mode(unit_)) || (mode == 1 && !scalable_mode(unit_))) return fault(0x30);
    if (mode == 3) return fault(0x33);
    if (mode == 0) return translate(unit_, read_word_, request_);
    if (request_.pasid && request_.execute && unit_.major_version >= 8) return fault(0x34);

    for (const auto step : {&Translation::root, &Translation::context, &Translation::directory, &Translation::entry})
      if (const std::uint8_t reason = (this->*step)(); reason != 0) return fault(reason);
    return by_entry();
  }

  /// Of a translated request or a page request.
  [[nodiscard]] Answer admission() {
    if (!unit_.translation_enabled) {
      Answer blocked = fault(0);
      blocked.reported = false;
      return blocked;
    }
    const std::uint64_t mode = number_in(unit_.root_table, 11, 10);
    if (mode == 2 || (mode == 3 && !abort_dma_mode(unit_)) || (mode == 1 && !scalable_mode(unit_))) return fault(0x30);
    if (mode == 3) return fault(0x33);
    const bool for_page = asks_ == Asks::for_page;  // which is admitted whatever it is for
    if (request_.pasid && request_.execute && unit_.major_version >= 8 && !for_page) return fault(0x34);
    if (const std::uint8_t reason = root(); reason != 0) return fault(reason);
    if (const std::uint8_t reason = context(); reason != 0) return fault(reason);
    if (for_page) {
      if (const std::uint8_t reason = directory(); reason != 0) return fault(reason);
      if (const std::uint8_t reason = entry(); reason != 0) return fault(reason);
    } else {
      if (any_set(request_.iova, 63, unit_.haw)) return fault(0x83);
      if (in_interrupt_range(request_.iova)) return fault(0x87);
    }
    return page(Answer::identity, {0, true, true, true, request_.iova, ~0ULL});
  }

 private:
  // ---- Answers ----
  /// "Fault Conditions", column "qualified": not those of an entry that could not be read, and none before the context.
  [[nodiscard]] static bool qualified(std::uint8_t reason) {
    return reason >= 0x41 && reason != 0x50 && reason != 0x58;
  }
  [[nodiscard]] Answer fault(std::uint8_t reason) const {
    Answer answer;
    answer.kind = Answer::fault;
    answer.reason = reason;
    answer.reported = !(fault_disable_ && qualified(reason));
    return answer;
  }
  [[nodiscard]] Answer page(Answer::Kind kind, const Stage& stage) const {
    Answer answer;
    answer.kind = kind;
    answer.gpa = stage.address;
    answer.page_mask = stage.page_mask;
    answer.read = stage.read;
    answer.write = stage.write && stage.dirty;
    return answer;
  }
  [[nodiscard]] Answer interrupt_range() const {
    const bool message = request_.write && !request_.read && (request_.length == 0 || request_.length == 4);
    if (!message && !request_.zero_length) return fault(0x29);
    Answer answer;
    answer.kind = Answer::interrupt;
    answer.gpa = request_.iova;
    return answer;
  }

  // ---- Structures: 0, or the reason why the way ends there ----
  [[nodiscard]] bool read_pair(std::uint64_t gpa, std::uint64_t& low, std::uint64_t& high) const {
    const std::optional<std::uint64_t> first = read_word_(gpa);
    const std::optional<std::uint64_t> second = read_word_(gpa + 8);
    low = first.value_or(0);
    high = second.value_or(0);
    return first && second;
  }

  std::uint8_t root() {
    std::uint64_t lower = 0;
    std::uint64_t upper = 0;
    if (!read_pair(page_address(unit_.root_table) + std::uint64_t{16} * (request_.source_id / 256), lower, upper))
      return 0x38;
    const std::uint64_t half = bit(request_.source_id, 7) ? upper : lower;
    if (!bit(half, 0)) return 0x39;
    if (any_set(half, 11, 1) || any_set(half, 63, unit_.haw)) return 0x3A;
    table_ = page_address(half);
    return 0;
  }

  std::uint8_t context() {
    const std::uint64_t at = table_ + std::uint64_t{32} * (request_.source_id % 128);
    std::array<std::uint64_t, 4> words{};
    if (!read_pair(at, words[0], words[1])) return 0x40;
    fault_disable_ = bit(words[0], 1);
    if (!bit(words[0], 0)) return 0x41;
    if (!read_pair(at + 16, words[2], words[3])) return 0x40;

    const bool dte = bit(words[0], 2);
    const bool paside = bit(words[0], 3);
    const bool pre = bit(words[0], 4);
    const bool hpte = bit(words[0], 5);
    const bool eptr = bit(words[0], 6);
    const std::uint64_t rid_pasid = number_in(words[1], 19, 0);
    const bool rid_priv = bit(words[1], 20);
    if ((dte && !device_tlbs(unit_)) || (paside && !pasids(unit_)) || (pre && !page_requests(unit_)) || hpte ||
        (eptr && !translated_pasids(unit_)) || any_set(words[0], 8, 7) || any_set(words[0], 63, unit_.haw) ||
        (rid_pasid != 0 && !rid_pasids(unit_)) || (rid_priv && !rid_privileged(unit_)) || any_set(words[1], 63, 21) ||
        words[2] != 0 || words[3] != 0)
      return 0x42;

    const std::uint64_t highest_pasid = (std::uint64_t{1} << (number_in(words[0], 11, 9) + 7 + 6)) - 1;
    if (pre && !dte) return 0x43;
    if (rid_pasid > highest_pasid) return 0x43;
    const bool go_by_pasid_right = asks_ == Asks::to_go || asks_ == Asks::for_translation;
    if (eptr && !paside && (!request_.pasid || !go_by_pasid_right)) return 0x43;
    if ((asks_ == Asks::for_translation || asks_ == Asks::to_go_translated) && !dte) return 0x44;
    if (asks_ == Asks::for_page && !pre) return 0x47;
    if (asks_ == Asks::to_go_translated && request_.pasid && !eptr) return 0x49;
    if (request_.pasid) {
      if (*request_.pasid >= std::uint64_t{1} << pasid_width(unit_)) return 0x89;
      if (!paside && asks_ != Asks::to_go_translated) return 0x45;
      if (*request_.pasid > highest_pasid) return 0x46;
      if (*request_.pasid == rid_pasid) return 0x48;
    }
    pasid_ = request_.pasid.value_or(static_cast<std::uint32_t>(rid_pasid));
    supervisor_ = request_.pasid ? request_.privileged : rid_priv;
    table_ = page_address(words[0]);
    return 0;
  }

  std::uint8_t directory() {
    const std::optional<std::uint64_t> word = read_word_(table_ + std::uint64_t{8} * (pasid_ / 64));
    if (!word) return 0x50;
    if (bit(*word, 1)) fault_disable_ = true;
    if (!bit(*word, 0)) return 0x51;
    if (any_set(*word, 11, 2) || any_set(*word, 63, unit_.haw)) return 0x52;
    table_ = page_address(*word);
    return 0;
  }

  std::uint8_t entry() {
    const std::uint64_t at = table_ + std::uint64_t{64} * (pasid_ % 64);
    for (std::size_t pair = 0; pair < 4; ++pair) {
      if (!read_pair(at + 16 * pair, entry_.words[2 * pair], entry_.words[2 * pair + 1])) return 0x58;
      if (pair > 0) continue;
      if (bit(entry_.words[0], 1)) fault_disable_ = true;
      if (!bit(entry_.words[0], 0)) return 0x59;
    }
    if (entry_reserved_bit_set()) return 0x5A;
    const std::uint64_t kind = entry_.kind();
    const bool offered = (kind == by_first_stage && first_stage(unit_)) ||
                         (kind == by_second_stage && second_stage(unit_)) || (kind == by_both && nested(unit_)) ||
                         (kind == untouched && pass_through(unit_));
    if (!offered) return 0x5B;
    if (entry_.has_second_stage() && !offers_width(unit_, entry_.aw())) return 0x5B;
    if (entry_.has_first_stage() && entry_.fspm() != 0 && !(entry_.fspm() == 1 && first_stage_5_levels(unit_)))
      return 0x5B;
    if (kind == by_both && entry_.fsptptr() > highest_input(unit_, entry_.aw())) return 0x5B;
    if (asks_ == Asks::for_page) return 0;
    if (request_.pasid && request_.execute && !execute_requests(unit_)) return 0x5C;
    if (supervisor_ && !entry_.sre()) return 0x5D;
    return 0;
  }

  /// The figure from its first bit to its last.
  [[nodiscard]] bool entry_reserved_bit_set() const {
    const auto& w = entry_.words;
    const bool first = entry_.has_first_stage();
    const bool second = entry_.has_second_stage();
    // AW is not looked at where the kind has no use for it: Linux writes it on units without second stage too.
    if (second && !second_stage(unit_) && entry_.aw() != 0) return true;
    if (bit(w[0], 5) || any_set(w[0], 11, 10)) return true;
    if (second && bit(w[0], 9) && !(second_stage(unit_) && second_stage_flags(unit_))) return true;
    if (second && !second_stage(unit_) && entry_.ssptptr() != 0) return true;
    if (second && any_set(w[0], 63, unit_.haw)) return true;

    const unsigned domain_bits = 4 + 2 * static_cast<unsigned>(number_in(unit_.cap, 2, 0));
    if (any_set(w[1], 15, domain_bits) || (caching_mode(unit_) && number_in(w[1], 15, 0) == 0)) return true;
    if (any_set(w[1], 22, 16) || any_set(w[1], 31, 27)) return true;
    if (bit(w[1], 23) && !walk_snoop_control(unit_)) return true;
    if (bit(w[1], 24) && !snoop_control(unit_)) return true;
    if (!memory_types(unit_) && (bit(w[1], 25) || (second && bit(w[1], 26)) || any_set(w[1], 63, 32))) return true;

    if (bit(w[2], 0) && !supervisor_requests(unit_)) return true;
    if (bit(w[2], 1) || any_set(w[2], 11, 8)) return true;
    if (entry_.fspm() != 0 && !first_stage(unit_)) return true;
    if (first && !first_stage(unit_) && (entry_.wpe() || entry_.fsptptr() != 0)) return true;
    if (first && entry_.eafe() && !extended_accessed(unit_)) return true;
    if (first && any_set(w[2], 63, unit_.haw)) return true;
    return w[3] != 0 || w[4] != 0 || w[5] != 0 || w[6] != 0 || w[7] != 0;
  }

  // ---- Translation ----
  [[nodiscard]] Answer by_entry() {
    Access access{request_.read, request_.write, request_.zero_length && zero_length_reads(unit_), supervisor_};
    if (entry_.kind() == untouched) {
      if (request_.iova >= std::uint64_t{1} << unit_.haw) return fault(0x83);
      if (in_interrupt_range(request_.iova) && asks_ != Asks::for_translation) return fault(0x87);
      return page(Answer::identity, {0, true, true, true, request_.iova, 0xFFF});
    }
    if (entry_.has_first_stage() && !canonical()) return fault(0x80);
    if (!entry_.has_first_stage() && request_.iova > highest_input(unit_, entry_.aw())) return fault(0x84);
    Stage found = walk(access);
    // A translation request is not blocked for want of a right: it is answered with those that are there.
    while (asks_ == Asks::for_translation && (found.reason == 0x85 || found.reason == 0x86)) {
      access.read = access.read && found.read;
      access.write = access.write && found.write;
      if (!access.read && !access.write) {  // both are missing, then: as of an atomic, the right to write is named
        found.reason = request_.write ? 0x85 : 0x86;
        break;
      }
      found = walk(access);
    }
    if (found.reason != 0) return fault(found.reason);
    if (in_interrupt_range(found.address)) return fault(0x87);
    return page(Answer::translated, found);
  }

  [[nodiscard]] Stage walk(const Access& access) {
    return entry_.has_first_stage() ? first_stage_walk(access) : second_stage_walk(request_.iova, access);
  }

  [[nodiscard]] bool canonical() const {
    const unsigned n = entry_.first_levels() == 4 ? 48 : 57;
    for (unsigned number = n; number <= 63; ++number)
      if (bit(request_.iova, number) != bit(request_.iova, n - 1)) return false;
    return true;
  }

  /// A flag may be written only where the walk is snooped.
  [[nodiscard]] bool flags_may_be_set() const { return walk_snoop_control(unit_) && entry_.pwsnp(); }

  /// "Second-Stage Translation": every walk through SSPTPTR.
  [[nodiscard]] Stage second_stage_walk(std::uint64_t address, const Access& access) const {
    for (unsigned pass = 0; pass < passes; ++pass)
      if (const std::optional<Stage> stage = second_stage_pass(address, access)) return *stage;
    return blocked(0x7D);
  }

  /// Nothing when one entry was changed each time.
  [[nodiscard]] std::optional<Stage> second_stage_pass(std::uint64_t address, const Access& access) const {
    std::uint64_t table = entry_.ssptptr();
    bool may_read = true;
    bool may_write = true;
    for (unsigned level = entry_.second_levels(); level >= 1; --level) {
      const std::uint64_t slot = slot_of(table, address, level);
      unsigned attempt = 0;
      for (; attempt < attempts_per_entry; ++attempt) {
        const std::optional<std::uint64_t> word = read_word_(slot);
        if (!word) return blocked(level == entry_.second_levels() ? 0x7B : 0x78);
        std::uint64_t entry = *word;
        if (!bit(entry, 0) && !bit(entry, 1)) return blocked(0x79);
        if (second_stage_reserved_bit_set(entry, level)) return blocked(0x7A);
        const bool read_here = may_read && bit(entry, 0);
        const bool write_here = may_write && bit(entry, 1);
        const bool is_page = level == 1 || bit(entry, 7);

        std::uint8_t denied = 0;
        if (!read_here && !write_here)
          denied = 0x79;
        else if (access.write && !write_here)
          denied = 0x85;
        else if (access.read && !readable(access, read_here, write_here))
          denied = 0x86;
        if (entry_.ssade() && denied == 0) {
          std::uint64_t used = entry | 1U << 8;
          if (is_page && access.write) used |= 1U << 9;
          if (used != entry) {
            if (!flags_may_be_set()) return blocked(0x7C);
            const Exchanged how = exchange_word_(slot, entry, used);
            if (how == Exchanged::no_memory) return blocked(0x7D);
            if (how == Exchanged::lost) continue;
            entry = used;
          }
        }
        may_read = read_here;
        may_write = write_here;
        table = entry_address(entry);
        if (!is_page) break;
        Stage stage = blocked(denied);
        stage.read = may_read;
        stage.write = may_write;
        stage.dirty = !entry_.ssade() || bit(entry, 9);
        stage.page_mask = page_mask_of(level);
        stage.address = table + (address & stage.page_mask);
        return stage;
      }
      if (attempt == attempts_per_entry) return std::nullopt;
    }
    return std::nullopt;  // not reached: an entry of level 1 is a page or a fault
  }

  [[nodiscard]] bool second_stage_reserved_bit_set(std::uint64_t entry, unsigned level) const {
    if (bit(entry, 62) || any_set(entry, 51, unit_.haw)) return true;
    const bool large = level > 1 && bit(entry, 7);
    if (large && level > 3) return true;
    if (large && level == 3) {
      if (!second_stage_1g(unit_) || any_set(entry, 29, 12)) return true;
    } else if (large) {
      if (!second_stage_2m(unit_) || any_set(entry, 20, 12)) return true;
    }
    return bit(entry, 11) && !((large || level == 1) && snoop_control(unit_));
  }

  /// Where an entry of the first stage lies, and whether it may be written there.
  struct Place {
    std::uint8_t reason = 0;
    std::uint64_t gpa = 0;
    bool writable = true;
  };
  [[nodiscard]] Place place_of(std::uint64_t address, bool is_top) const {
    if (entry_.kind() != by_both) return {0, address, true};
    const Access access{true, entry_.ssade(), false, false};  // with flags an access to an entry is a write, too
    const Stage stage = second_stage_walk(address, access);
    if (stage.reason == 0x85 || stage.reason == 0x86) return {static_cast<std::uint8_t>(is_top ? 0x75 : 0x76)};
    return {stage.reason, stage.address, stage.write};
  }

  /// "First-Stage Translation", "Nested Translation".
  [[nodiscard]] Stage first_stage_walk(const Access& access) {
    for (unsigned pass = 0; pass < passes; ++pass)
      if (const std::optional<Stage> stage = first_stage_pass(access)) return *stage;
    return blocked(0x91);
  }

  [[nodiscard]] std::optional<Stage> first_stage_pass(const Access& access) {
    const unsigned top = entry_.first_levels();
    std::uint64_t table = entry_.fsptptr();
    bool all_user = true;
    bool all_writable = true;
    for (unsigned level = top; level >= 1; --level) {
      const std::uint64_t slot = slot_of(table, request_.iova, level);
      if (last_slot_ != slot) last_place_ = place_of(slot, level == top);  // an entry asked for again lies where it lay
      last_slot_ = slot;
      const Place place = last_place_;
      if (place.reason != 0) return blocked(place.reason);
      unsigned attempt = 0;
      for (; attempt < attempts_per_entry; ++attempt) {
        const std::optional<std::uint64_t> word = read_word_(place.gpa);
        if (!word) return blocked(level == top ? 0x73 : 0x70);
        std::uint64_t entry = *word;
        if (!bit(entry, 0)) return blocked(0x71);
        if (first_stage_reserved_bit_set(entry, level)) return blocked(0x72);
        const bool is_page = level == 1 || bit(entry, 7);
        std::uint64_t address = entry_address(entry);
        if (is_page) address -= address & page_mask_of(level);  // PAT of a large page lies there
        if (entry_.kind() == by_both && address > highest_input(unit_, entry_.aw())) return blocked(0x74);

        const bool user_here = all_user && bit(entry, 2);
        const bool writable_here = all_writable && bit(entry, 1);
        const bool may_read = access.supervisor || user_here;
        const bool may_write = access.supervisor ? writable_here || !entry_.wpe() : user_here && writable_here;
        const std::uint8_t denied = !may_read ? 0x81 : access.write && !may_write ? 0x85 : 0;
        if (denied == 0) {
          std::uint64_t used = entry | 1U << 5;
          if (entry_.eafe()) used |= 1U << 10;
          if (is_page && access.write) used |= 1U << 6;
          if (used != entry) {
            if (!flags_may_be_set()) return blocked(0x90);
            if (!place.writable) return blocked(0x77);
            const Exchanged how = exchange_word_(place.gpa, entry, used);
            if (how == Exchanged::no_memory) return blocked(0x91);
            if (how == Exchanged::lost) continue;
            entry = used;
          }
        }
        all_user = user_here;
        all_writable = writable_here;
        table = address;
        if (!is_page) break;
        Stage stage = blocked(denied);
        stage.read = may_read;
        stage.write = may_write;
        stage.dirty = bit(entry, 6);
        stage.page_mask = page_mask_of(level);
        stage.address = address + (request_.iova & stage.page_mask);
        return denied == 0 && entry_.kind() == by_both ? behind_second_stage(stage, access) : stage;
      }
      if (attempt == attempts_per_entry) return std::nullopt;
    }
    return std::nullopt;  // not reached
  }

  [[nodiscard]] bool first_stage_reserved_bit_set(std::uint64_t entry, unsigned level) const {
    if (any_set(entry, 51, unit_.haw)) return true;
    if (!bit(entry, 7) || level == 1) return false;
    if (level == 2) return any_set(entry, 20, 13);
    return level > 3 || !first_stage_1g(unit_) || any_set(entry, 29, 13);
  }

  /// The page that a nested request comes out at: both stages have to grant it.
  [[nodiscard]] Stage behind_second_stage(const Stage& first, const Access& access) const {
    Stage page = second_stage_walk(first.address, access);
    page.read = page.read && first.read;
    page.write = page.write && first.write;
    page.dirty = page.dirty && first.dirty;
    page.page_mask = std::min(page.page_mask, first.page_mask);
    if (page.reason == 0 && access.read && !readable(access, page.read, page.write)) page.reason = 0x86;
    return page;
  }

  const Unit& unit_;
  const ReadWord& read_word_;
  const ExchangeWord& exchange_word_;
  const Request& request_;
  Asks asks_;
  bool fault_disable_ = false;
  std::uint64_t table_ = 0;  // the structure that is looked into next
  std::uint32_t pasid_ = 0;
  bool supervisor_ = false;
  Entry entry_;
  std::optional<std::uint64_t> last_slot_;
  Place last_place_;
};

/// "Fault Conditions and Remapping Hardware Behavior", column of translation requests.
Completion::Status status_of(std::uint8_t reason) {
  switch (reason) {
    case 0x31:
    case 0x33:
    case 0x34:
    case 0x39:
    case 0x41:
    case 0x44:
    case 0x45:
    case 0x46:
    case 0x48:
    case 0x89: return Completion::unsupported_request;
    case 0x51:
    case 0x59:
    case 0x5C:
    case 0x5D:
    case 0x79:
    case 0x80:
    case 0x81:
    case 0x83:
    case 0x84:
    case 0x85:
    case 0x86:
    case 0x90:
    case 0x91: return Completion::success;
    default:   return reason >= 0x70 && reason <= 0x77 ? Completion::success : Completion::completer_abort;
  }
}

}  // namespace

Completion translate_for_device(const Unit& unit, const ReadWord& read_word, const ExchangeWord& exchange_word,
                                const Request& request) {
  Completion completion;
  if (!unit.translation_enabled) {
    completion.status = Completion::unsupported_request;
    return completion;
  }
  if (!request.pasid && in_interrupt_range(request.iova)) {  // S.1, S.2
    completion.write = completion.untranslated_only = request.write;
    completion.gpa = request.iova;
    return completion;
  }
  const Answer answer = Translation{unit, read_word, exchange_word, request, Asks::for_translation}.answer();
  completion.privileged = request.pasid && request.privileged;
  if (answer.kind == Answer::fault) {
    completion.reason = answer.reason;
    completion.status = status_of(answer.reason);
    completion.reported = answer.reported && (completion.status != Completion::success || answer.reason == 0x91);
    return completion;
  }
  completion.gpa = answer.gpa;
  completion.read = request.read && answer.read;
  completion.write = request.write && answer.write;
  return completion;
}

namespace {
Answer admission(const Unit& unit, const ReadWord& read_word, const Request& request, Asks asks) {
  const ExchangeWord no_exchange = [](std::uint64_t, std::uint64_t, std::uint64_t) { return Exchanged::no_memory; };
  return Translation{unit, read_word, no_exchange, request, asks}.admission();
}
}  // namespace

Answer check_translated(const Unit& unit, const ReadWord& read_word, const Request& request) {
  return admission(unit, read_word, request, Asks::to_go_translated);
}

Answer admit_page_request(const Unit& unit, const ReadWord& read_word, const Request& request) {
  return admission(unit, read_word, request, Asks::for_page);
}

Answer translate_scalable(const Unit& unit, const ReadWord& read_word, const ExchangeWord& exchange_word,
                          const Request& request) {
  return Translation{unit, read_word, exchange_word, request}.answer();
}

}  // namespace viommu::oracle
