// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Which address space a request uses that goes by a PASID: set-associative, 8 words to a cache line, one line a lookup.
//
//   word   63:48 source id | 47:28 PASID | 27 privileged | 18:2 number of the address space
//          19 device-TLB | 1 faults are not recorded | 0 present
//
// Key and answer are one word: nothing can be torn, so the same code serves where 16-byte loads are not atomic, and a
// set holds twice as many entries as with pairs of words.
// Reader   K1 relaxed look at four words of the set: a hint which way -> K2 acquire load of that way, which decides;
//          then the same with the other four.
// Writer   under the owner's lock: K3 store the word, or zero. ContextCache has compared the version by then.
// Cost of a drop: a look at the table up to the last entry held, 8 a line.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "caches/accounts.hpp"
#include "caches/address_spaces.hpp"
#include "caches/context_entry.hpp"
#include "caches/scope.hpp"
#include "engine/base/atomic.hpp"
#include "engine/base/bits.hpp"
#include "engine/base/host_memory.hpp"
#include "engine/base/ids.hpp"

namespace viommu::caches {

struct PasidWord {
  std::uint64_t raw;
};
namespace pasid_word {
inline constexpr Field<PasidWord, bool> present{"P", {0, 0}};
inline constexpr Field<PasidWord, bool> fault_disable{"FPD", {1, 1}};
inline constexpr Field<PasidWord, std::uint32_t> space{"SPACE", {18, 2}};
inline constexpr Field<PasidWord, bool> device_tlb{"DTE", {19, 19}};
inline constexpr Field<PasidWord, unsigned> reserved{"Rsvd", {26, 20}, Rule::reserved};
inline constexpr Field<PasidWord, bool> privileged{"PR", {27, 27}};
inline constexpr Field<PasidWord, Pasid> pasid{"PASID", {47, 28}};
inline constexpr Field<PasidWord, SourceId> source{"SID", {63, 48}};
inline constexpr auto rows = layout(present, fault_disable, space, device_tlb, reserved, privileged, pasid, source);
inline constexpr std::uint64_t key_bits = mask_of(present, privileged, pasid, source);
}  // namespace pasid_word

/// What a request with a PASID is looked up by. A privileged one has an entry of its own, because its rights differ.
struct PasidKey {
  constexpr PasidKey(SourceId its_source, Pasid its_pasid, bool is_privileged = false) noexcept
      : source{its_source}, pasid{its_pasid}, privileged{is_privileged} {}

  SourceId source;
  Pasid pasid;  ///< of 20 bits; what is wider has no entry
  bool privileged;
};

struct PasidCacheSize {
  std::size_t entries = 0;  ///< 0, or a power of two from 8 to 65,536
  std::uint64_t hash_seed = 0;
};

/// Threads: find() from any thread, what it returns inside a guard; the rest under the owner's lock.
class PasidCache {
 public:
  [[nodiscard]] bool reset(const HostAllocator& allocator, const PasidCacheSize& size, AddressSpaces& spaces,
                           Accounts& accounts) noexcept;

  [[nodiscard]] ContextEntry find(const PasidKey& sought) const noexcept {
    if (sought.pasid.value > max_pasid) [[unlikely]]  // a word has no room for it, and must not be another one's
      return {};
    const PasidWord key = key_of(sought);
    const Set& set = sets_[set_of(key)];
    for (std::size_t first = 0; first != ways; first += ways_at_once) {
      const PasidWord word = set.words[way_of(set, first, key)].load(std::memory_order_acquire);  // K2
      if (has_key(word, key)) return entry_of(word);
    }
    return {};
  }

  /// As ContextCache::account(); 0 where the key has no entry now.
  [[nodiscard]] Account account(const PasidKey& sought) const noexcept {
    if (sought.pasid.value > max_pasid) return 0;
    const PasidWord key = key_of(sought);
    const std::size_t set = set_of(key);
    for (std::size_t way = 0; way < ways; ++way)
      if (has_key(sets_[set].words[way].load(std::memory_order_relaxed), key))
        return words_accounts_[set * ways + way].load(std::memory_order_relaxed);
    return 0;
  }

