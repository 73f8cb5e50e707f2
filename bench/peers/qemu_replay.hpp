// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// How QEMU's VT-d model keeps a consumer's mappings equal to the guest's tables, written anew from that description.
//
//   walk: an entry at a time, each read by a call to guest memory
//   each entry, present or not: looked up in a balanced tree of what was told before (GLib's), whose nodes are heap
//   blocks
//     told alike   nothing
//     told else    taken out, told as gone; put in, told as new
//     not told     put in, told as new
//   telling: a call by pointer for each page
//
// It leaves out what costs QEMU more than this: locks, tracing, the second lookup that its tree makes before it puts
// something in, and the system call that follows each page it tells of. Its times are a lower bound.
#pragma once

#include <glib.h>

#include <cstdint>

#include "bench/peers/address_dispatch.hpp"

namespace viommu::bench {

struct PageNotification {
  std::uint64_t iova = 0;
  std::uint64_t gpa = 0;
  std::uint64_t mask = 0;   // size minus one
  std::uint8_t rights = 0;  // 0: gone
};

class QemuReplay {
 public:
  using Notify = void (*)(void* opaque, const PageNotification& notification);

  QemuReplay(const AddressDispatch& memory, Notify notify, void* opaque);
  QemuReplay(const QemuReplay&) = delete;
  QemuReplay& operator=(const QemuReplay&) = delete;
  ~QemuReplay();

  /// Tells of all that the tables at `root`, of four levels, map in [first, last]; nothing of them was told before.
  void replay(std::uint64_t root, std::uint64_t first, std::uint64_t last);
  /// Tells what became of [first, last], page by page: after an invalidation of any kind.
  void resync(std::uint64_t root, std::uint64_t first, std::uint64_t last);
  /// Forgets all it told of; tells that all is gone.
  void unmap_all();

 private:
  struct Range {
    std::uint64_t first = 0;
    std::uint64_t last = 0;
  };
  void walk(std::uint64_t table, unsigned level, std::uint8_t rights, const Range& range, bool tell_gone);
  void visit(const PageNotification& page, bool tell_gone);
  [[nodiscard]] static GTree* make_tree();

  const AddressDispatch& memory_;
  Notify notify_;
  void* opaque_;
  GTree* told_;
};

}  // namespace viommu::bench
