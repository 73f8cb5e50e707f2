// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What the guest's driver does to the unit: brings it up, and drops translations through its invalidation queue.
#pragma once

#include <atomic>
#include <cstdint>

#include "bench/peers/qemu_registers.hpp"
#include "bench/support/synthetic_guest.hpp"
#include "bench/support/translators.hpp"

namespace viommu::bench {

/// One for each translator, used by one thread at a time. A translator without registers does at once what it is told.
template <class Translator, class Guest = SyntheticGuest>
class GuestQueue {
 public:
  GuestQueue(const Guest& guest, Translator& translator) : guest_{guest}, translator_{translator} {
    if constexpr (HasRegisters<Translator>) {
      constexpr std::uint32_t translation = 1u << 31;
      constexpr std::uint32_t root_pointer = 1u << 30;
      constexpr std::uint32_t queue = 1u << 26;
      translator_.write(reg::root_table, 8, Guest::root_table);
      translator_.write(reg::global_command, 4, root_pointer);
      translator_.write(reg::queue_address, 8, Guest::queue | Guest::queue_order);
      translator_.write(reg::queue_tail, 8, 0);
      translator_.write(reg::global_command, 4, queue);
      translator_.write(reg::global_command, 4, queue | translation);
      translator_.process();
    }
  }

  /// With the hint that no table changed, as Linux gives it for an unmap that frees none.
  void drop_page(std::uint16_t domain, std::uint64_t iova) {
    if constexpr (HasRegisters<Translator>) {
      constexpr std::uint64_t tables_unchanged = 1u << 6;
      put(0x32 | std::uint64_t{domain} << 16, (iova & ~std::uint64_t{0xfff}) | tables_unchanged);
    } else {
      translator_.drop_page(domain, iova);
    }
  }
  void drop_domain(std::uint16_t domain) {
    if constexpr (HasRegisters<Translator>) {
      put(0x22 | std::uint64_t{domain} << 16, 0);
    } else {
      translator_.drop_domain(domain);
    }
  }
  /// The context entry of a device that used this domain.
  void drop_context(std::uint16_t domain, std::uint16_t source) {
    if constexpr (HasRegisters<Translator>) put(0x31 | std::uint64_t{domain} << 16 | std::uint64_t{source} << 32, 0);
  }
  /// A wait descriptor with a status write that finish() looks for.
  void wait() {
    if constexpr (HasRegisters<Translator>) {
      constexpr std::uint64_t status_write = 1u << 5;
      expected_ = next_status();
      put(5 | status_write | std::uint64_t{expected_} << 32, Guest::status_word);
    }
  }
  /// Tells the unit about everything put into the queue.
  void ring() {
    if constexpr (HasRegisters<Translator>) translator_.write(reg::queue_tail, 8, std::uint64_t{tail_} << 4);
  }
  /// Polls the status word of the last wait, as the guest does; the VMM goes on with the unit's work meanwhile.
  void finish() {
    if constexpr (HasRegisters<Translator>) {
      while (!finished()) translator_.process();
    }
  }

 private:
  /// Different for all queues, so that no one takes another's completion for its own.
  static std::uint32_t next_status() noexcept {
    static std::atomic<std::uint32_t> last{0};
    return last.fetch_add(1, std::memory_order_relaxed) + 1;
  }

  [[nodiscard]] bool finished() const noexcept {
    auto* const word = reinterpret_cast<std::uint32_t*>(&guest_.ram()[Guest::status_word]);
    return std::atomic_ref{*word}.load(std::memory_order_acquire) == expected_;
  }

  void put(std::uint64_t low, std::uint64_t high) noexcept {
    const std::uint64_t at = Guest::queue + 16 * std::uint64_t{tail_};
    guest_.store(at, low);
    guest_.store(at + 8, high);
    tail_ = (tail_ + 1) % Guest::queue_entries;
  }

  const Guest& guest_;
  Translator& translator_;
  std::uint32_t tail_ = 0;
  std::uint32_t expected_ = 0;
};

}  // namespace viommu::bench
