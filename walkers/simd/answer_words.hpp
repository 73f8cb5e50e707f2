// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Answers out of lanes: the words of one vector of them, and each answer taken out of its lane.
#pragma once

#include "engine/base/memory_view.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

namespace viommu::walkers {

/// Answer: trivial, of whole words; both sides are little endian.
template <class Lanes, class Answer>
class AnswerWords {
 public:
  static constexpr unsigned byte_bits = 8;

  template <std::size_t number>
  void put(const typename Lanes::Word& word) noexcept {
    Lanes::store(std::get<number>(rows_).data(), word);
  }
  void give(std::size_t lane, Answer& answer) const noexcept {
    for (std::size_t i = 0; i < count; ++i)
      std::memcpy(reinterpret_cast<std::byte*>(&answer) + i * sizeof(std::uint64_t), &rows_[i][lane],
                  sizeof(std::uint64_t));
  }

 private:
  static constexpr std::size_t count = sizeof(Answer) / sizeof(std::uint64_t);
  static_assert(std::is_trivially_copyable_v<Answer> && sizeof(Answer) % sizeof(std::uint64_t) == 0);

  alignas(line_bytes) std::array<std::array<std::uint64_t, Lanes::count>, count> rows_;
};

}  // namespace viommu::walkers
