// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// How the guest of a case invalidates: by descriptors, or by registers where it has no queue.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "tests/qemu/dma.hpp"
#include "tests/qemu/pair.hpp"
#include "tests/support/random.hpp"

namespace viommu::qemu {

class Queue {
 public:
  Queue(Pair& pair, Rules& rules, bool queued) : pair_{pair}, rules_{rules}, queued_{queued} {}

  /// Registers of the queue, and perhaps its first descriptor; then QIE is to be set, and enabled() looks at it.
  /// @return false where the guest has no queue
  bool enable(test::Random& random);
  void enabled();
  /// Makes it empty behind a wait; then QIE is to be cleared.
  bool disable(test::Random& random);
  /// QIE as GCMD is to have it.
  [[nodiscard]] std::uint32_t command_bit() const noexcept { return enabled_ ? 0x0400'0000 : 0; }

  /// Some invalidations and a wait for them.
  void invalidate(test::Random& random);
  /// One that has to do with this page of this domain: what covers it, or is just beside it.
  void invalidate_about(test::Random& random, std::uint16_t domain, std::uint64_t iova);
  /// A descriptor with something wrong in it, or something that is seldom used; nothing where there is no queue.
  void odd_descriptor(test::Random& random);
  /// A tail that is not in the queue.
  void odd_tail(test::Random& random);

 private:
  struct Descriptor {
    std::uint64_t low = 0;
    std::uint64_t high = 0;
    std::function<void()> rule = nullptr;  ///< what it means for later DMA, once it is known to be complete
  };
  [[nodiscard]] Descriptor some_context_descriptor(test::Random& random);
  [[nodiscard]] Descriptor some_translation_descriptor(test::Random& random);
  [[nodiscard]] Descriptor some_odd_descriptor(test::Random& random);
  void add(const Descriptor& descriptor);
  /// Adds a wait with a status write and moves the tail.
  /// @return whether both sides have written the status
  bool submit(test::Random& random);
  [[nodiscard]] bool status_is(std::uint32_t value);
  void by_register(const Descriptor& chosen, test::Random& random);
  [[nodiscard]] Descriptor pages(std::uint16_t domain, std::uint64_t iova, unsigned mask, std::uint64_t drain);

  Pair& pair_;
  Rules& rules_;
  bool queued_;
  bool enabled_ = false;
  std::uint64_t bytes_ = 0;
  std::uint64_t tail_ = 0;  ///< bytes
  std::uint32_t waits_ = 0;
};

}  // namespace viommu::qemu
