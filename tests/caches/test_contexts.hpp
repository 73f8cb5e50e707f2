// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// A context cache over its address spaces, with two readers.
#pragma once

#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdint>

#include "caches/context_cache.hpp"
#include "tests/caches/test_epochs.hpp"

namespace viommu::test {

[[nodiscard]] inline caches::AddressSpaceKey key_of(unsigned domain) {
  return {{static_cast<std::uint16_t>(domain)},
          caches::Interpretation::second_stage,
          2,
          {0x1000 * std::uint64_t{domain}},
          {low_bits(48)}};
}
[[nodiscard]] inline SourceId source(unsigned id) { return {static_cast<std::uint16_t>(id)}; }
[[nodiscard]] inline caches::Scope of_source(unsigned id, unsigned ignored = 0) {
  return {caches::Scope::Kind::source_contexts, {}, all_iovas, source(id), static_cast<std::uint8_t>(ignored)};
}

class Contexts {
 public:
  explicit Contexts(std::size_t count = 64, const HostAllocator& host = {}, std::size_t space_count = 64,
                    std::size_t pasid_entries = 64) {
    REQUIRE(iotlb.reset(host, 16, 1, 1));
    REQUIRE(structures.reset(host, 16, 1, 1));
    REQUIRE(spaces.reset(host, space_count, 12, epochs.epochs, {&iotlb, &structures}));
    REQUIRE(accounts.reset(host, 0, 1, epochs.epochs));
    REQUIRE(contexts.reset(host, count, spaces, accounts, {pasid_entries, 1}));
  }
  caches::ContextCache* operator->() { return &contexts; }
  caches::ContextEntry insert(unsigned id, unsigned domain, bool fault_disable = false) {
    return contexts.insert(contexts.version(), source(id), key_of(domain), fault_disable);
  }
  caches::ContextEntry insert_pasid(unsigned id, std::uint32_t pasid, unsigned domain, bool fault_disable = false) {
    return contexts.insert(contexts.version(), caches::PasidKey{source(id), {pasid}}, key_of(domain), fault_disable);
  }
  [[nodiscard]] bool has(unsigned id) const { return static_cast<bool>(contexts.find(source(id))); }
  [[nodiscard]] bool has_pasid(unsigned id, std::uint32_t pasid) const {
    return static_cast<bool>(contexts.find(caches::PasidKey{source(id), {pasid}}));
  }
  /// The worker's round.
  void tidy() {
    static_cast<void>(epochs.scan());
    tidy_without_scan();
  }
  void tidy_without_scan() {
    if (!spaces.begin_sweep()) return;
    spaces.sweep_slice(0, spaces.sweep_groups());
    spaces.end_sweep();
  }
  TestEpochs<2> epochs;
  caches::Iotlb iotlb;
  caches::Iotlb structures;
  caches::AddressSpaces spaces;
  caches::Accounts accounts;
  caches::ContextCache contexts;
};

}  // namespace viommu::test
