// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The invalidation queue read from the specification a second time: one descriptor after another, plain bits, plain
// numbers, nothing shared with the library. Everything that is drained is drained at once.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <utility>
#include <vector>

namespace viommu::fuzz {

class QueueModel {
 public:
  struct Unit {
    std::uint64_t cap = 0;
    std::uint64_t ecap = 0;
    unsigned haw = 0;
  };
  using Words = std::array<std::uint64_t, 4>;
  using Load = std::function<std::optional<std::uint64_t>(std::uint64_t gpa)>;
  using Accepts = std::function<bool(std::uint64_t gpa)>;

  struct Effect {
    enum Kind : std::uint8_t { store, message };
    Kind kind = store;
    std::uint64_t address = 0;
    std::uint64_t data = 0;
    friend bool operator==(const Effect&, const Effect&) = default;
  };
  struct Counts {
    std::uint64_t descriptors = 0;
    std::uint64_t contexts = 0;
    std::uint64_t global = 0;
    std::uint64_t parts = 0;  ///< of domains, of PASIDs, of pages
    std::uint64_t device_tlbs = 0;
    std::uint64_t interrupts = 0;
    std::uint64_t waits = 0;
    std::uint64_t dropped_stores = 0;
  };
  /// Translations that have to be gone now.
  struct Dropped {
    enum class Kind : std::uint8_t { all, domain, pages, pasid, pasid_pages };
    Kind kind = Kind::all;
    std::uint16_t domain = 0;
    std::uint32_t pasid = 0;
    std::uint64_t first = 0;
    std::uint64_t last = 0;
  };

  QueueModel(const Unit& unit, Load load, Accepts accepts)
      : unit_{unit}, load_{std::move(load)}, accepts_{std::move(accepts)} {}

  /// @param events  of errors, of completions: sent, not masked
  void reset(bool error_events, bool completion_events) {
    effects.clear();
    dropped.clear();
    counts_ = {};
    effects_before_drain_.reset();
    invalidated_ = enabled_ = stopped_ = completed_ = false;
    code_ = mode_ = 0;
    address_ = latched_ = head_ = tail_ = 0;
    error_events_ = error_events;
    completion_events_ = completion_events;
  }

  // ---- The guest ----
  void write_tail(std::uint64_t value) { tail_ = value & 0x7FFF0; }
  void write_address(std::uint64_t value) { address_ = value & (0xFFF | low_ones(unit_.haw)) & ~std::uint64_t{0x7F8}; }
  void set_root(std::uint64_t root_table_register) { mode_ = static_cast<unsigned>(root_table_register >> 10 & 3); }
  void enable(bool on) {
    if (on && !enabled_) latched_ = address_;
    if (!on) head_ = 0;
    enabled_ = on;
  }
  void write_fault_status(std::uint64_t value) {
    if ((value & 0x10) != 0) stopped_ = false;
  }
  void write_completion_status(std::uint64_t value) {
    if ((value & 1) != 0) completed_ = false;
  }

  // ---- What it sees ----
  [[nodiscard]] std::uint64_t head() const { return head_; }
  [[nodiscard]] bool stopped() const { return stopped_; }
  [[nodiscard]] unsigned code() const { return code_; }
  [[nodiscard]] bool completed() const { return completed_; }
  [[nodiscard]] const Counts& counts() const { return counts_; }
  std::vector<Effect> effects;
  std::vector<Dropped> dropped;

  [[nodiscard]] bool wide() const { return (latched_ & 0x800) != 0; }
  [[nodiscard]] bool enabled() const { return enabled_; }
  [[nodiscard]] std::uint64_t base() const { return latched_ & ~std::uint64_t{0xFFF}; }
  [[nodiscard]] std::uint64_t size() const { return std::uint64_t{0x1000} << (latched_ & 7); }
  [[nodiscard]] std::uint64_t entry_bytes() const { return wide() ? 32 : 16; }

  /// Of the effects of the last run(), those that nothing older may hold back.
  [[nodiscard]] std::size_t effects_before_drain() const { return effects_before_drain_.value_or(effects.size()); }

