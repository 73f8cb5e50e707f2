// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Lanes over xsimd: words are its batches, and masks its batch_bools wherever those are as wide as the words.
#pragma once

#include <cstdint>
#include <xsimd/xsimd.hpp>

namespace viommu::walkers {

template <class Arch>
using Batch = xsimd::batch<std::uint64_t, Arch>;
template <class Arch>
using BatchMask = xsimd::batch_bool<std::uint64_t, Arch>;

/// What a kernel asks of words: which of the lanes `among` some are such.
template <class Arch>
struct Predicates {
  using Word = Batch<Arch>;
  using Mask = BatchMask<Arch>;

  // NOLINTBEGIN(misc-redundant-expression): every word equals itself, which is the mask
  [[nodiscard]] static Mask every() noexcept { return zero() == zero(); }
  [[nodiscard]] static Mask none() noexcept { return zero() != zero(); }
  // NOLINTEND(misc-redundant-expression)
  /// Any of these bits set, and none of them.
  [[nodiscard]] static Mask any_of(const Mask& among, const Word& word, const Word& bits) noexcept {
    return among & ((word & bits) != zero());
  }
  [[nodiscard]] static Mask none_of(const Mask& among, const Word& word, const Word& bits) noexcept {
    return among & ((word & bits) == zero());
  }
  [[nodiscard]] static Mask equal(const Mask& among, const Word& a, const Word& b) noexcept { return among & (a == b); }
  [[nodiscard]] static Mask differ(const Mask& among, const Word& a, const Word& b) noexcept {
    return among & (a != b);
  }
  /// word <= last as signed numbers.
  [[nodiscard]] static Mask within(const Mask& among, const Word& word, const Word& last) noexcept {
    using Signed = xsimd::batch<std::int64_t, Arch>;
    using Register = typename Signed::register_type;
    Mask beyond;  // not xsimd::bitwise_cast: it leaves functions of its own behind
    beyond.data =
        (Signed(__builtin_bit_cast(Register, word.data)) > Signed(__builtin_bit_cast(Register, last.data))).data;
    return without(among, beyond);
  }
  [[nodiscard]] static Mask either(const Mask& a, const Mask& b) noexcept { return a | b; }
  [[nodiscard]] static Mask without(const Mask& a, const Mask& b) noexcept { return a & ~b; }
  [[nodiscard]] static Word choose(const Mask& mask, const Word& yes, const Word& no) noexcept {
    return xsimd::select(mask, yes, no);
  }

 private:
  [[nodiscard]] static Word zero() noexcept { return Word(std::uint64_t{0}); }
};

}  // namespace viommu::walkers
