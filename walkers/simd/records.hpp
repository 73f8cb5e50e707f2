// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Requests into lanes and answers out of them, a vector at a time.
#pragma once

#include "engine/base/memory_view.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

namespace viommu::walkers {

/// The three words of each request.
/// @param count  of them, not 0; those that no lane is left for stay behind. Lanes that no request is left for repeat
///               the last one: they load what it loads, and are not asked for their answers
template <class Lanes, class Request>
void load_requests(const Request* requests, std::size_t count, typename Lanes::Word& table, typename Lanes::Word& iova,
                   typename Lanes::Word& rest) noexcept {
  static_assert(sizeof(Request) == 3 * sizeof(std::uint64_t));
  if (count >= Lanes::count) return Lanes::load_requests(requests, table, iova, rest);
  std::array<Request, Lanes::count> some;
  for (std::size_t lane = 0; lane < Lanes::count; ++lane) some[lane] = requests[std::min(lane, count - 1)];
  Lanes::load_requests(some.data(), table, iova, rest);
}

/// The words of answers. Answer: trivial, of whole words; both sides are little endian.
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