  /// Everything that is there to be done.
  void run() {
    effects_before_drain_.reset();
    invalidated_ = false;
    if (!enabled_ || stopped_ || head_ == tail_) return;
    if (const unsigned problem = queue_problem(); problem != 0) return stop(problem);
    while (head_ != tail_) {
      Words words{};
      for (std::uint64_t i = 0; i < entry_bytes() / 8; ++i) {
        const auto word = load_(base() + head_ + 8 * i);
        if (!word) return stop(2);
        words[i] = *word;
      }
      if (const unsigned problem = judge(words); problem != 0) return stop(problem);
      head_ = (head_ + entry_bytes()) % size();
      perform(words);
    }
  }

  /// The bits of a descriptor that may be set, for its type; all for a type that there is not.
  [[nodiscard]] Words allowed_bits(const Words& words) const {
    switch (type_of(words)) {
      case 1:  return {0x0003'FFFF'FFFF'0E3F, 0, 0, 0};
      case 2:  return {0x0000'0000'FFFF'0EFF, 0xFFFF'FFFF'FFFF'F07F, 0, 0};
      case 3:  return {0x0000'FFFF'001F'0E0F | (has(41) ? 0xFFF0'0000'0000'F000 : 0), 0xFFFF'FFFF'FFFF'F001, 0, 0};
      case 4:  return {0x0000'FFFF'F800'0E1F, 0, 0, 0};
      case 5:  return {0xFFFF'FFFF'0000'0E7F | (has(42) ? 0x80U : 0U), ~std::uint64_t{3}, 0, 0};
      case 6:  return {0x000F'FFFF'FFFF'0E3F, 0xFFFF'FFFF'FFFF'F07F, 0, 0};
      case 7:  return {0x000F'FFFF'FFFF'0E3F, 0, 0, 0};
      case 8:  return {0x000F'FFFF'FFFF'0FFF | (has(41) ? 0xFFF0'0000'0000'F000 : 0), 0xFFFF'FFFF'FFFF'F801, 0, 0};
      case 9:  return {0x000F'FFFF'FFFF'FE1F, 0xFFC, 0, 0};
      case 10: return {0x0000'0000'FFFF'0E3F, 0xFFFF'FFFF'FFFF'F0FF, 0, 0};
      default: return {~std::uint64_t{0}, ~std::uint64_t{0}, ~std::uint64_t{0}, ~std::uint64_t{0}};
    }
  }

 private:
  static std::uint64_t low_ones(unsigned count) { return count >= 64 ? ~std::uint64_t{0} : (1ULL << count) - 1; }
  [[nodiscard]] bool has(unsigned bit) const { return (unit_.ecap >> bit & 1) != 0; }
  [[nodiscard]] static unsigned type_of(const Words& words) {
    return static_cast<unsigned>((words[0] & 0xF) | (words[0] >> 9 & 7) << 4);
  }
  [[nodiscard]] static unsigned granularity(const Words& words) { return static_cast<unsigned>(words[0] >> 4 & 3); }
  [[nodiscard]] std::uint16_t domain_of(const Words& words) const {
    const unsigned bits = 4 + 2 * static_cast<unsigned>(unit_.cap & 7);
    return static_cast<std::uint16_t>(words[0] >> 16 & 0xFFFF & low_ones(bits));
  }

  [[nodiscard]] unsigned queue_problem() const {
    const bool scalable = has(43);
    const bool abort = has(52);
    if (mode_ == 2 || (mode_ == 1 && !scalable) || (mode_ == 3 && !abort)) return 7;
    if (wide() ? !scalable && !abort : mode_ != 0) return 5;
    if (tail_ % entry_bytes() != 0) return 6;
    return tail_ >= size() ? 1 : 0;
  }

  /// IQEI, 0 for a descriptor that can be done.
  [[nodiscard]] unsigned judge(const Words& words) const {
    const unsigned type = type_of(words);
    const bool wide_type = mode_ == 1 || mode_ == 3;
    bool exists = false;
    switch (type) {
      case 1:
      case 2:
      case 5:  exists = true; break;
      case 3:  exists = has(2); break;
      case 4:  exists = has(3); break;
      case 6:
      case 7:  exists = wide_type; break;
      case 8:  exists = wide_type && has(2); break;
      case 9:  exists = wide_type && has(29); break;
      case 10: exists = wide_type && has(55); break;
      default: break;
    }
    if (!exists) return 3;
    const Words allowed = allowed_bits(words);
    for (std::size_t i = 0; i < words.size(); ++i)
      if ((words[i] & ~allowed[i]) != 0) return 4;
    const unsigned g = granularity(words);
    const auto address_mask = static_cast<unsigned>(words[1] & 0x3F);
    switch (type) {
      case 1:
      case 10: return g == 0 ? 4 : 0;
      case 2:
        if (g != 3) return g == 0 ? 4 : 0;
        return (unit_.cap >> 39 & 1) == 0 || address_mask > (unit_.cap >> 48 & 0x3F) ? 4 : 0;
      case 4:  return (words[0] & 0x10) != 0 && (words[0] >> 27 & 0x1F) > (unit_.ecap >> 20 & 0xF) ? 4 : 0;
      case 6:  return g < 2 ? 4 : 0;
      case 7:  return g == 2 ? 4 : 0;
      default: return 0;
    }
  }

  void perform(const Words& words) {
    ++counts_.descriptors;
    const unsigned g = granularity(words);
    const auto pasid = static_cast<std::uint32_t>(words[0] >> 32 & 0xFFFFF);
    switch (type_of(words)) {
      case 1:
      case 7:
        ++counts_.contexts;
        invalidated_ = true;
        break;
      case 2:
        invalidated_ = true;
        if (g == 1) {
          ++counts_.global;
          dropped.emplace_back();
          break;
        }
        ++counts_.parts;
        if (g == 2)
          dropped.push_back({Dropped::Kind::domain, domain_of(words)});
        else
          drop_pages(Dropped::Kind::pages, words, 0,
                     words[1] & low_ones(static_cast<unsigned>(unit_.cap >> 16 & 0x3F) + 1));
        break;
      case 3:
      case 8: ++counts_.device_tlbs; break;
      case 4: ++counts_.interrupts; break;
      case 5: wait(words); break;
      case 6:
        invalidated_ = true;
        ++counts_.parts;
        if (g == 2)
          dropped.push_back({Dropped::Kind::pasid, domain_of(words), pasid});
        else
          drop_pages(Dropped::Kind::pasid_pages, words, pasid, words[1]);
        break;
      default: break;
    }
  }
  void drop_pages(Dropped::Kind kind, const Words& words, std::uint32_t pasid, std::uint64_t address) {
    const std::uint64_t inside = low_ones(12 + static_cast<unsigned>(words[1] & 0x3F));
    dropped.push_back({kind, domain_of(words), pasid, address & ~inside, address | inside});
  }
  void wait(const Words& words) {
    ++counts_.waits;
    if (invalidated_ && !effects_before_drain_) effects_before_drain_ = effects.size();
    if ((words[0] & 0x20) != 0) {
      const std::uint64_t address = words[1] & ~std::uint64_t{3} & low_ones(unit_.haw);
      if (accepts_(address))
        effects.push_back({Effect::store, address, words[0] >> 32});
      else
        ++counts_.dropped_stores;
    }
    if ((words[0] & 0x10) == 0 || completed_) return;
    completed_ = true;
    if (completion_events_) effects.push_back({Effect::message, 0xFEE0'2000, 0x55});
  }
  void stop(unsigned code) {
    stopped_ = true;
    code_ = code;
    if (error_events_) effects.push_back({Effect::message, 0xFEE0'1000, 0x44});
  }

  Unit unit_;
  Load load_;
  Accepts accepts_;
  Counts counts_;
  std::optional<std::size_t> effects_before_drain_;
  bool invalidated_ = false;
  bool error_events_ = false;
  bool completion_events_ = false;
  bool enabled_ = false;
  bool stopped_ = false;
  bool completed_ = false;
  unsigned code_ = 0;
  unsigned mode_ = 0;
  std::uint64_t address_ = 0;
  std::uint64_t latched_ = 0;
  std::uint64_t head_ = 0;
  std::uint64_t tail_ = 0;
};

}  // namespace viommu::fuzz
