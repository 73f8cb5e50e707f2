// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Where guest words lie in host memory, many at a time: a view's two largest spans in lanes.
#pragma once

#include "engine/base/memory_view.hpp"

#include <array>
#include <cstddef>
#include <cstdint>

namespace viommu::walkers {

template <class Lanes>
class SpanLanes {
  using Word = typename Lanes::Word;
  using Mask = typename Lanes::Mask;
  using Op = typename Lanes::Predicates;

 public:
  explicit SpanLanes(const MemoryView& memory) noexcept {
    std::size_t count = 0;
    for (const MemorySpan& span : memory.spans) {
      if (count == spans_.size()) break;
      const std::uint64_t bias = sign - span.first.value;
      spans_[count++] = {bias, sign + span.last_offset, reinterpret_cast<std::uint64_t>(span.host) - sign};
    }
  }

  /// What every vector of a step needs, out of memory that the compiler must take for changed with every store.
  struct Constants {
    struct Look {
      Word bias;
      Word last;
      Word host;
    };
    Look first;
    Look second;
    Word nothing;
  };
  [[nodiscard]] Constants constants() const noexcept {
    const auto look = [](const Span& span) {
      return typename Constants::Look{Word(span.bias), Word(span.last), Word(span.host)};
    };
    return {look(spans_[0]), look(spans_[1]), Word(nothing())};
  }
  /// The host address of what is in no span.
  [[nodiscard]] static std::uint64_t nothing() noexcept { return reinterpret_cast<std::uint64_t>(&zeros); }

  /// @param slots    multiples of 8
  /// @param address  of the host: of those words that are in a span and `among` some, else of zeros of ours. It is
  ///                 chosen, not branched to: no CPU runs ahead with one that a guest made up
  /// @return those that are in a span
  [[nodiscard]] static Mask find(const Constants& constants, const Mask& among, const Word& slots,
                                 Word& address) noexcept {
    const Word first = slots + constants.first.bias;
    const Word second = slots + constants.second.bias;
    const Mask in_first = Op::within(among, first, constants.first.last);
    const Mask in_second = Op::within(among, second, constants.second.last);
    address = Op::choose(in_first, first + constants.first.host, constants.nothing);
    address = Op::choose(in_second, second + constants.second.host, address);
    return Op::either(in_first, in_second);
  }

 private:
  static constexpr std::uint64_t sign = std::uint64_t{1} << 63;
  static constexpr Line zeros{};

  struct Span {                     // unless it is filled in, one that no slot lies in
    std::uint64_t bias = sign + 1;  ///< added to an address, lets a signed comparison with `last` say that it is inside
    std::uint64_t last = sign;
    std::uint64_t host = 0;  ///< added to the biased address, gives the host's
  };
  std::array<Span, 2> spans_;
};

}  // namespace viommu::walkers
