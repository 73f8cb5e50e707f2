// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Counts by device and domain: pairs, their ends, and what is left when accounts are used again.
#include <catch2/catch.hpp>
#include <map>
#include <random>
#include <utility>
#include <vector>

#include "caches/accounts.hpp"
#include "tests/caches/test_epochs.hpp"
#include "tests/support/counting_allocator.hpp"

namespace viommu::caches {
namespace {

struct World {
  explicit World(std::size_t pairs, std::size_t readers = 2) { REQUIRE(accounts.reset({}, pairs, readers, clock())); }
  Epochs& clock() { return epochs.epochs; }
  Account acquire(unsigned source, unsigned domain) {
    return accounts.acquire({static_cast<std::uint16_t>(source)}, {static_cast<std::uint16_t>(domain)});
  }
  [[nodiscard]] std::uint64_t device(unsigned id, Use use = Use::hits) const {
    return accounts.of(SourceId{static_cast<std::uint16_t>(id)}).of(use);
  }
  [[nodiscard]] std::uint64_t domain(unsigned id, Use use = Use::hits) const {
    return accounts.of(DomainId{static_cast<std::uint16_t>(id)}).of(use);
  }

  test::TestEpochs<2> epochs;
  Accounts accounts;
};

}  // namespace

TEST_CASE("what readers count by account comes out by device and by domain", "[caches][accounts][S5.9]") {
  World world{8};
  const Account a7 = world.acquire(1, 7);
  const Account b7 = world.acquire(2, 7);
  const Account a8 = world.acquire(1, 8);
  CHECK(world.acquire(1, 7) == a7);
  const AccountRow one = world.accounts.row(0);
  const AccountRow other = world.accounts.row(1);
  one.add(Use::hits, a7, 5);
  other.add(Use::hits, a7);
  other.add(Use::hits, b7, 10);
  one.add(Use::walks, a8, 3);
  one.add(Use::identities, b7, 2);
  CHECK(world.device(1) == 6);
  CHECK(world.device(2) == 10);
  CHECK(world.domain(7) == 16);
  CHECK(world.domain(8) == 0);
  CHECK(world.device(1, Use::walks) == 3);
  CHECK(world.domain(8, Use::walks) == 3);
  CHECK(world.domain(7, Use::identities) == 2);
  CHECK(one.get(Use::hits, a7) == 5);
  CHECK(world.device(3) == 0);
}

TEST_CASE("an account is kept for its pair while it is not needed, and taken when the readers are gone",
          "[caches][accounts]") {
  World world{2};
  const AccountRow row = world.accounts.row(0);
  const Account first = world.acquire(1, 7);
  row.add(Use::hits, first, 3);
  world.accounts.release(first, false);
  CHECK(world.acquire(1, 7) == first);  // it comes back
  const Account second = world.acquire(2, 7);
  CHECK(second != 0);
  CHECK(world.acquire(3, 7) == 0);  // there is no third
  world.accounts.release(first, false);
  world.accounts.release(second, false);
  CHECK(world.acquire(3, 7) == 0);  // a reader may still count in either
  static_cast<void>(world.epochs.scan());
  const Account third = world.acquire(3, 7);
  CHECK(third == first);  // idle for longest
  row.add(Use::hits, third, 4);
  CHECK(world.device(1) == 3);
  CHECK(world.device(3) == 4);
  CHECK(world.domain(7) == 7);
  CHECK(world.acquire(2, 7) == second);
}

TEST_CASE("a domain id begins at 0 when it is used again, its devices go on", "[caches][accounts][S5.9]") {
  World world{8};
  const AccountRow row = world.accounts.row(0);
  const Account a = world.acquire(1, 7);
  const Account b = world.acquire(2, 7);
  row.add(Use::hits, a, 5);
  row.add(Use::hits, b, 6);
  static_cast<void>(world.accounts.count_dropped(DomainId{7}, Dropped::whole));
  static_cast<void>(world.accounts.count_dropped(SourceId{1}, Dropped::contexts));
  const std::uint32_t generation = world.accounts.generation(DomainId{7});
  world.accounts.release(a, true);
  CHECK(world.acquire(1, 7) == a);  // the other one still uses it
  CHECK(world.domain(7) == 11);
  world.accounts.release(a, true);
  world.accounts.release(b, false);  // evicted, say: nobody has said that it is over
  CHECK(world.acquire(1, 7) == a);
  CHECK(world.domain(7) == 11);
  world.accounts.release(a, true);
  CHECK(world.domain(7) == 11);  // still to be read
  CHECK(world.acquire(1, 7) == a);
  CHECK(world.domain(7) == 0);
  CHECK(world.accounts.of(DomainId{7}).of(Dropped::whole) == 0);
  CHECK(world.accounts.generation(DomainId{7}) != generation);
  row.add(Use::hits, a, 2);
  CHECK(world.domain(7) == 2);
  CHECK(world.device(1) == 7);
  CHECK(world.device(2) == 6);
  CHECK(world.accounts.of(SourceId{1}).of(Dropped::contexts) == 1);
}

TEST_CASE("what was counted without an account is no device's and no domain's, not those of number 0 either",
          "[caches][accounts][S5.9]") {
  World world{4};
  const Account account = world.acquire(0, 0);
  const AccountRow row = world.accounts.row(0);
  row.add(Use::hits, 0, 5);
  row.add(Use::hits, account, 2);
  CHECK(world.device(0) == 2);
  CHECK(world.domain(0) == 2);
}

TEST_CASE("drops of each kind are counted apart", "[caches][accounts][S5.9]") {
  World world{4};
  static_cast<void>(world.acquire(1, 7));
  for (std::size_t kind = 0; kind < kinds_dropped; ++kind) {
    CHECK(world.accounts.count_dropped(DomainId{7}, static_cast<Dropped>(kind), 10 + kind));
    CHECK(world.accounts.count_dropped(SourceId{1}, static_cast<Dropped>(kind), 20 + kind));
  }
  for (std::size_t kind = 0; kind < kinds_dropped; ++kind) {
    CHECK(world.accounts.of(DomainId{7}).of(static_cast<Dropped>(kind)) == 10 + kind);
    CHECK(world.accounts.of(SourceId{1}).of(static_cast<Dropped>(kind)) == 20 + kind);
  }
}

TEST_CASE("whoever has had no account has no counts", "[caches][accounts]") {
  World world{4};
  CHECK_FALSE(world.accounts.count_dropped(DomainId{7}, Dropped::pages, 3));
  CHECK(world.accounts.of(DomainId{7}).of(Dropped::pages) == 0);
  world.accounts.meet(DomainId{7});
  CHECK(world.accounts.count_dropped(DomainId{7}, Dropped::pages, 3));
  CHECK(world.accounts.of(DomainId{7}).of(Dropped::pages) == 3);
  static_cast<void>(world.acquire(1, 7));
  CHECK(world.accounts.of(DomainId{7}).of(Dropped::pages) == 3);
}

TEST_CASE("parties without an account make room for others", "[caches][accounts]") {
  World world{1};  // and places for two
  const AccountRow row = world.accounts.row(0);
  for (unsigned id = 1; id <= 40; ++id) {
    const Account account = world.acquire(id, 100 + id);
    REQUIRE(account != 0);
    row.add(Use::hits, account, id);
    CHECK(world.device(id) == id);
    CHECK(world.domain(100 + id) == id);
    world.accounts.release(account, true);
    static_cast<void>(world.epochs.scan());
  }
  CHECK(world.device(1) == 0);  // forgotten
}

TEST_CASE("without accounts all is counted in one", "[caches][accounts]") {
  World world{0};
  CHECK_FALSE(world.accounts.any());
  CHECK(world.acquire(1, 7) == 0);
  world.accounts.release(0, true);
  CHECK_FALSE(world.accounts.row(1));
  static_cast<void>(world.accounts.count_dropped(DomainId{7}, Dropped::pages));
  CHECK(world.device(1) == 0);
}

TEST_CASE("a reader's counts take lines of their own and no more of them than they need", "[caches][accounts][P6]") {
  for (const std::size_t pairs : {1U, 4U, 5U, 100U}) {
    const std::size_t more = 3;
    const std::size_t counts = (pairs + 1) * uses * sizeof(std::uint64_t);
    const std::size_t lines = (counts + (shared_line_bytes - 1)) / shared_line_bytes;
    CHECK(World{pairs, 2 + more}.accounts.bytes() - World{pairs, 2}.accounts.bytes() ==
          more * lines * shared_line_bytes);
  }
}

TEST_CASE("accounts that the host has no memory for are refused", "[caches][accounts][SEC-15]") {
  test::CountingAllocator host;
  test::TestEpochs<1> epochs;
  for (std::uint64_t k = 1; k <= 5; ++k) {
    host.fail_at(k);
    Accounts accounts;
    CHECK_FALSE(accounts.reset(host.functions(), 4, 2, epochs.epochs));
  }
  CHECK(host.open_blocks() == 0);
}

TEST_CASE("counts by device and domain are those of a ledger that forgets nothing", "[caches][accounts][property]") {
  std::mt19937_64 random{7};
  for (unsigned round = 0; round < 20; ++round) {
    const std::size_t pairs = 5 + random() % 40;  // room for all parties
    World world{pairs};
    std::map<unsigned, std::uint64_t> devices;
    std::map<unsigned, std::uint64_t> domains;
    std::map<unsigned, unsigned> contexts;  // that name a domain and are counted
    std::map<unsigned, bool> ended;
    std::vector<std::pair<Account, std::pair<unsigned, unsigned>>> held;
    for (unsigned step = 0; step < 4'000; ++step) {
      const auto source = static_cast<unsigned>(random() % 9);
      const auto domain = static_cast<unsigned>(random() % 7);
      switch (random() % 4) {
        case 0: {
          const Account account = world.acquire(source, domain);
          if (account == 0) break;
          if (contexts[domain]++ == 0 && ended[domain]) {
            domains[domain] = 0;
            ended[domain] = false;
          }
          held.push_back({account, {source, domain}});
          break;
        }
        case 1: {
          if (held.empty()) break;
          const std::size_t which = random() % held.size();
          const auto [account, pair] = held[which];
          held.erase(held.begin() + static_cast<std::ptrdiff_t>(which));
          const bool over = random() % 2 == 0;
          world.accounts.release(account, over);
          if (--contexts[pair.second] == 0 && over) ended[pair.second] = true;
          break;
        }
        case 2: static_cast<void>(world.epochs.scan()); break;
        default:
          if (held.empty()) break;
          const auto [account, pair] = held[random() % held.size()];
          const std::uint64_t amount = random() % 5;
          world.accounts.row(random() % 2).add(Use::hits, account, amount);
          devices[pair.first] += amount;
          domains[pair.second] += amount;
      }
      const bool same = world.device(source) == devices[source] && world.domain(domain) == domains[domain];
      if (!same) {
        CAPTURE(round, step, source, domain, pairs);
        REQUIRE(world.device(source) == devices[source]);
        REQUIRE(world.domain(domain) == domains[domain]);
      }
    }
  }
}

}  // namespace viommu::caches
