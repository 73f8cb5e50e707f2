// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The kernel's side of one address space of iommufd: the mappings (IOAS), and the page tables that its devices use.
// A device that can log writes uses a table that was made for that; several share one where their IOMMUs agree.
#pragma once

#include <cerrno>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/host/iommufd_layouts.hpp"
#include "engine/host/kernel.hpp"
#include "engine/host/mappings.hpp"

namespace viommu::host {

/// Usable input addresses, and what they have to be aligned to.
struct IoasRanges {
  std::vector<viommu_range> ranges;
  std::uint64_t alignment = 0;
};

class Ioas {
 public:
  /// A bitmap may be asked for where all of it is mapped.
  static constexpr bool bitmaps_span_holes = false;

  Ioas(const Kernel& kernel, std::int32_t fd, std::uint32_t id) noexcept;

  /// May throw std::bad_alloc.
  [[nodiscard]] int ranges(IoasRanges& ranges) const;

  [[nodiscard]] int map(const Mapping& mapping) const noexcept;
  /// `range` is not everything.
  [[nodiscard]] int unmap(Range range) const noexcept;
  template <class Count, class Gone>
  [[nodiscard]] int unmap_all(Count count, Gone gone) const noexcept {
    const int done = count(unmap_everything());
    if (done >= 0) gone(everything);
    return done;
  }

  [[nodiscard]] int log(bool on) noexcept;
  /// `range` is mapped without a hole; `bits` are zero.
  [[nodiscard]] int dirty(Range range, std::span<std::uint64_t> bits) const noexcept;
  [[nodiscard]] int unmap_logged(Range range, std::span<std::uint64_t> bits) const noexcept;
  /// Whether each device that uses the space logs.
  [[nodiscard]] bool tells_all() const noexcept { return unlogged_ == 0; }
  [[nodiscard]] std::uint64_t page_bytes() const noexcept { return page_bytes_; }
  [[nodiscard]] static std::uint64_t longest_bitmap_bytes() noexcept { return std::uint64_t{1} << 28; }

  /// The device uses this space instead of the one before. `*table`: what leave() is to be told. May throw.
  [[nodiscard]] int join(std::int32_t device_fd, std::uint32_t device, bool logs, std::uint32_t& table);
  /// It uses another now, or none.
  void leave(std::uint32_t table) noexcept;
  [[nodiscard]] bool used() const noexcept;
  /// It is to go when nobody uses it.
  void give_up() noexcept { given_up_ = true; }
  [[nodiscard]] bool given_up() const noexcept { return given_up_; }
  /// The kernel gives it back. Nobody uses it.
  [[nodiscard]] int destroy() noexcept;

 private:
  struct Table {
    std::uint32_t id;
    std::uint32_t users;
  };

  [[nodiscard]] int unmap_everything() const noexcept;
  [[nodiscard]] int set_logging(std::uint32_t table, bool on) const noexcept;
  [[nodiscard]] int get_dirty(Range range, std::span<std::uint64_t> bits, std::uint32_t flags) const noexcept;
  [[nodiscard]] int destroy(std::uint32_t id) const noexcept;
  void destroy_unused() noexcept;

  Kernel kernel_;
  std::int32_t fd_;
  std::uint32_t id_;
  std::uint64_t page_bytes_ = 4096;
  std::vector<Table> tables_;
  std::uint32_t unlogged_ = 0;  // devices that use the space without a table of ours
  bool logging_ = false;
  bool given_up_ = false;
};

}  // namespace viommu::host
