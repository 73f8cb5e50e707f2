// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "bench/peers/qemu_iotlb.hpp"

#include <new>

namespace viommu::bench {
namespace {

constexpr std::uint32_t no_pasid = 0xffffffff;
constexpr unsigned largest_level = 3;

guint hash_key(gconstpointer data) {
  const auto* const key = static_cast<const IotlbKey*>(data);
  // The fields where the original has them: how they overlap decides how evenly the table is used.
  const std::uint64_t mixed = key->frame | (std::uint64_t{key->source} << 26) | (std::uint64_t{key->level - 1} << 42) |
                              (std::uint64_t{key->pasid} << 44);
  return static_cast<guint>((mixed >> 32) ^ (mixed & 0xffffffff));
}

gboolean same_key(gconstpointer left, gconstpointer right) {
  const auto* const one = static_cast<const IotlbKey*>(left);
  const auto* const other = static_cast<const IotlbKey*>(right);
  return one->frame == other->frame && one->source == other->source && one->level == other->level &&
         one->pasid == other->pasid;
}

gboolean of_domain(gpointer, gpointer value, gpointer domain) {
  return static_cast<const IotlbEntry*>(value)->domain == *static_cast<const std::uint16_t*>(domain);
}

struct Pages {
  std::uint64_t first_frame;
  std::uint64_t frame_mask;
  std::uint16_t domain;
};

gboolean among_pages(gpointer, gpointer value, gpointer data) {
  const auto* const entry = static_cast<const IotlbEntry*>(value);
  const auto* const pages = static_cast<const Pages*>(data);
  if (entry->domain != pages->domain) return FALSE;
  // Inside the range, or a larger page that holds the range's first page.
  return (entry->frame & pages->frame_mask) == pages->first_frame ||
         entry->frame == (pages->first_frame & ~(entry->mask >> 12));
}

template <class T>
T* heap_copy(const T& value) {
  return new (g_malloc(sizeof(T))) T{value};
}

}  // namespace

QemuIotlb::QemuIotlb(std::uint32_t capacity)
    : table_{g_hash_table_new_full(&hash_key, &same_key, &g_free, &g_free)}, capacity_{capacity} {}

QemuIotlb::~QemuIotlb() { g_hash_table_destroy(table_); }

const IotlbEntry* QemuIotlb::find(std::uint16_t source, std::uint64_t iova) const {
  for (unsigned level = 1; level <= largest_level; ++level) {
    const IotlbKey key{.frame = (iova >> level_shift(level)) << (level_shift(level) - 12),
                       .pasid = no_pasid,
                       .level = level,
                       .source = source};
    if (const void* const found = g_hash_table_lookup(table_, &key)) return static_cast<const IotlbEntry*>(found);
  }
  return nullptr;
}

void QemuIotlb::insert(std::uint16_t source, unsigned level, const IotlbEntry& entry) {
  if (capacity_ != 0 && g_hash_table_size(table_) >= capacity_) drop_all();
  const IotlbKey key{.frame = entry.frame, .pasid = no_pasid, .level = level, .source = source};
  g_hash_table_replace(table_, heap_copy(key), heap_copy(entry));
}

void QemuIotlb::drop_all() { g_hash_table_remove_all(table_); }

void QemuIotlb::drop_domain(std::uint16_t domain) { g_hash_table_foreach_remove(table_, &of_domain, &domain); }

void QemuIotlb::drop_pages(std::uint16_t domain, std::uint64_t iova, unsigned order) {
  const std::uint64_t frame_mask = ~((std::uint64_t{1} << order) - 1);
  Pages pages{.first_frame = (iova >> 12) & frame_mask, .frame_mask = frame_mask, .domain = domain};
  g_hash_table_foreach_remove(table_, &among_pages, &pages);
}

}  // namespace viommu::bench
