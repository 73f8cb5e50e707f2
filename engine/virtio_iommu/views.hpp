// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What each device sees, for the threads that translate for it.
//
//   bus -> 256 x {word: kind, domain; id; reserved memory}
//
// The role publishes: reserved memory and id first, then the word (release). A thread that translates loads the word
// (acquire) inside its guard, and once for a request. Tables of a bus stay until the end; a list of reserved memory
// that was replaced is freed when a ticket has passed that was given out after that.
// Threads: of() any, inside a guard; everything else by the role.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "engine/base/atomic.hpp"
#include "engine/base/host_memory.hpp"
#include "engine/base/ids.hpp"
#include "engine/virtio_iommu/domains.hpp"
#include "engine/virtio_iommu/ids.hpp"
#include "engine/virtio_iommu/properties.hpp"

namespace viommu::virtio_iommu {

class Views {
 public:
  /// What a device sees, and what the guest calls it.
  struct Seen {
    EndpointView::Kind kind = EndpointView::Kind::unknown;
    viommu::DomainId domain{};  ///< of `translated`
    EndpointId endpoint{};
    std::span<const ReservedRegion> reserved;
    /// Its domain maps some of that, which came later: what is cached of the domain is not for this endpoint.
    bool covers_reserved = false;

    /// The reserved memory that has the address, or null.
    [[nodiscard]] const ReservedRegion* region_at(Iova iova) const noexcept {
      for (const ReservedRegion& region : reserved)
        if (region.range.contains(iova)) return &region;
      return nullptr;
    }
  };

  explicit Views(const HostAllocator& allocator) noexcept : allocator_{allocator} {}
  Views(const Views&) = delete;
  Views& operator=(const Views&) = delete;
  ~Views();

  [[nodiscard]] Seen of(SourceId source) const noexcept {
    const Bus* const bus = buses_[source.bus()].load(std::memory_order_acquire);
    if (bus == nullptr) return {};
    const Entry& entry = bus->entries[source.devfn()];
    const std::uint32_t word = entry.word.load(std::memory_order_acquire);
    Seen seen;
    seen.kind = static_cast<EndpointView::Kind>(word & low_bits(8));
    seen.domain = {static_cast<std::uint16_t>(word >> domain_at)};
    seen.covers_reserved = (word & covers_bit) != 0;
    seen.endpoint = {entry.endpoint.load(std::memory_order_relaxed)};
    if (const List* const list = entry.reserved.load(std::memory_order_acquire); list != nullptr)
      seen.reserved = {list->regions.begin(), list->regions.size()};
    return seen;
  }

  /// Room for a device and its reserved memory, of which nobody sees anything before name(). What was prepared before
  /// and not named is given back. @return false when the host has no memory
  [[nodiscard]] bool prepare(SourceId source, std::span<const ReservedRegion> reserved) noexcept;
  /// The device that was prepared last has this name, and that memory.
  void name(SourceId source, EndpointId endpoint) noexcept;
  /// It sees this from now on. It has been named, or the view is `unknown`.
  /// @param covers_reserved  as Seen has it
  void put(SourceId source, const EndpointView& view, bool covers_reserved = false) noexcept;
  /// The same under another number. @return false when the host has no memory
  [[nodiscard]] bool rename(SourceId from, SourceId to, EndpointId endpoint) noexcept;

  /// `ticket` was given out after all that was replaced so far.
  void seal(std::uint64_t ticket) noexcept;
  void reclaim(std::uint64_t completed) noexcept;
  [[nodiscard]] bool waiting() const noexcept { return retired_ != nullptr; }

 private:
  static constexpr unsigned domain_at = 8;
  static constexpr std::uint32_t covers_bit = std::uint32_t{1} << 31;
  struct List {
    HostArray<ReservedRegion> regions;
    List* next = nullptr;  ///< of those that were replaced
    std::uint64_t ticket = 0;
  };
  struct Entry {
    Atomic<std::uint32_t> word{0};
    Atomic<std::uint32_t> endpoint{0};
    Atomic<List*> reserved{nullptr};  ///< who translates only looks at its regions
  };
  struct Bus {
    std::array<Entry, 256> entries{};
  };
  static_assert(static_cast<unsigned>(EndpointView::Kind::unknown) == 0);

  [[nodiscard]] Bus* bus_of(SourceId source) noexcept;
  void retire(List* list) noexcept;
  void free(List* list) noexcept;  ///< or null

  HostAllocator allocator_;
  std::array<Atomic<Bus*>, 256> buses_{};
  List* prepared_ = nullptr;
  List* retired_ = nullptr;
};

}  // namespace viommu::virtio_iommu
