// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// A front end that keeps mappings itself, with devices and consumers, and no queue around it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <vector>

#include "engine/consumer/consumers.hpp"
#include "tests/consumer/model_sink.hpp"
#include "tests/core/test_waist.hpp"
#include "tests/support/mirror_model.hpp"

namespace viommu::test {

constexpr std::uint64_t page_4k = 0x1000;
constexpr std::uint64_t mib_2 = 0x20'0000;
constexpr std::uint64_t gib_1 = 0x4000'0000;
/// Memory: 4 GiB of RAM that can be written, a BAR behind it, and a hole up to some ROM.
constexpr std::uint64_t ram_base = gib_1;
constexpr std::uint64_t bar_base = 5 * gib_1;
constexpr std::uint64_t bar_bytes = mib_2;
constexpr std::uint64_t rom_base = 6 * gib_1;
constexpr std::uint64_t rom_bytes = 16 * page_4k;

/// Mappings by domain, in a tree by their last address.
class FakeStore {
 public:
  using Domain = std::map<std::uint64_t, core::StoredMapping>;

  [[nodiscard]] core::MappingStore functions() {
    core::MappingStore store;
    store.opaque = this;
    store.first_from = [](void* self, DomainId domain, Iova iova, core::StoredMapping& found) noexcept {
      auto& of = *static_cast<FakeStore*>(self);
      ++of.questions;
      const Domain& mappings = of.domains[domain.value];
      const auto next = mappings.lower_bound(iova.value);
      if (next == mappings.end()) return false;
      found = next->second;
      return true;
    };
    return store;
  }
  void map(std::uint16_t domain, std::uint64_t iova, std::uint64_t bytes, std::uint64_t gpa, unsigned rights = 3) {
    const std::uint64_t last = iova + (bytes - 1);
    domains[domain][last] = {{{iova}, {last}}, {gpa}, Rights::in(rights), false};
  }
  void unmap(std::uint16_t domain, std::uint64_t first, std::uint64_t last) {
    std::erase_if(domains[domain], [&](const auto& mapping) {
      return mapping.second.range.first.value <= last && mapping.second.range.last.value >= first;
    });
  }

  std::map<std::uint16_t, Domain> domains;
  std::uint64_t questions = 0;  ///< asked of first_from()
};

struct KeptWorld {
  explicit KeptWorld(std::size_t subscriptions = 16, bool in_place = false) : moves_in_place{in_place} {
    REQUIRE(consumers.reset(subscriptions) == consumer::Result::ok);
    REQUIRE(waist.add(ram_base, 4 * gib_1) == core::RegionResult::ok);
    REQUIRE(waist->add_region({{{bar_base}, {bar_base + bar_bytes - 1}}, nullptr, false, true}) ==
            core::RegionResult::ok);
    REQUIRE(waist->add_region({{{rom_base}, {rom_base + rom_bytes - 1}}, nullptr, true}) == core::RegionResult::ok);
    settle();
  }
  KeptWorld(const KeptWorld&) = delete;
  KeptWorld& operator=(const KeptWorld&) = delete;

  /// The device is in the domain from now on; 0: in none.
  void attach(std::uint16_t source, std::uint16_t domain) {
    contents[source] = content(domain);
    REQUIRE(consumers.add_device({source}, false) == consumer::Result::ok);
    settle();
  }
  void settle() {
    static_cast<void>(consumers.regions_told());
    consumers.finish();
    waist->reclaim_regions(consumers.regions_told());
  }
  /// The consumer joins and has what is there.
  void join(std::uint16_t source, MirrorModel& model, std::uint64_t unit_bytes = 0, std::uint64_t quota = 1 << 20) {
    consumer::Subscription wanted;
    wanted.sink = consumer::sink_of(model);
    wanted.declared = consumer::declared_by(model.consumer.declares, unit_bytes);
    wanted.range = {{model.consumer.first}, {model.consumer.last}};
    wanted.quota = quota;
    REQUIRE(consumers.subscribe({source}, wanted, model.id) == consumer::Result::ok);
    REQUIRE(consumers.replay(model.id) == consumer::Result::ok);
    settle();
  }
  /// MAP and UNMAP as a front end carries them out: all, or nothing. @return whether it was done
  bool map(std::uint16_t domain, std::uint64_t iova, std::uint64_t bytes, std::uint64_t gpa, unsigned rights = 3) {
    store.map(domain, iova, bytes, gpa, rights);
    return agreed(domain, iova, iova + (bytes - 1), false, [&] { store.unmap(domain, iova, iova + (bytes - 1)); });
  }
  bool unmap(std::uint16_t domain, std::uint64_t first, std::uint64_t last) {
    const FakeStore::Domain before = store.domains[domain];
    store.unmap(domain, first, last);
    return agreed(domain, first, last, true, [&] { store.domains[domain] = before; });
  }
  [[nodiscard]] static consumer::Content content(std::uint16_t domain) {
    if (domain == 0) return {consumer::View::blocked, {}};
    caches::AddressSpaceKey key;
    key.domain = {domain};
    key.interpretation = caches::Interpretation::mappings;
    key.last = {~std::uint64_t{0}};
    return {consumer::View::translated, key};
  }
  [[nodiscard]] std::uint64_t mappings_of(const MirrorModel& model) { return mirror(model).figures().mappings; }
  [[nodiscard]] std::uint64_t bytes_of(const MirrorModel& model) { return mirror(model).figures().bytes; }
  [[nodiscard]] consumer::Mirror& mirror(const MirrorModel& model) {
    consumer::Mirror* const found = consumers.find(model.id);
    REQUIRE(found != nullptr);
    return *found;
  }

  bool moves_in_place;
  /// What the last refused request came to when everything was put back.
  bool restored = true;
  FakeStore store;
  TestWaist waist;
  std::map<std::uint16_t, consumer::Content> contents;  ///< by source
  consumer::Consumers consumers{waist.waist, waist.marked, front_end()};

 private:
  template <class PutBack>
  bool agreed(std::uint16_t domain, std::uint64_t first, std::uint64_t last, bool gone, const PutBack& put_back) {
    const IovaRange range{{first}, {last}};
    if (consumers.mappings_changed({domain}, range, gone)) return true;
    put_back();
    restored = consumers.mappings_changed({domain}, range, gone);
    return false;
  }
  [[nodiscard]] consumer::FrontEnd front_end() {
    consumer::FrontEnd front_end;
    front_end.opaque = this;
    front_end.content_of = [](void* self, SourceId source) noexcept {
      return static_cast<KeptWorld*>(self)->contents[source.value];
    };
    front_end.last_address = {low_bits(48)};
    front_end.announces = true;
    front_end.moves_in_place = moves_in_place;
    front_end.store = store.functions();
    return front_end;
  }
};

}  // namespace viommu::test
