// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Guest memory as an emulator with a general memory API reaches it: every access looks its address up among the
// sections of the address space and goes through the section's function pointer, whether it is RAM or a device.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace viommu::bench {

class AddressDispatch {
 public:
  /// Copies `size` bytes at `offset` of the section to or from `data`; false when the section refuses.
  using Access = bool (*)(void* opaque, std::uint64_t offset, void* data, std::size_t size, bool is_write);

  struct Section {
    std::uint64_t first = 0;
    std::uint64_t last = 0;
    Access access = nullptr;
    void* opaque = nullptr;
  };

  /// Sections may come in any order and do not overlap.
  void add(const Section& section);

  [[nodiscard]] bool read(std::uint64_t gpa, void* data, std::size_t size) const {
    return dispatch(gpa, data, size, false);
  }
  [[nodiscard]] bool write(std::uint64_t gpa, void* data, std::size_t size) const {
    return dispatch(gpa, data, size, true);
  }

 private:
  [[nodiscard]] bool dispatch(std::uint64_t gpa, void* data, std::size_t size, bool is_write) const;
  [[nodiscard]] const Section* find(std::uint64_t gpa) const;

  std::vector<Section> sections_;               // ascending
  mutable std::size_t most_recently_used_ = 0;  // tried first
};

/// A section of plain RAM that begins at `host`.
[[nodiscard]] AddressDispatch::Section ram_section(std::uint64_t first, std::uint64_t last, std::byte* host);

}  // namespace viommu::bench
