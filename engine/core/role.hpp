// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Who is at a front end's work: one thread at a time, and nobody waits for it.
//
//   free --enter()--> taken --enter() of another--> noted        the one in the role works again before it leaves
//
// The one in the role gives it back by leave_unless_noted(), which only works from `taken`; so nothing is forgotten,
// and no lock is held while guest memory is read or the host is called.
//
// Read-modify-writes of one word alone: whoever takes the role sees what the last one did in it, and what everybody
// did who left a note that it answers.
#pragma once

#include <cstdint>

#include "engine/base/atomic.hpp"

namespace viommu::core {

/// What work has left.
enum class WorkState : std::uint8_t { idle, more, wait };

/// What has become of something that can only be done in the role.
enum class WorkLook : std::uint8_t {
  done,
  noted,  ///< done, and somebody left a note meanwhile: process() is to follow
  busy,   ///< another thread has it: nothing was done
};

/// Threads: any.
class Role {
 public:
  /// @return false: another thread has it, and will work again before it leaves
  [[nodiscard]] bool enter() noexcept {
    State found = State::free;
    if (role_.compare_exchange_strong(found, State::taken, std::memory_order_seq_cst)) return true;
    // If that thread has just given it back, the role is ours.
    return role_.exchange(State::noted, std::memory_order_seq_cst) == State::free;
  }
  /// The same without a note.
  [[nodiscard]] bool try_enter() noexcept {
    State found = State::free;
    return role_.compare_exchange_strong(found, State::taken, std::memory_order_seq_cst);
  }
  /// @return false: there is a note, which is forgotten by hear()
  [[nodiscard]] bool leave_unless_noted() noexcept {
    State taken = State::taken;
    return role_.compare_exchange_strong(taken, State::free, std::memory_order_seq_cst);
  }
  /// From here on a note means yet another turn. An exchange, because it has to see what came with the note.
  void hear() noexcept { role_.exchange(State::taken, std::memory_order_seq_cst); }
  /// @return whether there was a note, whose work is to be done
  bool leave() noexcept { return role_.exchange(State::free, std::memory_order_seq_cst) == State::noted; }

  /// After enter(): works until nobody has left a note, and leaves. @param work  WorkState()
  template <class Work>
  WorkState run(Work&& work) noexcept {
    // Bound: a guest that keeps ringing from another thread leaves `more` behind after as many turns as this.
    constexpr unsigned most_turns = 16;
    for (unsigned turn = 1;; ++turn) {
      const WorkState state = work();
      if (leave_unless_noted()) return state;
      if (state == WorkState::more || turn == most_turns) {
        leave();
        return WorkState::more;
      }
      hear();
    }
  }
  /// Runs `use()` in it, unless another thread has it.
  template <class Use>
  [[nodiscard]] WorkLook exclusively(const Use& use) noexcept {
    if (!try_enter()) return WorkLook::busy;
    use();
    return leave() ? WorkLook::noted : WorkLook::done;
  }

 private:
  enum class State : std::uint8_t { free, taken, noted };

  Atomic<State> role_{State::free};
};

}  // namespace viommu::core
