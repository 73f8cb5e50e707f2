// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The devices of the machine, by bus identity: the guest may give a bus another number, and what hangs on it follows.
//
//   number -> Bus -> devfn -> Device        found in two steps; a bus without devices takes no memory
//
// Bound: 256 buses of 256 devices. Threads: one at a time (machine.hpp).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "engine/base/host_memory.hpp"
#include "engine/base/ids.hpp"
#include "engine/machine/device.hpp"

namespace viommu::machine {

class Registry {
 public:
  explicit Registry(const HostAllocator& allocator) noexcept : allocator_{allocator} {}
  Registry(const Registry&) = delete;
  Registry& operator=(const Registry&) = delete;
  ~Registry();

  [[nodiscard]] Device* find(SourceId source) noexcept;
  [[nodiscard]] const Device* find(SourceId source) const noexcept;
  /// An empty device of this id, or null when the host has no memory. There is none yet.
  [[nodiscard]] Device* create(SourceId source) noexcept;
  /// There is one.
  void erase(SourceId source) noexcept;
  /// @return false when there is a device on `to`
  [[nodiscard]] bool renumber(std::uint8_t from, std::uint8_t to) noexcept;
  [[nodiscard]] std::size_t size() const noexcept { return size_; }

  /// Ascending by source id.
  template <class Use>
  void for_each(const Use& use) const {
    for (const Bus* const bus : buses_) {
      if (bus == nullptr) continue;
      for (const Device* const device : bus->devices)
        if (device != nullptr) use(*device);
    }
  }

 private:
  static constexpr std::size_t places = 256;
  struct Bus {
    std::array<Device*, places> devices{};
    std::size_t count = 0;
  };
  template <class T>
  [[nodiscard]] T* make() const noexcept {
    void* const memory = allocator_.get(sizeof(T), alignof(T));
    return memory == nullptr ? nullptr : std::construct_at(static_cast<T*>(memory));
  }
  template <class T>
  void unmake(T* object) const noexcept {
    std::destroy_at(object);
    allocator_.put(object, sizeof(T), alignof(T));
  }

  HostAllocator allocator_;
  std::array<Bus*, places> buses_{};
  std::size_t size_ = 0;
};

}  // namespace viommu::machine
