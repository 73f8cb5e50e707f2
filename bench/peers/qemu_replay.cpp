// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "bench/peers/qemu_replay.hpp"

#include <algorithm>
#include <new>

namespace viommu::bench {
namespace {

constexpr std::uint64_t right_bits = 3;
constexpr std::uint64_t large_page = 0x80;
constexpr std::uint64_t address_bits = ((std::uint64_t{1} << 52) - 1) & ~std::uint64_t{0xfff};
constexpr unsigned top_level = 4;  // 1: leaves of 4 KiB
constexpr std::uint64_t entries = 512;

[[nodiscard]] constexpr unsigned shift_of(unsigned level) noexcept { return 12 + 9 * (level - 1); }

/// Ranges that overlap are the same to the tree.
gint compare_ranges(gconstpointer left, gconstpointer right, gpointer) {
  const auto* const one = static_cast<const PageNotification*>(left);
  const auto* const other = static_cast<const PageNotification*>(right);
  if (one->iova > other->iova + other->mask) return 1;
  if (one->iova + one->mask < other->iova) return -1;
  return 0;
}

}  // namespace

QemuReplay::QemuReplay(const AddressDispatch& memory, Notify notify, void* opaque)
    : memory_{memory}, notify_{notify}, opaque_{opaque}, told_{make_tree()} {}

QemuReplay::~QemuReplay() { g_tree_destroy(told_); }

GTree* QemuReplay::make_tree() { return g_tree_new_full(&compare_ranges, nullptr, &g_free, nullptr); }

void QemuReplay::replay(std::uint64_t root, std::uint64_t first, std::uint64_t last) {
  walk(root, top_level, right_bits, {first, last}, false);
}

void QemuReplay::resync(std::uint64_t root, std::uint64_t first, std::uint64_t last) {
  walk(root, top_level, right_bits, {first, last}, true);
}

void QemuReplay::unmap_all() {
  g_tree_destroy(told_);
  told_ = make_tree();
  notify_(opaque_, {.iova = 0, .gpa = 0, .mask = ~std::uint64_t{0}, .rights = 0});
}

void QemuReplay::walk(std::uint64_t table, unsigned level, std::uint8_t rights, const Range& range, bool tell_gone) {
  const unsigned shift = shift_of(level);
  const std::uint64_t mask = (std::uint64_t{1} << shift) - 1;
  std::uint64_t iova = range.first;
  for (;;) {  // ends: at most 512 entries of a table
    const std::uint64_t next = (iova & ~mask) + mask + 1;
    std::uint64_t entry = 0;
    if (memory_.read(table + (iova >> shift & (entries - 1)) * sizeof entry, &entry, sizeof entry)) {
      const auto granted = static_cast<std::uint8_t>(rights & entry & right_bits);
      if (granted != 0 && level != 1 && (entry & large_page) == 0) {
        walk(entry & address_bits, level - 1, granted, {iova, std::min(next - 1, range.last)}, tell_gone);
      } else {
        visit({.iova = iova & ~mask, .gpa = entry & address_bits & ~mask, .mask = mask, .rights = granted}, tell_gone);
      }
    }
    if (next > range.last || next == 0) return;
    iova = next;
  }
}

void QemuReplay::visit(const PageNotification& page, bool tell_gone) {
  const auto* const told = static_cast<const PageNotification*>(g_tree_lookup(told_, &page));
  if (page.rights == 0 && !tell_gone) return;
  if (told != nullptr) {
    if (told->iova == page.iova && told->mask == page.mask && told->gpa == page.gpa && told->rights == page.rights)
      return;
    const PageNotification gone{.iova = told->iova, .gpa = told->gpa, .mask = told->mask, .rights = 0};
    notify_(opaque_, gone);
    g_tree_remove(told_, &gone);
  }
  if (page.rights == 0) return;
  auto* const block = new (g_malloc(sizeof(PageNotification))) PageNotification{page};
  g_tree_insert(told_, block, block);
  notify_(opaque_, page);
}

}  // namespace viommu::bench
