// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The ranges of a viommu_iotlb: a store of mappings (engine/virtio_iommu/mappings.hpp) in which ranges may be laid over
// each other and cut.
//
//   update      what is underneath goes, the new range comes, with neighbours that go on alike, and cut ends come back
//   invalidate  the same without a new range
//
// The store itself refuses an overlap and a cut, so each of them is several changes of it: out with the range that is
// cut, in with its ends. A reader in between would miss what never changed. It would ask for it again, which is legal
// for a cache and no more than a lost message, but an answer that is already there is cheaper:
//   writer   G1 changes_ odd (relaxed) -> words of the store (release, M4) -> G2 changes_ even (release)
//   reader   G3 changes_ (acquire) -> look (acquire, M3) -> nothing there: G4 changes_ again (relaxed)
// - A gap that is none is seen as such. The reader found an empty place because it saw a store of the writer's, or one
//   behind it; that store is a release behind G1, so G4, behind the look, reads G1 or later. Had G3 read that odd value
//   already, it is odd: look again. Had it not, the two differ: look again. If G3 read G2, the ends that came back
//   before it are seen.
// - It ends. A reader looks `most_looks` times, some microseconds, and then says that nothing is there.
// What an invalidation removes without ends to come back goes before G1: however much that is, no reader waits for it.
// Readers: guards of an Epochs of its own; argument of the store: Mappings. A target is its `gpa`.
#pragma once

#include <cstdint>
#include <optional>

#include "caches/epoch.hpp"
#include "engine/base/atomic.hpp"
#include "engine/base/host_memory.hpp"
#include "engine/virtio_iommu/mappings.hpp"

namespace viommu::capi {

using virtio_iommu::Mapping;

class RangeCache {
 public:
  enum class Updated : std::uint8_t { ok, no_memory, later /* memory that waits for a guard would do */ };
  /// What is at an address.
  struct Look {
    std::optional<Mapping> mapping;
    Iova last;  ///< of the mapping, or of the gap that the address is in
  };
  struct Figures {
    std::uint64_t ranges;
    std::uint64_t bytes;
    std::uint64_t evicted;
    std::uint64_t forgotten;
  };

  RangeCache(const HostAllocator& allocator, std::uint64_t ranges) noexcept
      : allocator_{allocator}, nodes_{allocator, {ranges, ranges * bytes_a_range + least_bytes}} {}

  [[nodiscard]] bool reset(std::uint32_t readers) noexcept {
    return words_.reset(allocator_, readers) &&
           epochs_.reset(allocator_, {{words_.begin(), words_.size()}, {}}, caches::Drain::automatic);
  }

  // ---- Readers: each with a word of its own ----
  [[nodiscard]] caches::GuardWord& word(std::uint32_t index) noexcept { return words_[index]; }
  void use(const caches::GuardWord& word) noexcept { epochs_.use(word); }
  void enter(caches::GuardWord& word) noexcept { epochs_.enter(word); }
  void leave(caches::GuardWord& word) const noexcept { epochs_.leave(word); }
  /// Inside a guard.
  [[nodiscard]] Look look(Iova at) const noexcept;

  // ---- Feeding: any thread, in turns ----
  [[nodiscard]] Updated update(const Mapping& wanted) noexcept;
  /// @return a ticket
  std::uint64_t invalidate(IovaRange range) noexcept;
  /// Of what else has just been unpublished for these readers.
  [[nodiscard]] std::uint64_t ticket() noexcept { return epochs_.advance(); }
  [[nodiscard]] bool drained(std::uint64_t ticket) noexcept;
  [[nodiscard]] Figures figures() const noexcept;

 private:
  static constexpr std::uint64_t bytes_a_range = 256;
  static constexpr std::uint64_t least_bytes = 0x10000;
  static constexpr unsigned most_looks = 256;
  static constexpr std::size_t slice = 1024;  // ranges, or nodes, at a time

  /// A range that is cut, or touched: out, and what comes back of it.
  struct End {
    std::optional<Mapping> out;
    std::optional<Mapping> back;
  };
  [[nodiscard]] End head_of(IovaRange range) const noexcept;
  [[nodiscard]] End tail_of(IovaRange range) const noexcept;

  /// The part of the range that no range which is cut has an address of.
  [[nodiscard]] static std::optional<IovaRange> between(IovaRange range, const End& head, const End& tail) noexcept;

  void remove(IovaRange range) noexcept;
  void take_out(const End& end) noexcept;
  void put_back(const End& end) noexcept;
  [[nodiscard]] Updated insert(const Mapping& mapping) noexcept;
  [[nodiscard]] bool evict(IovaRange but) noexcept;
  void settle() noexcept;
  void begin_change() noexcept;
  void end_change() noexcept;

  HostAllocator allocator_;
  HostArray<caches::GuardWord> words_;
  caches::Epochs epochs_;
  /// Odd while parts are out that will be back. Alone in its lines: each lookup reads it.
  alignas(shared_line_bytes) Atomic<std::uint64_t> changes_{0};
  alignas(shared_line_bytes) mutable Mutex
      feeding_;  ///< for everything below; never while the feeder or the miss function is called
  virtio_iommu::MappingNodes nodes_;
  virtio_iommu::Mappings mappings_{nodes_};
  std::uint64_t hand_ = 0;  ///< where the next range is pushed out
  std::uint64_t evicted_ = 0;
  std::uint64_t forgotten_ = 0;
  std::uint32_t unsettled_ = 0;  ///< changes since nodes were last taken back
};

}  // namespace viommu::capi
