// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "bench/peers/gtree_mutex.hpp"

namespace viommu::bench {
namespace {

struct Interval {
  std::uint64_t first;
  std::uint64_t last;
};

struct Target {
  std::uint64_t gpa;
  std::uint32_t flags;
};

/// Intervals that overlap count as equal.
[[nodiscard]] int order(const void* left, const void* right, void* /*unused*/) {
  const auto& one = *static_cast<const Interval*>(left);
  const auto& other = *static_cast<const Interval*>(right);
  if (one.last < other.first) return -1;
  return other.last < one.first ? 1 : 0;
}

}  // namespace

GTreeMutex::GTreeMutex() : tree_{g_tree_new_full(&order, nullptr, &g_free, &g_free)} {}
GTreeMutex::~GTreeMutex() { g_tree_unref(tree_); }

bool GTreeMutex::map(std::uint64_t first, std::uint64_t last, std::uint64_t gpa) {
  const std::lock_guard lock{mutex_};
  const Interval wanted{first, last};
  if (g_tree_lookup(tree_, &wanted) != nullptr) return false;
  auto* const key = g_new(Interval, 1);
  *key = wanted;
  auto* const target = g_new(Target, 1);
  *target = {gpa, 3};
  g_tree_insert(tree_, key, target);
  return true;
}

bool GTreeMutex::unmap(std::uint64_t first, std::uint64_t last) {
  const std::lock_guard lock{mutex_};
  const Interval wanted{first, last};
  void* key = nullptr;
  void* target = nullptr;
  while (g_tree_lookup_extended(tree_, &wanted, &key, &target) != 0) {
    const Interval found = *static_cast<const Interval*>(key);
    if (found.first < first || found.last > last) return false;
    g_tree_remove(tree_, key);
  }
  return true;
}

std::uint64_t GTreeMutex::Port::translate(std::uint64_t iova) {
  const std::lock_guard lock{tree_.mutex_};
  const Interval wanted{iova, iova};
  void* key = nullptr;
  void* target = nullptr;
  if (g_tree_lookup_extended(tree_.tree_, &wanted, &key, &target) == 0) return ~std::uint64_t{0};
  return static_cast<const Target*>(target)->gpa + (iova - static_cast<const Interval*>(key)->first);
}

}  // namespace viommu::bench
