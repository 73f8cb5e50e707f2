// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "tests/harness/memory.hpp"

#include <algorithm>

namespace viommu::harness {
namespace {

[[nodiscard]] bool acquires(std::memory_order order) noexcept {
  return order == std::memory_order_acquire || order == std::memory_order_acq_rel || order == std::memory_order_seq_cst;
}
[[nodiscard]] bool releases(std::memory_order order) noexcept {
  return order == std::memory_order_release || order == std::memory_order_acq_rel || order == std::memory_order_seq_cst;
}

}  // namespace

void View::join_stores(const View& other) {
  if (stores.size() < other.stores.size()) stores.resize(other.stores.size());
  for (std::size_t i = 0; i < other.stores.size(); ++i) stores[i] = std::max(stores[i], other.stores[i]);
}

void View::join(const View& other) {
  join_stores(other);
  for (std::size_t i = 0; i < steps.size(); ++i) steps[i] = std::max(steps[i], other.steps[i]);
}

void View::raise(std::size_t location, std::uint64_t store) {
  if (stores.size() <= location) stores.resize(location + 1);
  stores[location] = std::max(stores[location], store);
}

void View::clear() noexcept {
  stores.clear();
  steps = {};
}

void Memory::reset(Model model, std::size_t fibers) {
  model_ = model;
  locations_.clear();
  locks_.clear();
  used_ = 0;
  fences_.clear();
  sequential_.clear();
  for (std::size_t i = 0; i < fibers; ++i) {
    Fiber& fiber = fibers_[i];
    fiber.view.clear();
    fiber.seen.clear();
    fiber.fenced.clear();
    fiber.ordered.clear();
    fiber.own.clear();
  }
}

Memory::Location Memory::location(const void* object, const Value& now) {
  const auto [at, fresh] = locations_.try_emplace(object, used_);
  if (fresh) {
    if (used_ == histories_.size()) histories_.emplace_back();
    histories_[used_].resize(1);
    histories_[used_][0] = {};
    histories_[used_][0].value = now;
    ++used_;
  }
  return at->second;
}

std::optional<std::size_t> Memory::age_of_own(std::size_t fiber, Location location) const noexcept {
  const std::uint64_t own = fibers_[fiber].own.oldest(location);
  if (own == 0) return {};
  const std::vector<Store>& history = histories_[location];
  std::size_t age = 0;
  while (history[history.size() - 1 - age].at + 1 != own) ++age;  // it is there
  return age;
}

std::uint64_t Memory::oldest(std::size_t fiber, Location location, std::memory_order order) const {
  std::uint64_t oldest = fibers_[fiber].view.oldest(location);
  // An operation in the one order of seq_cst reads nothing older than what stands before it there.
  if (order == std::memory_order_seq_cst)
    oldest = std::max({oldest, fences_.oldest(location), sequential_.oldest(location)});
  return oldest;
}

std::size_t Memory::readable(std::size_t fiber, Location location, std::memory_order order) const {
  const std::vector<Store>& history = histories_[location];
  const std::uint64_t from = oldest(fiber, location, order);
  std::size_t count = 1;
  while (count < history.size() && history[history.size() - 1 - count].at >= from) ++count;
  return count;
}

Value Memory::load(std::size_t fiber, Location location, std::size_t age, std::memory_order order) {
  const Store& store = histories_[location][histories_[location].size() - 1 - age];
  Fiber& self = fibers_[fiber];
  self.view.raise(location, store.at);
  self.own.raise(location, store.at + 1);
  if (acquires(order) || model_ == Model::x86) {
    self.view.join(store.released);
  } else {
    self.seen.join(store.released);
  }
  if (order == std::memory_order_seq_cst) sequential_.raise(location, store.at);
  return store.value;
}

void Memory::put(std::size_t fiber, Location location, std::size_t behind, const Value& value, std::memory_order order,
                 bool chained) {
  constexpr std::uint64_t gap = std::uint64_t{1} << 32;
  std::vector<Store>& history = histories_[location];
  Fiber& self = fibers_[fiber];
  Store store;
  store.value = value;
  store.chained = chained;
  store.at = behind + 1 == history.size() ? history[behind].at + gap
                                          : history[behind].at + (history[behind + 1].at - history[behind].at) / 2;
  self.view.raise(location, store.at);
  self.own.raise(location, store.at + 1);
  if (releases(order) || model_ == Model::x86) {
    store.released = self.view;
  } else {
    store.released = self.fenced;
    store.released.raise(location, store.at);
  }
  if (chained) store.released.join(history[behind].released);  // a release sequence goes on
  if (order == std::memory_order_seq_cst) sequential_.raise(location, store.at);
  history.insert(history.begin() + static_cast<std::ptrdiff_t>(behind) + 1, std::move(store));
}

void Memory::store(std::size_t fiber, Location location, const Value& value, std::memory_order order) {
  put(fiber, location, histories_[location].size() - 1, value, order, false);
}

void Memory::modify(std::size_t fiber, Location location, std::size_t age, const Value& value,
                    std::memory_order order) {
  if (model_ == Model::x86) full_fence(fiber);
  load(fiber, location, age, order);
  put(fiber, location, histories_[location].size() - 1 - age, value, order, true);
  if (model_ == Model::x86) full_fence(fiber);
  // Nothing moves across one that is acquire and release to the compiler.
  if (acquires(order) && releases(order)) fibers_[fiber].ordered = fibers_[fiber].view;
}

void Memory::full_fence(std::size_t fiber) {
  Fiber& self = fibers_[fiber];
  self.view.join(self.seen);
  self.view.join_stores(fences_);
  self.view.join_stores(sequential_);
  fences_.join_stores(self.view);
  self.fenced = self.view;
  self.ordered = self.view;
}

void Memory::foreign_fence(std::size_t fiber) {
  Fiber& self = fibers_[fiber];
  self.view.join_stores(fences_);
  self.view.join_stores(sequential_);
  fences_.join_stores(self.ordered);
}

void Memory::unlocked(std::size_t fiber, const void* lock) {
  fibers_[fiber].ordered = fibers_[fiber].view;
  locks_[lock].join(fibers_[fiber].view);
}

}  // namespace viommu::harness
