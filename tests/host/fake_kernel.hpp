// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The other side of viommu_host_kernel: a VFIO container, an iommufd and devices that keep the kernel's rules, and fail
// where a test wants it. It reads the structs by their offsets, as the kernel's interface gives them, and shares no
// definition with the library.
#pragma once

#include <viommu/viommu_host.h>

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

namespace viommu::test {

/// One mapping as the kernel keeps it.
struct Held {
  std::uint64_t first;
  std::uint64_t last;
  std::uint64_t hva;
  std::uint32_t rights;  // VIOMMU_READ | VIOMMU_WRITE

  friend bool operator==(const Held&, const Held&) = default;
};
using HeldMap = std::map<std::uint64_t, Held>;

class FakeKernel {
 public:
  static constexpr std::int32_t container_fd = 3;
  static constexpr std::int32_t iommufd_fd = 4;
  static constexpr std::int32_t first_group = 10;   // 10 .. 19
  static constexpr std::int32_t first_device = 20;  // 20 .. 29
  static constexpr std::uint64_t page = 4096;

  FakeKernel();

  [[nodiscard]] viommu_host_kernel table();

  // What this kernel can do.
  bool type1v2 = true;
  bool unmap_all = true;
  bool coherent = true;
  bool capabilities = true;  // of GET_INFO
  bool migration = true;
  std::uint64_t longest_bitmap = std::uint64_t{1} << 28;
  std::size_t entry_limit = 65535;
  std::uint64_t locked_limit = ~std::uint64_t{0};
  std::vector<viommu_range> ranges{{0, 0xFEDFFFFF}, {0xFEF00000, 0x7FFFFFFFFF}};
  bool grows = false;  // each answer to GET_INFO and IOVA_RANGES is longer than the one before said
  std::uint64_t cap = 0x1234;
  std::uint64_t ecap = 0x5678;
  std::uint32_t hardware = 1;            // VT-d
  std::set<std::int32_t> cannot_log;     // devices
  std::map<std::int32_t, int> iommu_of;  // devices behind different IOMMUs share no page table
  std::set<std::uint64_t> busy_once;     // a MAP at this address is EBUSY until something was unmapped there

  /// Fails the next call for which it says so, instead of it.
  std::function<int(std::uint32_t request)> fails;
  /// Calls so far, the number of each; and those that change mappings, as text.
  std::vector<std::uint32_t> calls;
  std::vector<std::string> changes;
  /// What the last struct of each request said about its own size.
  std::map<std::uint32_t, std::uint32_t> sizes;

  // What it holds.
  [[nodiscard]] const HeldMap& container() const { return container_.held; }
  /// What a device reaches; empty when it is attached to nothing.
  [[nodiscard]] HeldMap reach(std::int32_t device) const;
  [[nodiscard]] std::uint64_t pinned() const;
  [[nodiscard]] std::size_t objects() const { return spaces_.size() + tables_.size(); }
  [[nodiscard]] std::size_t tables() const { return tables_.size(); }
  [[nodiscard]] bool group_in(std::int32_t group) const { return groups_.contains(group); }
  [[nodiscard]] bool attached(std::int32_t device) const;
  [[nodiscard]] bool logging() const { return container_.logging; }

  /// A mapping that the library did not make.
  void foreign(std::uint64_t first, std::uint64_t last) { container_.held[first] = {first, last, 0x1000, 3}; }
  void foreign(std::int32_t device, std::uint64_t first, std::uint64_t last);
  /// A device writes, where it may.
  void write(std::uint64_t iova);
  void write(std::int32_t device, std::uint64_t iova);

 private:
  struct Container {
    HeldMap held;
    std::uint32_t type = 0;
    bool logging = false;
    std::set<std::uint64_t> dirty;
  };
  struct SpaceOf {
    HeldMap held;
  };
  struct TableOf {
    std::uint32_t space;
    int iommu;
    bool logging;
    std::set<std::uint64_t> dirty;
  };
  struct Device {
    std::uint32_t id = 0;
    std::uint32_t at = 0;  // space or table
  };

  static std::int32_t entry(void* opaque, std::int32_t fd, std::uint32_t request, std::uintptr_t argument);
  int call(std::int32_t fd, std::uint32_t request, std::uintptr_t argument);
  int container_call(std::uint32_t request, std::uintptr_t argument);
  int group_call(std::int32_t group, std::uint32_t request, std::uintptr_t argument);
  int iommufd_call(std::uint32_t request, std::uintptr_t argument);
  int device_call(std::int32_t fd, std::uint32_t request, std::uintptr_t argument);
  int get_info(std::uintptr_t argument);
  int map_dma(std::uintptr_t argument);
  int unmap_dma(std::uintptr_t argument);
  int dirty_pages(std::uintptr_t argument);
  int ioas_map(std::uintptr_t argument);
  int ioas_unmap(std::uintptr_t argument);
  int iova_ranges(std::uintptr_t argument);
  int hwpt_alloc(std::uintptr_t argument);
  int hw_info(std::uintptr_t argument);
  int get_dirty(std::uintptr_t argument);
  int destroy(std::uintptr_t argument);
  [[nodiscard]] bool usable(std::uint64_t first, std::uint64_t last) const;
  [[nodiscard]] Device* device_by(std::uint32_t id);
  void note(const char* what, std::uint64_t first, std::uint64_t size);

  Container container_;
  std::set<std::int32_t> groups_;
  std::map<std::uint32_t, SpaceOf> spaces_;
  std::map<std::uint32_t, TableOf> tables_;
  std::map<std::int32_t, Device> devices_;
  std::uint32_t next_id_ = 100;
};

}  // namespace viommu::test
