// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// A small guest with rings in its memory: mapped, or behind the host's callbacks, where a test sees every access.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <optional>
#include <span>
#include <stdexcept>
#include <vector>

#include "engine/base/guest_memory.hpp"
#include "tests/support/guarded_region.hpp"

namespace viommu::test {

enum class Reach { mapped, callbacks };

/// Its memory has inaccessible pages on both sides. Bytes go in and out at any address; outside of it is an error of
/// the test. For one thread.
class RingGuest {
 public:
  static constexpr std::uint64_t first = 0x100000;
  static constexpr std::uint64_t bytes = 0x80000;
  static constexpr std::uint64_t last = first + (bytes - 1);

  explicit RingGuest(Reach reach) : memory_{callbacks(reach)} {
    if (reach == Reach::mapped) restore();
  }
  RingGuest(const RingGuest&) = delete;
  RingGuest& operator=(const RingGuest&) = delete;
  ~RingGuest() { remove(); }

  [[nodiscard]] const GuestMemory& memory() const noexcept { return memory_; }

  /// Memory that was mapped goes, and comes back.
  void remove() { RegionMap::destroy({}, memory_.publish(nullptr)); }
  void restore(bool read_only = false) {
    remove();
    RegionMap* const map = RegionMap::create({}, 1);
    map->assign_with(nullptr, {{{first}, {last}}, ram_.data(), read_only});
    memory_.publish(map);
  }

  template <class T>
  void put(std::uint64_t gpa, T value) {
    std::memcpy(at(gpa, sizeof value), &value, sizeof value);
  }
  template <class T>
  [[nodiscard]] T get(std::uint64_t gpa) const {
    T value;
    std::memcpy(&value, at(gpa, sizeof value), sizeof value);
    return value;
  }
  [[nodiscard]] std::span<std::byte> span(std::uint64_t gpa, std::size_t size) { return {at(gpa, size), size}; }

  // With callbacks only.
  struct Access {
    bool write;
    std::uint64_t gpa;
    std::uint64_t size;
    friend bool operator==(const Access&, const Access&) = default;
  };
  std::vector<Access> accesses;
  bool refuse_reads = false;
  bool refuse_writes = false;
  std::function<void(const Access&)> after;              ///< called when an access is done
  std::function<std::uint64_t(std::uint64_t gpa)> liar;  ///< each word comes from here
  std::function<bool(std::uint64_t gpa)> hole;           ///< there is no memory

 private:
  [[nodiscard]] std::byte* at(std::uint64_t gpa, std::size_t size) const {
    if (gpa < first || gpa > last || size > last - gpa + 1) throw std::out_of_range{"the test's own address"};
    return ram_.data() + (gpa - first);
  }
  [[nodiscard]] bool there(std::uint64_t gpa, std::uint64_t size) const {
    return gpa >= first && gpa <= last && size <= last - gpa + 1 && gpa % size == 0 && !(hole && hole(gpa));
  }
  std::int32_t read(std::uint64_t gpa, void* data, std::uint64_t size) {
    accesses.push_back({false, gpa, size});
    if (size != 8 && size != 16) throw std::logic_error{"a size that the host does not know"};
    if (refuse_reads || !there(gpa, size)) return -1;
    if (liar) {
      const std::uint64_t word = liar(gpa);
      std::memcpy(data, &word, sizeof word);
    } else {
      std::memcpy(data, at(gpa, size), size);
    }
    if (after) after(accesses.back());
    return 0;
  }
  std::int32_t write(std::uint64_t gpa, const void* data, std::uint64_t size) {
    accesses.push_back({true, gpa, size});
    if (size != 1 && size != 2 && size != 4 && size != 8) throw std::logic_error{"a size that the host does not know"};
    if (refuse_writes || !there(gpa, size)) return -1;
    std::memcpy(at(gpa, size), data, size);
    if (after) after(accesses.back());
    return 0;
  }
  [[nodiscard]] MemoryCallbacks callbacks(Reach reach) {
    MemoryCallbacks functions;
    if (reach == Reach::mapped) return functions;
    functions.opaque = this;
    functions.read = [](void* self, std::uint64_t gpa, void* data, std::uint64_t size) {
      return static_cast<RingGuest*>(self)->read(gpa, data, size);
    };
    functions.write = [](void* self, std::uint64_t gpa, const void* data, std::uint64_t size) {
      return static_cast<RingGuest*>(self)->write(gpa, data, size);
    };
    return functions;
  }

  GuardedRegion ram_{first, bytes};
  GuestMemory memory_;
};

}  // namespace viommu::test