  /// @return the entry that is there already, or the new one; null when pools are used up: then nothing is cached.
  ContextEntry insert(const PasidKey& given, const AddressSpaceKey& key, ContextFlags flags) noexcept;
  void drop(const Scope& scope) noexcept;

  /// All places one by one, for who wants to see them: nothing where none is.
  struct Held {
    PasidKey key;
    ContextEntry entry;
  };
  [[nodiscard]] std::size_t places() const noexcept { return sets_.size() * ways; }
  [[nodiscard]] std::optional<Held> held_at(std::size_t place) const noexcept {
    const PasidWord word = sets_[place / ways].words[place % ways].load(std::memory_order_acquire);
    if (!get(word, pasid_word::present)) return {};
    return Held{{get(word, pasid_word::source), get(word, pasid_word::pasid), get(word, pasid_word::privileged)},
                entry_of(word)};
  }

  [[nodiscard]] std::size_t bytes() const noexcept { return sets_.bytes() + words_accounts_.bytes(); }

 private:
  static constexpr std::size_t ways = 8;
  /// Entries are put into the first free way, so most are found among these: 2.6 ns up to a quarter full and 4.2 half
  /// full, where all eight at once cost 4.5.
  static constexpr std::size_t ways_at_once = 4;
  static constexpr std::uint32_t max_pasid = low_half(low_bits(20));
  using Word = Atomic<PasidWord>;
  struct alignas(64) Set {
    std::array<Word, ways> words{};
  };
  static_assert(sizeof(Set) == 64);

  [[nodiscard]] static constexpr PasidWord key_of(const PasidKey& key) noexcept {
    PasidWord word{mask_of(pasid_word::present)};
    word = with(word, pasid_word::privileged, key.privileged);
    word = with(word, pasid_word::pasid, key.pasid);
    return with(word, pasid_word::source, key.source);
  }
  [[nodiscard]] static constexpr bool has_key(PasidWord word, PasidWord key) noexcept {
    return ((word.raw ^ key.raw) & pasid_word::key_bits) == 0;
  }
  /// The product's highest bits, which depend on every bit of the key; there are never more sets than they can tell.
  [[nodiscard]] std::size_t set_of(PasidWord key) const noexcept {
    constexpr unsigned most_set_bits = 13;
    return ((key.raw >> pasid_word::privileged.bits.low ^ seed_) * 0x9E3779B97F4A7C15 >> (64 - most_set_bits)) &
           set_mask_;
  }
  /// The way among those from `first` on that has the key, if one has it. A sum, so that the compiler makes no loop
  /// with a branch of it.
  [[nodiscard]] static std::size_t way_of(const Set& set, std::size_t first, PasidWord key) noexcept {
    const auto has = [&](std::size_t way) -> std::size_t {
      return has_key(set.words[first + way].load(std::memory_order_relaxed), key) ? way : 0;  // K1
    };
    return first + has(1) + has(2) + has(3);
  }
  [[nodiscard]] ContextEntry entry_of(PasidWord word) const noexcept {
    return {first_space_[get(word, pasid_word::space)],
            {get(word, pasid_word::fault_disable), get(word, pasid_word::device_tlb)}};
  }
  [[nodiscard]] bool names(const Scope& scope, PasidWord word) const noexcept;
  void unlink(std::size_t set, std::size_t way, bool ended) noexcept;

  HostArray<Set> sets_;                        ///< one that stays empty when there are to be no entries
  HostArray<Atomic<Account>> words_accounts_;  ///< of each word; empty without accounts
  AddressSpace* first_space_ = nullptr;
  std::uint64_t set_mask_ = 0;
  std::uint64_t seed_ = 0;
  // The owner's, under its lock:
  AddressSpaces* spaces_ = nullptr;
  Accounts* accounts_ = nullptr;
  std::size_t entries_ = 0;
  std::size_t held_ = 0;
  std::size_t next_victim_ = 0;
};

}  // namespace viommu::caches
