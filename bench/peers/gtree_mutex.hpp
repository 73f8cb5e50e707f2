// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// QEMU's way of keeping a virtio-iommu domain's mappings, made anew: GLib's balanced tree of intervals, keys and values
// allocated one by one, and one recursive mutex around translations and requests alike.
#pragma once

#include <glib.h>

#include <cstdint>
#include <mutex>

namespace viommu::bench {

class GTreeMutex {
 public:
  static constexpr const char* name = "GTreeMutex";
  GTreeMutex();
  GTreeMutex(const GTreeMutex&) = delete;
  GTreeMutex& operator=(const GTreeMutex&) = delete;
  ~GTreeMutex();

  [[nodiscard]] bool map(std::uint64_t first, std::uint64_t last, std::uint64_t gpa);
  [[nodiscard]] bool unmap(std::uint64_t first, std::uint64_t last);
  void settle() {}

  class Port {
   public:
    Port(GTreeMutex& tree, std::size_t /*thread*/) : tree_{tree} {}
    /// All ones where nothing is mapped.
    [[nodiscard]] std::uint64_t translate(std::uint64_t iova);

   private:
    GTreeMutex& tree_;
  };

 private:
  std::recursive_mutex mutex_;
  GTree* tree_;
};

}  // namespace viommu::bench
