// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Who has had what of the caches: counts by device and by domain, without a write that is shared on the way of a hit.
//
//   account   a pair of a source id and a domain id that cached contexts name
//   row       one reader's counts, by account; nobody else writes them
//   party     a device or a domain: what its accounts came to before they were given to other pairs, and what was
//             invalidated for it
//
//   hit       place of its context -> account -> one count of the reader's own row
//   figures   all rows, of the accounts of that device or domain, less what each account began with; and the party's
//
// Account 0 is everybody's who has none: nothing is counted by device then, or there are more pairs than accounts.
// An account whose last context has gone is kept for its pair, and given to another one only when there is no other and
// the readers are gone that may still count in it. A party without an account is kept as long as there is room: for at
// least twice as many as there are accounts.
#pragma once

#include "caches/epoch.hpp"
#include "engine/base/atomic.hpp"
#include "engine/base/bits.hpp"
#include "engine/base/host_memory.hpp"
#include "engine/base/ids.hpp"

#include <array>
#include <cstddef>
#include <cstdint>

namespace viommu::caches {

using Account = std::uint16_t;

/// What is counted in a row.
enum class Use : std::uint8_t { hits, walks, identities };
inline constexpr std::size_t uses = 3;
/// What a worker counts for a party.
enum class Dropped : std::uint8_t { contexts, whole, pages };
inline constexpr std::size_t kinds_dropped = 3;

/// One reader's counts.
class AccountRow {
 public:
  AccountRow() = default;
  AccountRow(Atomic<std::uint64_t>* counts, std::size_t accounts) noexcept : counts_{counts}, accounts_{accounts} {}

  /// Whether anything is counted.
  [[nodiscard]] explicit operator bool() const noexcept { return counts_ != nullptr; }
  void add(Use use, Account account, std::uint64_t amount = 1) const noexcept {
    Atomic<std::uint64_t>& count = counts_[static_cast<std::size_t>(use) * accounts_ + account];
    count.store(count.load(std::memory_order_relaxed) + amount, std::memory_order_relaxed);
  }
  [[nodiscard]] std::uint64_t get(Use use, Account account) const noexcept {
    return counts_[static_cast<std::size_t>(use) * accounts_ + account].load(std::memory_order_relaxed);
  }

 private:
  Atomic<std::uint64_t>* counts_ = nullptr;
  std::size_t accounts_ = 0;
};

/// Threads: rows by their readers, count_dropped() by one thread at a time, and both beside anything; the rest under
/// the lock of the context cache's owner.
class Accounts {
 public:
  /// @param pairs  that are told apart, at most `most_pairs`; 0: none
  [[nodiscard]] bool reset(const HostAllocator& allocator, std::size_t pairs, std::size_t readers,
                           Epochs& epochs) noexcept;
  static constexpr std::size_t most_pairs = 65'535;

  /// Nothing where there are no accounts.
  [[nodiscard]] AccountRow row(std::size_t reader) noexcept {
    return any() ? AccountRow{&counts_[reader * stride_], accounts_.size()} : AccountRow{};
  }
  [[nodiscard]] bool any() const noexcept { return accounts_.size() > 1; }

  /// For a context that names the pair, with one reference more. A domain id that comes into use again begins at 0.
  [[nodiscard]] Account acquire(SourceId source, DomainId domain) noexcept;
  /// @param ended  the guest has said that this context is no more; with its last one a domain's use ends
  void release(Account account, bool ended) noexcept;

  /// @return false when the party is not known: then meet() it, if it is to be counted
  bool count_dropped(SourceId source, Dropped kind, std::uint64_t amount = 1) noexcept {
    return count_dropped(devices_, source.value, kind, amount);
  }
  bool count_dropped(DomainId domain, Dropped kind, std::uint64_t amount = 1) noexcept {
    return count_dropped(domains_, domain.value, kind, amount);
  }
  /// Another domain has this id from now on: it begins at 0.
  void begin(DomainId domain) noexcept;
  /// Makes a party known that has no account yet, if there is room.
  void meet(SourceId source) noexcept { static_cast<void>(find_or_add(devices_, source.value)); }
  void meet(DomainId domain) noexcept { static_cast<void>(find_or_add(domains_, domain.value)); }

