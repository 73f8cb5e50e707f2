// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Page requests of devices on their way into the guest's queue, and the guest's answers on their way back. Source:
// VT-d, "Page Requests" and "Page Group Response Descriptor".
//
//   device thread  post(): tables say whether it may ask -> a place in `posted_`, or an answer at once
//   the role       write_posted(): what was cached for the page goes -> descriptor -> PQT, PPR -> event
//                  respond(): the group's last request is answered, once
//
// A device's thread writes no guest memory and the order of the queue is that of posted_, so a wait that asks for it
// (PD) finds every request that was received written.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "caches/address_spaces.hpp"
#include "engine/base/atomic.hpp"
#include "engine/core/host.hpp"
#include "engine/core/waist.hpp"
#include "engine/vtd/dma.hpp"
#include "engine/vtd/invalidation.hpp"
#include "engine/vtd/page_groups.hpp"
#include "engine/vtd/registers.hpp"

namespace viommu::vtd {

struct PageRequest {
  SourceId source;
  Iova address;  ///< its page
  Rights asked;
  std::optional<Pasid> pasid;
  bool privileged = false;
  bool execute = false;
  unsigned group = 0;  ///< PRGI, 9 bits
  bool last = false;   ///< LPIG: the one that is answered
};

enum class PagePosted : std::uint8_t {
  queued,   ///< the answer comes from the guest
  success,  ///< answered at once, because the queue has no place: the device asks again when it must
  invalid,  ///< answered at once: blocked
  dropped,  ///< as either of them, and there is no answer because it is not the last of its group
};

/// Threads: post() from any thread inside a guard of its reader; the rest by the unit's worker.
class PageRequests {
 public:
  PageRequests(core::Waist& waist, Registers& registers, Dma& dma, const core::Host& host) noexcept
      : waist_{waist}, registers_{registers}, dma_{dma}, host_{host} {}

  [[nodiscard]] PagePosted post(core::Reader& reader, const PageRequest& request) noexcept;

  /// Whether something was posted that is not written yet, without the lock: whoever posts asks for the role's work
  /// afterwards, and is heard by it. Threads: any.
  [[nodiscard]] bool any_posted() const noexcept { return any_posted_.load(std::memory_order_relaxed); }
  /// Writes what was posted by now: a bounded number.
  void write_posted() noexcept;
  /// The guest's answer. @return false when no request waits for it: then it goes nowhere
  bool respond(const PageGroupResponse& response) noexcept;
  /// Forgets what is posted; every group that waits is answered with failure.
  void reset() noexcept;

  // Under the registers' lock: whose request is the first that is posted and not written; groups that wait for the
  // guest's answer; and those of a unit that was saved, which are taken over when nothing is posted.
  [[nodiscard]] std::optional<SourceId> first_posted() const noexcept {
    return count_ == 0 ? std::nullopt : std::optional{posted_[first_].request.source};
  }
  [[nodiscard]] const PageGroups& waiting() const noexcept { return waiting_; }
  void take_over(const PageGroups& groups) noexcept { waiting_ = groups; }

  struct Figures {
    std::size_t posted = 0;  ///< not written into the guest's queue yet
    std::size_t groups = 0;  ///< that wait for the guest's answer
  };
  /// Threads: any.
  [[nodiscard]] Figures figures() noexcept {
    return registers_.with([this](const RegisterFile&) { return Figures{count_, waiting_.count}; });
  }

  static constexpr unsigned response_success = 0;
  static constexpr unsigned response_failure = 15;

 private:
  struct Posted {
    PageRequest request;
    DomainId domain;
    Pasid pasid;  ///< of the PASID entry it goes by
    caches::Interpretation interpretation = caches::Interpretation::second_stage;
  };
  using Group = PageGroup;
  /// Of the next descriptor; nothing when the queue is full, which the guest is told.
  [[nodiscard]] std::optional<Gpa> place_for_next() noexcept;
  [[nodiscard]] bool store(Gpa at, const PageRequest& request) noexcept;
  void drop_cached(const Posted& posted) noexcept;
  void give_up(const PageRequest& request) noexcept;
  void answer(const Group& group, unsigned code) noexcept;
  /// Under the registers' lock.
  void forget_first() noexcept;
  /// Under the registers' lock. @return whether it was there
  bool close(const Group& group) noexcept;

  core::Waist& waist_;
  Registers& registers_;
  Dma& dma_;
  const core::Host& host_;
  // Under the registers' lock:
  static constexpr std::size_t most_posted = 64;
  static constexpr std::size_t most_groups = PageGroups::most;
  std::array<Posted, most_posted> posted_{};
  std::size_t first_ = 0;
  std::size_t count_ = 0;
  PageGroups waiting_{};
  Atomic<bool> any_posted_{false};
};

}  // namespace viommu::vtd
