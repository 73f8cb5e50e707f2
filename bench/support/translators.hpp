// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Translators: who answers a question. Each has
//
//   name                                   as the benchmarks are named: question<name>/arguments
//   T(guest, setup), T::Port(T&)           a Port for each thread: translate(request), translate_batch(requests,
//                                          answers)
//   write(offset, size, value), process()  a unit with registers: invalidations come through the guest's queue
//   drop_page(domain, iova), drop_domain(domain)   or, without registers, are handed to it decoded, to its advantage
//   drop_caches()
//
// Library and LibraryThroughC are in library.hpp; here are the peers.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "bench/peers/address_dispatch.hpp"
#include "bench/peers/qemu_shape.hpp"
#include "bench/peers/rwlock_list.hpp"
#include "bench/peers/shared_mutex_map.hpp"
#include "bench/peers/table_walk.hpp"
#include "bench/peers/tbb_map.hpp"
#include "bench/support/library.hpp"
#include "bench/support/setup.hpp"
#include "bench/support/synthetic_guest.hpp"

namespace viommu::bench {

/// The peers have no call for a batch: they are asked one by one.
template <class Port>
void one_by_one(Port& port, std::span<const viommu_request> requests, std::span<viommu_translation> answers) {
  for (std::size_t index = 0; index < requests.size(); ++index) answers[index] = port.translate(requests[index]);
}

class QemuTranslator {
 public:
  static constexpr const char* name = "QemuShape";

  class Port {
   public:
    explicit Port(QemuTranslator& translator) : unit_{&translator.unit_} {}
    [[nodiscard]] viommu_translation translate(const viommu_request& request) {
      const ShapeAnswer answer = unit_->translate(request.source, request.iova, request.access, true);
      viommu_translation translation{};
      translation.gpa = answer.gpa;
      translation.kind = answer.reason == 0 ? VIOMMU_TRANSLATED : VIOMMU_FAULT;
      translation.rights = answer.rights;
      translation.reason = answer.reason;
      return translation;
    }
    void translate_batch(std::span<const viommu_request> requests, std::span<viommu_translation> answers) {
      one_by_one(*this, requests, answers);
    }

   private:
    QemuShape* unit_;
  };

  QemuTranslator(const SyntheticGuest& guest, const Setup& setup);

  void write(std::uint64_t offset, unsigned size, std::uint64_t value) { unit_.write(offset, size, value); }
  void process() noexcept {}
  void drop_caches() { unit_.drop_caches(); }

 private:
  std::unique_ptr<AddressDispatch> memory_;
  QemuShape unit_;
};

/// The same with QEMU's own limit of entries, where others are compared without.
class CappedQemuTranslator : public QemuTranslator {
 public:
  static constexpr const char* name = "QemuShapeCapped";
  CappedQemuTranslator(const SyntheticGuest& guest, Setup setup) : QemuTranslator{guest, capped(setup)} {}

 private:
  [[nodiscard]] static Setup capped(Setup setup) noexcept {
    setup.shape_capacity = qemu_capacity;
    return setup;
  }
};

/// A lookup structure with the plain walk as its miss path.
template <class Structure>
class LookupTranslator {
 public:
  static const char* const name;

  class Port {
   public:
    explicit Port(LookupTranslator& translator) : structure_{&translator.structure_} {}
    [[nodiscard]] viommu_translation translate(const viommu_request& request) {
      viommu_translation translation{};
      if (const auto leaf = structure_->translate(request.source, request.iova);
          leaf && (request.access & ~leaf->rights) == 0) {
        translation.gpa = leaf->page | (request.iova & leaf->mask);
        translation.mask = leaf->mask;
        translation.kind = VIOMMU_TRANSLATED;
        translation.rights = leaf->rights;
      }
      return translation;
    }
    void translate_batch(std::span<const viommu_request> requests, std::span<viommu_translation> answers) {
      one_by_one(*this, requests, answers);
    }

   private:
    Structure* structure_;
  };

  LookupTranslator(const SyntheticGuest& guest, const Setup&)
      : walk_{std::make_unique<TableWalk>(guest.ram(), SyntheticGuest::root_table)}, structure_{*walk_} {}

  void drop_page(std::uint16_t domain, std::uint64_t iova) { structure_.drop_page(domain, iova); }
  void drop_domain(std::uint16_t domain) { structure_.drop_domain(domain); }
  void drop_caches() { structure_.drop_all(); }

 private:
  std::unique_ptr<TableWalk> walk_;
  Structure structure_;
};

template <>
inline const char* const LookupTranslator<TbbMap>::name = "TbbMap";
template <>
inline const char* const LookupTranslator<SharedMutexMap>::name = "SharedMutexMap";
template <>
inline const char* const LookupTranslator<RwlockList>::name = "RwlockList";

/// The floor for hits: one load of the device's line, one of a 16-byte entry whose place follows from the page number,
/// a compare. It holds 4 KiB pages only, all of them, in as much memory as a table that is half full, and can drop
/// none.
class FloorTranslator {
 public:
  static constexpr const char* name = "Floor";

  class Port {
   public:
    explicit Port(FloorTranslator& translator) : floor_{&translator} {}
    [[nodiscard]] viommu_translation translate(const viommu_request& request) const noexcept {
      const Device& device = floor_->devices_[request.source & 0xff];
      const std::uint64_t page = request.iova >> 12;
      const Slot& slot = floor_->slots_[device.first + (page & floor_->page_mask_)];
      viommu_translation translation{};
      if (slot.tag == (device.tag | page)) {
        translation.gpa = (slot.frame & ~std::uint64_t{0xfff}) | (request.iova & 0xfff);
        translation.mask = 0xfff;
        translation.kind = VIOMMU_TRANSLATED;
        translation.rights = static_cast<std::uint8_t>(slot.frame & 3);
      }
      return translation;
    }
    void translate_batch(std::span<const viommu_request> requests, std::span<viommu_translation> answers) const {
      one_by_one(*this, requests, answers);
    }

   private:
    const FloorTranslator* floor_;
  };

  FloorTranslator(const SyntheticGuest& guest, const Setup&);

 private:
  struct alignas(32) Slot {  // the second half stands for the free half of a table
    std::uint64_t tag = 0;
    std::uint64_t frame = 0;
  };
  struct alignas(64) Device {
    std::uint64_t tag = 0;
    std::size_t first = 0;
  };

  std::uint64_t page_mask_;
  std::unique_ptr<Device[]> devices_;
  std::unique_ptr<Slot[]> slots_;
};

template <class T>
concept HasRegisters = requires(T& translator) { translator.write(0u, 8u, 0u); };

template <class T>
concept CanDrop = HasRegisters<T> || requires(T& translator) { translator.drop_page(0, 0); };

}  // namespace viommu::bench
