// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// A small guest behind the host's callbacks: memory from address 0 on that is zero again after clear(), and what the
// host was told.
#pragma once

#include <viommu/viommu.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <optional>
#include <vector>
#include <viommu/viommu.hpp>

#include "fuzz/support/require.hpp"

namespace viommu::fuzz {

class FlatGuest {
 public:
  struct Effect {
    enum Kind : std::uint8_t { store, message, routes };
    Kind kind = store;
    std::uint64_t first = 0;
    std::uint64_t second = 0;
    friend bool operator==(const Effect&, const Effect&) = default;
  };

  explicit FlatGuest(std::size_t bytes) : words_(bytes / 8) {}
  FlatGuest(const FlatGuest&) = delete;
  FlatGuest& operator=(const FlatGuest&) = delete;

  [[nodiscard]] std::uint64_t bytes() const noexcept { return words_.size() * 8; }
  [[nodiscard]] std::optional<std::uint64_t> load(std::uint64_t gpa) const noexcept {
    if (gpa % 8 != 0 || gpa / 8 >= words_.size()) return std::nullopt;
    return words_[gpa / 8];
  }
  bool store(std::uint64_t gpa, std::uint64_t value) {
    if (gpa % 8 != 0 || gpa / 8 >= words_.size()) return false;
    if (words_[gpa / 8] == 0) written_.push_back(gpa / 8);
    words_[gpa / 8] = value;
    return true;
  }
  void clear() {
    for (const std::size_t word : written_) words_[word] = 0;
    written_.clear();
    effects.clear();
    loads = 0;
  }

  std::vector<Effect> effects;
  std::uint64_t loads = 0;                         ///< calls of memory_read
  std::function<void(std::uint64_t gpa)> on_read;  ///< called in each, before anything is read

  /// Memory and messages.
  [[nodiscard]] viommu_host host() {
    viommu_host made{};
    made.size = sizeof made;
    made.opaque = this;
    made.memory_read = [](void* self, std::uint64_t gpa, void* data, std::uint64_t size) {
      return of(self).read(gpa, data, size);
    };
    made.memory_write = [](void* self, std::uint64_t gpa, const void* data, std::uint64_t size) {
      return of(self).write(gpa, data, size);
    };
    made.memory_compare_exchange = [](void* self, std::uint64_t gpa, std::uint64_t* expected, std::uint64_t desired) {
      return of(self).exchange(gpa, *expected, desired);
    };
    made.msi = [](void* self, std::uint64_t address, std::uint32_t data) {
      of(self).effects.push_back({Effect::message, address, data});
    };
    made.routes_changed = [](void* self, std::uint32_t first, std::uint32_t count) {
      of(self).effects.push_back({Effect::routes, first, count});
    };
    return made;
  }

 private:
  static FlatGuest& of(void* self) { return *static_cast<FlatGuest*>(self); }
  std::int32_t read(std::uint64_t gpa, void* data, std::uint64_t size) {
    ++loads;
    if (on_read) on_read(gpa);
    require((size == 8 || size == 16) && gpa % size == 0, "a read that the host's contract does not have");
    if (gpa >= bytes() || size > bytes() - gpa) return -1;
    std::memcpy(data, words_.data() + gpa / 8, size);
    return 0;
  }
  std::int32_t write(std::uint64_t gpa, const void* data, std::uint64_t size) {
    require((size == 4 || size == 8) && gpa % size == 0, "a write that the host's contract does not have");
    if (gpa >= bytes()) return -1;
    std::uint64_t value = 0;
    std::memcpy(&value, data, size);
    effects.push_back({Effect::store, gpa, value});
    std::uint64_t word = words_[gpa / 8];
    const unsigned shift = gpa % 8 == 0 ? 0 : 32;
    const std::uint64_t lanes = size == 8 ? ~std::uint64_t{0} : std::uint64_t{0xFFFF'FFFF} << shift;
    word = (word & ~lanes) | (value << shift & lanes);
    store(gpa - gpa % 8, word);
    return 0;
  }
  std::int32_t exchange(std::uint64_t gpa, std::uint64_t& expected, std::uint64_t desired) {
    const std::optional<std::uint64_t> found = load(gpa);
    if (!found) return -1;
    if (*found != expected) {
      expected = *found;
      return 1;
    }
    store(gpa, desired);
    return 0;
  }

  std::vector<std::uint64_t> words_;
  std::vector<std::size_t> written_;
};

/// The smallest caches there are.
[[nodiscard]] inline viommu_vtd_options smallest_options(std::uint64_t cap, std::uint64_t ecap, unsigned haw) {
  viommu_vtd_options options{};
  options.size = sizeof options;
  options.capability = cap;
  options.extended_capability = ecap;
  options.host_address_width = haw;
  options.version = 0x30;
  options.iotlb_pages = 16;
  options.context_entries = 4;
  options.pasid_entries = 8;
  options.address_spaces = 8;
  options.structures = 4;
  options.tag_bits = 4;
  options.readers = 2;
  options.holds = 4;
  options.regions = 4;
  options.subscriptions = 4;
  options.hash_seed = 1;
  return options;
}

[[nodiscard]] inline Engine create(const viommu_vtd_options& options, const viommu_host& host) {
  Expected<Engine> created = Engine::create_vtd(options, host);
  if (!created) fail(created.error().text.c_str());
  return *std::move(created);
}

}  // namespace viommu::fuzz