  struct Figures {
    std::array<std::uint64_t, uses> used{};
    std::array<std::uint64_t, kinds_dropped> dropped{};

    [[nodiscard]] std::uint64_t of(Use use) const noexcept { return used[static_cast<std::size_t>(use)]; }
    [[nodiscard]] std::uint64_t of(Dropped kind) const noexcept { return dropped[static_cast<std::size_t>(kind)]; }
  };
  [[nodiscard]] Figures of(SourceId source) const noexcept;
  [[nodiscard]] Figures of(DomainId domain) const noexcept;
  /// How often the domain id has come into use: what else is kept by domain id may be older.
  [[nodiscard]] std::uint32_t generation(DomainId domain) const noexcept;

  [[nodiscard]] std::size_t bytes() const noexcept {
    return counts_.bytes() + accounts_.bytes() + buckets_.bytes() + devices_.bytes() + domains_.bytes();
  }

 private:
  static constexpr std::uint32_t nobody = 0;  ///< no account: the first one is everybody's
  struct Pair {
    SourceId source;
    DomainId domain;
    std::uint32_t references = 0;
    std::uint32_t next = nobody;       ///< in its bucket
    std::uint32_t next_idle = nobody;  ///< in the list of those without a reference, oldest first
    std::uint32_t previous_idle = nobody;
    std::uint64_t idle_since = 0;  ///< epoch
    std::array<std::uint64_t, uses> began_with{};
  };
  struct Party {
    Atomic<std::uint32_t> id{0};  ///< one more than it; 0: free
    std::uint32_t contexts = 0;   ///< that name it now
    std::uint32_t accounts = 0;   ///< of it; with neither, its place may be another's
    bool ended = false;
    Atomic<std::uint32_t> generation{0};
    std::array<std::uint64_t, uses> settled{};
    std::array<Atomic<std::uint64_t>, kinds_dropped> dropped{};
  };
  using Parties = HostArray<Party>;

  [[nodiscard]] std::size_t bucket_of(SourceId source, DomainId domain) const noexcept;
  [[nodiscard]] static std::size_t first_place(const Parties& parties, std::uint16_t id) noexcept;
  /// Threads: any. Null where it is not there.
  [[nodiscard]] static const Party* find(const Parties& parties, std::uint16_t id) noexcept;
  /// Null when there is no place.
  [[nodiscard]] static Party* find_or_add(Parties& parties, std::uint16_t id) noexcept;
  static bool count_dropped(Parties& parties, std::uint16_t id, Dropped kind, std::uint64_t amount) noexcept;
  [[nodiscard]] std::uint32_t take_idle() noexcept;
  void remove_from_bucket(std::uint32_t account) noexcept;
  void remove_from_idle(std::uint32_t account) noexcept;
  /// What the rows hold of an account.
  [[nodiscard]] std::array<std::uint64_t, uses> sum_of(std::uint32_t account) const noexcept;
  /// Gives to the parties what was counted so far, where they want it.
  void settle(std::uint32_t account, Party* device, Party* domain) noexcept;
  void begin_anew(Party& domain, DomainId id) noexcept;
  template <class Belongs>
  [[nodiscard]] Figures figures(const Party* party, const Belongs& belongs) const noexcept;

  Epochs* epochs_ = nullptr;
  std::size_t readers_ = 0;
  std::size_t stride_ = 0;                   ///< counts of a row
  HostArray<Atomic<std::uint64_t>> counts_;  ///< row after row
  HostArray<Pair> accounts_;
  HostArray<std::uint32_t> buckets_;
  Parties devices_;
  Parties domains_;
  std::uint32_t used_ = 1;  ///< accounts that have ever had a pair, and the first
  std::uint32_t idle_first_ = nobody;
  std::uint32_t idle_last_ = nobody;
};

}  // namespace viommu::caches
