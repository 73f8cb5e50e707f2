// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What a guest driver does to the registers and the invalidation queue of a VT-d unit.
#pragma once

#include <cstdint>
#include <optional>
#include <viommu/viommu.hpp>

#include "tests/support/guest_tables.hpp"

namespace viommu::test {

/// A fault recording register as the guest reads it.
struct FaultRecord {
  std::uint64_t low = 0;
  std::uint64_t high = 0;
  friend bool operator==(const FaultRecord&, const FaultRecord&) = default;
};

/// As the invalidation registers encode it; `narrow` is device for contexts, page for translations.
enum class Granularity : std::uint8_t { global = 1, domain = 2, narrow = 3 };

/// Drives one unit; used by one thread at a time. Loops that wait for the unit call process() and end the test when the
/// unit makes no progress for `patience` rounds.
class VtdDriver {
 public:
  /// @param queue_page  page for a queue of 256 descriptors; status_word: a word for wait descriptors
  VtdDriver(Engine& engine, Words words, std::uint64_t queue_page, std::uint64_t status_word);

  /// RTADDR, then SRTP.
  void set_root_table(std::uint64_t root_table);
  void enable_queue();
  /// Returns when GSTS shows it.
  void enable_translation(bool on);

  /// Puts a descriptor into the queue, without telling the unit.
  void add(std::uint64_t low, std::uint64_t high = 0);
  /// Adds a wait descriptor with a status write and moves the tail. The ticket is for completed().
  std::uint32_t submit();
  /// Whether the wait of that ticket (or a later one) has written its status.
  [[nodiscard]] bool completed(std::uint32_t ticket) const;
  /// process() until it is completed.
  void wait_for(std::uint32_t ticket);
  void submit_and_wait() { wait_for(submit()); }

  void add_page(std::uint16_t domain_id, std::uint64_t iova, unsigned address_mask = 0, bool leaf_only = false);
  void add_domain(std::uint16_t domain_id) { add(0x22 | std::uint64_t{domain_id} << 16); }
  void add_global() { add(0x12); }
  void add_context_global() { add(0x11); }
  void add_context_domain(std::uint16_t domain_id) { add(0x21 | std::uint64_t{domain_id} << 16); }
  void add_context_device(std::uint16_t domain_id, std::uint16_t source_id, unsigned function_mask = 0);

  /// The same through CCMD and IOTLB_REG, for a unit whose queue is off. Returns when the unit has cleared the request.
  void context_by_register(Granularity granularity, std::uint16_t domain_id = 0, std::uint16_t source_id = 0,
                           unsigned function_mask = 0);
  void iotlb_by_register(Granularity granularity, std::uint16_t domain_id = 0, std::uint64_t iova = 0,
                         unsigned address_mask = 0);

  /// The oldest pending fault, which it clears; nothing when none is pending.
  [[nodiscard]] std::optional<FaultRecord> take_fault();

 private:
  void command(std::uint64_t bits);
  void await(std::uint64_t offset, std::uint32_t size, std::uint64_t mask, std::uint64_t value);

  Engine* engine_;
  Words words_;
  std::uint64_t queue_;
  std::uint64_t status_;
  std::uint64_t tail_ = 0;
  std::uint64_t enabled_ = 0;  // level bits of GCMD
  std::uint32_t tickets_ = 0;
};

}  // namespace viommu::test
