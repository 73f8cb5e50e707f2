// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The C++ memory model, executable: what each atomic operation of a few fibers may return, and what it makes known.
//
// A location keeps the history of its stores. A load may return any store not older than what its fiber knows of the
// location; which one is the schedule's choice. What a fiber knows is a view: of each location the oldest store that
// may still be read, and of each fiber the steps that happened before. A release store carries the view of its fiber,
// and an acquire load takes it over. Fences (seq_cst) are in one order, the one they are executed in, and hand on what
// is known of stores, but no happens-before.
// A read-modify-write may also go in front of a store that was made, but not seen by it, as if that waited in a buffer.
// Left out: the same for plain stores, loads that return what is stored only later, and an order of seq_cst operations
// that is not the one of their execution.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <unordered_map>
#include <vector>

namespace viommu::harness {

inline constexpr std::size_t most_fibers = 4;

/// Of any atomic object, as bits.
struct Value {
  std::uint64_t low = 0;
  std::uint64_t high = 0;

  friend constexpr bool operator==(const Value&, const Value&) = default;
};

/// What is known, see above.
struct View {
  std::vector<std::uint64_t> stores;  ///< by location, as Store::at; what it is too short for is 0
  std::array<std::uint32_t, most_fibers> steps{};

  void join_stores(const View& other);
  void join(const View& other);
  void raise(std::size_t location, std::uint64_t store);
  [[nodiscard]] std::uint64_t oldest(std::size_t location) const noexcept {
    return location < stores.size() ? stores[location] : 0;
  }
  void clear() noexcept;
};

enum class Model : std::uint8_t {
  cxx,  ///< what the orders say
  x86,  ///< each load acquires, each store releases, each read-modify-write is a fence
};

/// Threads: one; "fiber" says whose operation it is.
class Memory {
 public:
  using Location = std::size_t;

  void reset(Model model, std::size_t fibers);
  /// The location of an object, which holds `now` if it was not seen before.
  [[nodiscard]] Location location(const void* object, const Value& now);
  /// Another object begins its life there.
  void forget(const void* object) { locations_.erase(object); }

  /// The age of the store that the fiber itself last read or made there, whatever it has heard of since. None before.
  [[nodiscard]] std::optional<std::size_t> age_of_own(std::size_t fiber, Location location) const noexcept;
  /// How many stores a load may choose from, the newest first.
  [[nodiscard]] std::size_t readable(std::size_t fiber, Location location, std::memory_order order) const;
  /// @param age  of the store that is read, 0 is the newest
  Value load(std::size_t fiber, Location location, std::size_t age, std::memory_order order);
  void store(std::size_t fiber, Location location, const Value& value, std::memory_order order);
  [[nodiscard]] const Value& value(Location location, std::size_t age) const noexcept {
    return histories_[location][histories_[location].size() - 1 - age].value;
  }
  /// Whether a read-modify-write may read that store: its own goes right behind it, where no other one's may be
  /// already. With an age other than 0 a newer store was made already and reaches memory only after this one.
  [[nodiscard]] bool modifiable(Location location, std::size_t age) const noexcept {
    return age == 0 || !histories_[location][histories_[location].size() - age].chained;
  }
  void modify(std::size_t fiber, Location location, std::size_t age, const Value& value, std::memory_order order);

  void full_fence(std::size_t fiber);
  /// A fence that another fiber asks for by a process barrier: it makes those stores visible that the compiler must
  /// have put before this point, that is, those before a compiler fence or an operation that is one.
  void foreign_fence(std::size_t fiber);
  void compiler_fence(std::size_t fiber) { fibers_[fiber].ordered = fibers_[fiber].view; }

  /// Happens-before of plain accesses. @return the number of this step, for others to ask for
  std::uint32_t step(std::size_t fiber) noexcept { return ++fibers_[fiber].view.steps[fiber]; }
  [[nodiscard]] bool happened_before(std::size_t of, std::uint32_t step, std::size_t fiber) const noexcept {
    return fibers_[fiber].view.steps[of] >= step;
  }
  /// A lock hands all that is known from its last owner to the next.
  void locked(std::size_t fiber, const void* lock) { fibers_[fiber].view.join(locks_[lock]); }
  void unlocked(std::size_t fiber, const void* lock);

 private:
  struct Store {
    Value value;
    std::uint64_t at = 0;  ///< its place in the order of the location's stores
    bool chained = false;  ///< by a read-modify-write that read the one before
    View released;         ///< what an acquire load of it takes over
  };
  struct Fiber {
    View view;
    View seen;     ///< by relaxed loads: known after the next fence
    View fenced;   ///< at the last fence: carried by relaxed stores, too
    View ordered;  ///< what no compiler may move down across this point
    View own;      ///< one more than the store last read or made
  };

  [[nodiscard]] std::uint64_t oldest(std::size_t fiber, Location location, std::memory_order order) const;
  void put(std::size_t fiber, Location location, std::size_t behind, const Value& value, std::memory_order order,
           bool chained);

  Model model_ = Model::cxx;
  std::unordered_map<const void*, Location> locations_;
  std::unordered_map<const void*, View> locks_;
  std::vector<std::vector<Store>> histories_;
  std::size_t used_ = 0;  ///< histories in use; the others keep their room
  std::array<Fiber, most_fibers> fibers_{};
  View fences_;      ///< of all fences so far
  View sequential_;  ///< stores made and read by operations of the order seq_cst
};

}  // namespace viommu::harness
