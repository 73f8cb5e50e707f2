// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// In place of the library's header of this name, in the harness: the same names, each operation handed to the simulator
// together with the place in the source that it is made from.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstring>
#include <mutex>
#include <source_location>
#include <thread>
#include <type_traits>

#include "tests/harness/simulator.hpp"

namespace viommu {

inline constexpr std::size_t shared_line_bytes = 128;

template <class T>
class Atomic {
  using Place = std::source_location;

 public:
  Atomic() noexcept : Atomic{T{}} {}
  Atomic(T value) noexcept : value_{value} { harness::simulator().forget(this); }
  Atomic(const Atomic&) = delete;
  Atomic& operator=(const Atomic&) = delete;

  T load(std::memory_order order = std::memory_order_seq_cst, Place place = Place::current()) const noexcept {
    return from(harness::simulator().load(this, bits(value_), order, place));
  }
  operator T() const noexcept { return load(); }
  void store(T value, std::memory_order order = std::memory_order_seq_cst, Place place = Place::current()) noexcept {
    if (harness::simulator().store(this, bits(value_), bits(value), order, place)) value_ = value;
  }
  T exchange(T value, std::memory_order order = std::memory_order_seq_cst, Place place = Place::current()) noexcept {
    return modify([&](T) { return value; }, order, place);
  }
  T fetch_add(T value, std::memory_order order = std::memory_order_seq_cst, Place place = Place::current()) noexcept {
    return modify([&](T old) { return static_cast<T>(old + value); }, order, place);
  }
  T fetch_sub(T value, std::memory_order order = std::memory_order_seq_cst, Place place = Place::current()) noexcept {
    return modify([&](T old) { return static_cast<T>(old - value); }, order, place);
  }
  T fetch_or(T value, std::memory_order order = std::memory_order_seq_cst, Place place = Place::current()) noexcept {
    return modify([&](T old) { return static_cast<T>(old | value); }, order, place);
  }
  T fetch_and(T value, std::memory_order order = std::memory_order_seq_cst, Place place = Place::current()) noexcept {
    return modify([&](T old) { return static_cast<T>(old & value); }, order, place);
  }
  bool compare_exchange_strong(T& expected, T desired, std::memory_order order, std::memory_order otherwise,
                               Place place = Place::current()) noexcept {
    const auto exchanged = harness::simulator().compare_exchange(this, bits(value_), bits(expected), bits(desired),
                                                                 order, otherwise, place);
    if (exchanged.done && exchanged.newest) value_ = desired;
    if (!exchanged.done) expected = from(exchanged.found);
    return exchanged.done;
  }
  bool compare_exchange_strong(T& expected, T desired, std::memory_order order = std::memory_order_seq_cst,
                               Place place = Place::current()) noexcept {
    const std::memory_order otherwise = order == std::memory_order_acq_rel   ? std::memory_order_acquire
                                        : order == std::memory_order_release ? std::memory_order_relaxed
                                                                             : order;
    return compare_exchange_strong(expected, desired, order, otherwise, place);
  }
  bool compare_exchange_weak(T& expected, T desired, std::memory_order order, std::memory_order otherwise,
                             Place place = Place::current()) noexcept {
    return compare_exchange_strong(expected, desired, order, otherwise, place);
  }
  bool compare_exchange_weak(T& expected, T desired, std::memory_order order = std::memory_order_seq_cst,
                             Place place = Place::current()) noexcept {
    return compare_exchange_strong(expected, desired, order, place);
  }

 private:
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= sizeof(std::uint64_t));
  [[nodiscard]] static harness::Value bits(T value) noexcept {
    harness::Value into;
    std::memcpy(&into.low, &value, sizeof value);
    return into;
  }
  [[nodiscard]] static T from(const harness::Value& bits) noexcept {
    T value{};
    std::memcpy(static_cast<void*>(&value), &bits.low, sizeof value);
    return value;
  }
  template <class Change>
  T modify(const Change& change, std::memory_order order, const Place& place) noexcept {
    const T old = from(harness::simulator().begin_modify(this, bits(value_), order, place));
    const T value = change(old);
    if (harness::simulator().end_modify(bits(value), order)) value_ = value;
    return old;
  }

  T value_;  ///< the newest
};

class Mutex {
 public:
  void lock() noexcept { harness::simulator().lock(held_); }
  bool try_lock() noexcept { return harness::simulator().try_lock(held_); }
  void unlock() noexcept { harness::simulator().unlock(held_); }

 private:
  bool held_ = false;
};

inline void full_fence(std::source_location place = std::source_location::current()) noexcept {
  harness::simulator().full_fence(place);
}
inline void compiler_fence(std::source_location place = std::source_location::current()) noexcept {
  harness::simulator().compiler_fence(place);
}
inline void spin_pause(unsigned /*round*/) noexcept { harness::simulator().pause(); }

}  // namespace viommu
