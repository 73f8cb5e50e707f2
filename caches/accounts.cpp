// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "caches/accounts.hpp"

#include <algorithm>
#include <bit>

namespace viommu::caches {

bool Accounts::reset(const HostAllocator& allocator, std::size_t pairs, std::size_t readers, Epochs& epochs) noexcept {
  epochs_ = &epochs;
  readers_ = readers;
  const std::size_t accounts = pairs == 0 ? 0 : pairs + 1;
  constexpr std::size_t counts_a_line = shared_line_bytes / sizeof(std::uint64_t);
  stride_ = (accounts * uses + counts_a_line - 1) / counts_a_line * counts_a_line;
  const std::size_t parties = pairs == 0 ? 0 : std::bit_ceil(pairs * 2);
  return counts_.reset(allocator, stride_ * readers) && accounts_.reset(allocator, accounts) &&
         buckets_.reset(allocator, accounts == 0 ? 0 : std::bit_ceil(accounts)) && devices_.reset(allocator, parties) &&
         domains_.reset(allocator, parties);
}

Account Accounts::acquire(SourceId source, DomainId domain) noexcept {
  if (!any()) return 0;
  Party* const of_domain = find_or_add(domains_, domain.value);
  Party* const of_device = find_or_add(devices_, source.value);
  if (of_domain == nullptr || of_device == nullptr) return 0;
  std::uint32_t& bucket = buckets_[bucket_of(source, domain)];
  std::uint32_t account = bucket;
  while (account != nobody && !(accounts_[account].source == source && accounts_[account].domain == domain))
    account = accounts_[account].next;
  if (account == nobody) {
    account = used_ < accounts_.size() ? used_++ : take_idle();
    if (account == nobody) return 0;
    ++of_domain->accounts;
    ++of_device->accounts;
    Pair& pair = accounts_[account];
    pair.source = source;
    pair.domain = domain;
    pair.next = bucket;
    bucket = account;
  } else if (accounts_[account].references == 0) {
    remove_from_idle(account);
  }
  if (of_domain->contexts == 0 && of_domain->ended) begin_anew(*of_domain, domain);
  ++accounts_[account].references;
  ++of_domain->contexts;
  return static_cast<Account>(account);
}

void Accounts::release(Account account, bool ended) noexcept {
  if (account == 0) return;
  Pair& pair = accounts_[account];
  Party& domain = *find_or_add(domains_, pair.domain.value);  // it has a place since acquire()
  if (--domain.contexts == 0 && ended) domain.ended = true;
  if (--pair.references != 0) return;
  pair.idle_since = epochs_->advance();
  pair.previous_idle = idle_last_;
  pair.next_idle = nobody;
  (idle_last_ == nobody ? idle_first_ : accounts_[idle_last_].next_idle) = account;
  idle_last_ = account;
}

void Accounts::remove_from_idle(std::uint32_t account) noexcept {
  const Pair& pair = accounts_[account];
  (pair.previous_idle == nobody ? idle_first_ : accounts_[pair.previous_idle].next_idle) = pair.next_idle;
  (pair.next_idle == nobody ? idle_last_ : accounts_[pair.next_idle].previous_idle) = pair.previous_idle;
}

void Accounts::remove_from_bucket(std::uint32_t account) noexcept {
  const Pair& pair = accounts_[account];
  std::uint32_t* link = &buckets_[bucket_of(pair.source, pair.domain)];
  while (*link != account) link = &accounts_[*link].next;  // acquire() put it there
  *link = pair.next;
}

/// The one that has been idle for longest, if no reader can count in it any more.
std::uint32_t Accounts::take_idle() noexcept {
  const std::uint32_t account = idle_first_;
  if (account == nobody || !epochs_->passed(accounts_[account].idle_since)) return nobody;
  const Pair& pair = accounts_[account];
  Party* const device = find_or_add(devices_, pair.source.value);
  Party* const domain = find_or_add(domains_, pair.domain.value);
  settle(account, device, domain);
  --device->accounts;
  --domain->accounts;
  remove_from_idle(account);
  remove_from_bucket(account);
  return account;
}

std::array<std::uint64_t, uses> Accounts::sum_of(std::uint32_t account) const noexcept {
  std::array<std::uint64_t, uses> sum{};
  for (std::size_t reader = 0; reader < readers_; ++reader)
    for (std::size_t use = 0; use < uses; ++use)
      sum[use] += counts_[reader * stride_ + use * accounts_.size() + account].load(std::memory_order_relaxed);
  return sum;
}

void Accounts::settle(std::uint32_t account, Party* device, Party* domain) noexcept {
  const std::array now = sum_of(account);
  std::array<std::uint64_t, uses>& before = accounts_[account].began_with;
  for (std::size_t use = 0; use < uses; ++use) {
    const std::uint64_t since = now[use] - before[use];
    if (device != nullptr) device->settled[use] += since;
    if (domain != nullptr) domain->settled[use] += since;
  }
  before = now;
}

void Accounts::begin_anew(Party& domain, DomainId id) noexcept {
  for (std::uint32_t account = 1; account < used_; ++account)
    if (accounts_[account].domain == id)
      settle(account, find_or_add(devices_, accounts_[account].source.value), nullptr);
  domain.ended = false;
  domain.settled = {};
  for (Atomic<std::uint64_t>& count : domain.dropped) count.store(0, std::memory_order_relaxed);
  domain.generation.fetch_add(1, std::memory_order_relaxed);
}

void Accounts::begin(DomainId domain) noexcept {
  if (find(domains_, domain.value) != nullptr) begin_anew(*find_or_add(domains_, domain.value), domain);
}

std::size_t Accounts::bucket_of(SourceId source, DomainId domain) const noexcept {
  const std::uint32_t both = std::uint32_t{source.value} << 16 | domain.value;
  return (both * 0x9E3779B1U >> 7) & (buckets_.size() - 1);
}

std::size_t Accounts::first_place(const Parties& parties, std::uint16_t id) noexcept {
  return (id * 0x9E3779B1U >> 7) & (parties.size() - 1);
}

namespace {
/// Half of the places stay free, so nearly all are found at once; it bounds what a full neighbourhood costs.
constexpr std::size_t most_probes = 64;
}  // namespace

const Accounts::Party* Accounts::find(const Parties& parties, std::uint16_t id) noexcept {
  if (parties.size() == 0) return nullptr;
  const std::size_t first = first_place(parties, id);
  for (std::size_t i = 0; i < std::min(most_probes, parties.size()); ++i) {
    const Party& party = parties[(first + i) & (parties.size() - 1)];
    const std::uint32_t found = party.id.load(std::memory_order_relaxed);
    if (found == id + 1U) return &party;
    if (found == 0) return nullptr;
  }
  return nullptr;
}

Accounts::Party* Accounts::find_or_add(Parties& parties, std::uint16_t id) noexcept {
  const std::size_t first = first_place(parties, id);
  Party* place = nullptr;
  for (std::size_t i = 0; i < std::min(most_probes, parties.size()); ++i) {
    Party& party = parties[(first + i) & (parties.size() - 1)];
    const std::uint32_t found = party.id.load(std::memory_order_relaxed);
    if (found == id + 1U) return &party;
    if (found == 0) {
      place = &party;
      break;
    }
    if (place == nullptr && party.contexts == 0 && party.accounts == 0) place = &party;
  }
  if (place == nullptr) return nullptr;
  place->ended = false;
  place->settled = {};
  for (Atomic<std::uint64_t>& count : place->dropped) count.store(0, std::memory_order_relaxed);
  place->generation.fetch_add(1, std::memory_order_relaxed);
  place->id.store(id + 1U, std::memory_order_relaxed);
  return place;
}

bool Accounts::count_dropped(Parties& parties, std::uint16_t id, Dropped kind, std::uint64_t amount) noexcept {
  const Party* const party = find(parties, id);
  if (party == nullptr) return false;
  auto& count = parties[static_cast<std::size_t>(party - parties.begin())].dropped[static_cast<std::size_t>(kind)];
  count.fetch_add(amount, std::memory_order_relaxed);  // begin_anew() writes it too
  return true;
}

template <class Belongs>
Accounts::Figures Accounts::figures(const Party* party, const Belongs& belongs) const noexcept {
  Figures figures;
  if (party == nullptr) return figures;
  figures.used = party->settled;
  for (std::size_t kind = 0; kind < kinds_dropped; ++kind)
    figures.dropped[kind] = party->dropped[kind].load(std::memory_order_relaxed);
  for (std::uint32_t account = 1; account < used_; ++account) {
    if (!belongs(accounts_[account])) continue;
    const std::array now = sum_of(account);
    for (std::size_t use = 0; use < uses; ++use) figures.used[use] += now[use] - accounts_[account].began_with[use];
  }
  return figures;
}

Accounts::Figures Accounts::of(SourceId source) const noexcept {
  return figures(find(devices_, source.value), [source](const Pair& pair) { return pair.source == source; });
}

Accounts::Figures Accounts::of(DomainId domain) const noexcept {
  return figures(find(domains_, domain.value), [domain](const Pair& pair) { return pair.domain == domain; });
}

std::uint32_t Accounts::generation(DomainId domain) const noexcept {
  const Party* const party = find(domains_, domain.value);
  return party == nullptr ? 0 : party->generation.load(std::memory_order_relaxed);
}

}  // namespace viommu::caches
