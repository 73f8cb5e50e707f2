// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// A guest made up for measuring: root, context and second-stage tables in its RAM, and the requests of its devices.
//
//   RAM from address 0:  root, context, status word | queue of 4,096 descriptors | upper tables | leaf tables, shuffled
//
// Which frame a page has follows from its number, so the right answer to any request is known by construction. Frames
// need no memory: nobody accesses them.
#pragma once

#include <viommu/viommu.hpp>

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>

namespace viommu::bench {

enum class Frames : std::uint8_t {
  scattered,   // no two neighbouring pages are neighbours in memory
  contiguous,  // a device's pages are one run
};
enum class Sizes : std::uint8_t { small, mixed /* of a device's pages 80 % have 4 KiB, 15 % 2 MiB, 5 % 1 GiB */ };
enum class Domains : std::uint8_t { one_each, one_for_all /* with distinct tables */ };

struct Layout {
  std::uint32_t pages = 1024;  // of all devices together; this and the next two are powers of two
  std::uint32_t devices = 16;  // at most 256
  std::uint32_t stride = 1;    // one page in so many is mapped
  Frames frames = Frames::scattered;
  Sizes sizes = Sizes::small;
  Domains domains = Domains::one_each;
  friend auto operator<=>(const Layout&, const Layout&) = default;
};

/// A number that looks random for each count; counts in a row do not wait for each other (SplitMix64).
[[nodiscard]] constexpr std::uint64_t mixed(std::uint64_t count) noexcept {
  std::uint64_t z = count * 0x9E3779B97F4A7C15;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
  return z ^ (z >> 31);
}

class SyntheticGuest {
 public:
  static constexpr std::uint64_t root_table = 0x1000;
  static constexpr std::uint64_t status_word = 0x3000;
  static constexpr std::uint64_t queue = 0x10000;
  static constexpr unsigned queue_order = 4;  // 2^order pages of 256 descriptors
  static constexpr std::uint32_t queue_entries = 256u << queue_order;

  /// Throws std::bad_alloc when the RAM cannot be mapped.
  explicit SyntheticGuest(const Layout& layout);
  SyntheticGuest(const SyntheticGuest&) = delete;
  SyntheticGuest& operator=(const SyntheticGuest&) = delete;
  ~SyntheticGuest();

  [[nodiscard]] const Layout& layout() const noexcept { return layout_; }
  [[nodiscard]] std::span<std::byte> ram() const noexcept { return ram_; }

  [[nodiscard]] std::uint32_t pages_of_device() const noexcept { return each_; }
  [[nodiscard]] std::uint16_t source(std::uint32_t device) const noexcept {
    return static_cast<std::uint16_t>(device << source_shift_);
  }
  [[nodiscard]] std::uint32_t device(std::uint16_t source) const noexcept { return source >> source_shift_; }
  [[nodiscard]] std::uint16_t domain(std::uint32_t device) const noexcept {
    return static_cast<std::uint16_t>(layout_.domains == Domains::one_for_all ? 1 : device + 1);
  }

  /// A read at the `page`-th page of a device.
  [[nodiscard]] viommu_request ask(std::uint32_t device, std::uint32_t page) const noexcept {
    // Without branches, which random pages would make the processor mispredict.
    const unsigned kind = (page >= first_[1] ? 1u : 0u) + (page >= first_[2] ? 1u : 0u);
    const std::uint64_t iova = base_[kind] + (std::uint64_t{page - first_[kind]} << shift_[kind]);
    return {.iova = iova, .length = 0, .pasid = 0, .source = source(device), .access = VIOMMU_READ, .flags = 0};
  }
  /// A random device's read at a random page of it.
  [[nodiscard]] viommu_request ask(std::uint64_t random) const noexcept {
    return ask(static_cast<std::uint32_t>(random) & (layout_.devices - 1),
               static_cast<std::uint32_t>(random >> 32) & (each_ - 1));
  }
  /// The `count`-th of all pages in an order that is neither that of addresses nor that of frames; every page once.
  [[nodiscard]] viommu_request ask_each(std::uint32_t count) const noexcept {
    const std::uint32_t at = (count * scatter) & (layout_.pages - 1);
    return ask(at & (layout_.devices - 1), at / layout_.devices);
  }
  /// Random pages of one random device into `requests`, as a queue of it would ask.
  void ask_batch(std::uint64_t count, std::span<viommu_request> requests) const noexcept;

  /// The right answer.
  [[nodiscard]] std::uint64_t gpa(const viommu_request& request) const noexcept;
  /// Memory of all leaf tables; a power of two.
  [[nodiscard]] std::span<const std::byte> leaf_memory() const noexcept { return ram_.subspan(first_leaf_table_); }
  /// Where the entry of a 4 KiB page is.
  [[nodiscard]] std::uint64_t leaf_slot(std::uint32_t device, std::uint32_t page) const noexcept {
    const std::uint32_t at = page * layout_.stride;
    return leaf_table(device * leaf_tables_ + at / 512) + 8 * std::uint64_t{at % 512};
  }

  [[nodiscard]] std::uint64_t load(std::uint64_t gpa) const noexcept {
    std::uint64_t value = 0;
    std::memcpy(&value, &ram_[gpa], sizeof value);
    return value;
  }
  void store(std::uint64_t gpa, std::uint64_t value) const noexcept { std::memcpy(&ram_[gpa], &value, sizeof value); }

 private:
  static constexpr std::uint32_t scatter = 0x9E3779B1;  // odd: permutes any power of two, and parts neighbours

  [[nodiscard]] std::uint64_t frame(unsigned kind, std::uint32_t device, std::uint32_t page) const noexcept;
  [[nodiscard]] std::uint64_t allocate_table();
  [[nodiscard]] std::uint64_t leaf_table(std::uint32_t number) const noexcept {
    const std::uint32_t place = (number * scatter) & (leaf_tables_ * layout_.devices - 1);
    return first_leaf_table_ + place * std::uint64_t{4096};
  }
  void map_small(std::uint64_t root, std::uint32_t device);
  void map_large(std::uint64_t root, std::uint32_t device);
  std::uint64_t slot(std::uint64_t root, std::uint64_t iova, unsigned level);

  Layout layout_;
  std::uint32_t each_;                  // pages of a device
  std::uint32_t leaf_tables_;           // of a device
  unsigned source_shift_ = 0;           // of 32 devices or fewer each is a slot of the bus, of more a function
  std::array<std::uint32_t, 3> first_;  // the device's first page of each size
  std::array<unsigned, 3> shift_;
  std::array<std::uint64_t, 3> base_{std::uint64_t{1} << 32, std::uint64_t{1} << 40, std::uint64_t{1} << 46};
  std::span<std::byte> ram_;
  std::uint64_t next_table_ = 0;
  std::uint64_t first_leaf_table_ = 0;
};

/// One for each layout; made when first asked for, kept to the end.
[[nodiscard]] std::shared_ptr<SyntheticGuest> guest_of(const Layout& layout);

}  // namespace viommu::bench
