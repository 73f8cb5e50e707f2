// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The lookup of a batch, four requests at a time. Included by the file of each instruction set and compiled with its
// flags; Isa::ways_with(line, word) is all that differs: a bit for each word of the set's line that is equal, the even
// ones, which are first words.
//
// Two passes over at most batch_lookup_width requests. The first finds out where each will be looked up and brings that
// line near; the second looks. In the first all requests of one source in a row share one look at its context. What
// small pages and blocks do not answer is looked for among large pages, where there are any.
#pragma once

#include <immintrin.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "caches/batch_lookup.hpp"
#include "caches/iotlb_layout.hpp"

namespace viommu::caches {
namespace {

inline constexpr std::size_t lanes = 4;
using Words [[gnu::vector_size(lanes * 8)]] = std::uint64_t;
using Signs [[gnu::vector_size(lanes * 8)]] = std::int64_t;  ///< a comparison: all ones where it holds

[[nodiscard, gnu::always_inline]] inline Words load(const void* from) noexcept {
  Words words;
  std::memcpy(&words, from, sizeof words);
  return words;
}
[[gnu::always_inline]] inline void store(void* to, Words words) noexcept { std::memcpy(to, &words, sizeof words); }
[[nodiscard, gnu::always_inline]] inline Words every(std::uint64_t word) noexcept { return Words{} + word; }
[[nodiscard, gnu::always_inline]] inline Words only(Signs where, Words words) noexcept {
  return reinterpret_cast<Words>(where) & words;
}
/// Signed: for words below 2^63.
[[nodiscard, gnu::always_inline]] inline Signs less(Words a, Words b) noexcept {
  return reinterpret_cast<Signs>(a) < reinterpret_cast<Signs>(b);
}

/// The last words of four records.
[[nodiscard, gnu::always_inline]] inline Words tails_of(Words first, Words second, Words third) noexcept {
  const Words some = __builtin_shufflevector(third, second, 0, 5, 2, 3);  // third, second, -, fourth
  return __builtin_shufflevector(some, first, 6, 1, 0, 3);
}
[[nodiscard, gnu::always_inline]] inline Signs plain(Words tails) noexcept {
  const Words said = tails >> request_layout::access_at &
                     ~(request_layout::no_report << (request_layout::flags_at - request_layout::access_at));
  return less(Words{}, said) & less(said, every(all_right_bits + 1));
}

/// Whose pages the four requests are.
struct Owners {
  Words prefix{};
  Words first_set{};
  Words paged{};  ///< 0: of nobody
};
/// One source's.
struct Owner {
  std::uint64_t prefix = 0;
  std::uint64_t first_set = 0;
  std::uint64_t paged = 0;
  Sizes sizes = 0;  ///< that its address space may have

  Owner() = default;
  [[gnu::always_inline]] Owner(const BatchTables& tables, std::uint64_t source) noexcept {
    const ContextEntry context = tables.contexts->find(SourceId{static_cast<std::uint16_t>(source)});
    if (!context) return;
    const AddressSpace& space = context.space();
    const Place place = space.place();
    prefix = place.prefix();
    first_set = place.first_set();
    paged = space.paged.value;
    sizes = space.sizes.load(std::memory_order_relaxed);
  }
  [[nodiscard, gnu::always_inline]] Owners everywhere() const noexcept {
    return {every(prefix), every(first_set), every(paged)};
  }
};

/// @param sizes  receives what they may have, besides what is there
[[nodiscard, gnu::noinline]] Owners owners_of(const BatchTables& tables, const Words& sources, Sizes& sizes) noexcept {
  const Owner first{tables, sources[0]};
  sizes |= first.sizes;
  Owners owners = first.everywhere();
  for (std::size_t lane = 1; lane < lanes; ++lane) {
    if (sources[lane] == sources[0]) continue;
    const Owner other{tables, sources[lane]};
    sizes |= other.sizes;
    owners.prefix[lane] = other.prefix;
    owners.first_set[lane] = other.first_set;
    owners.paged[lane] = other.paged;
  }
  return owners;
}

[[nodiscard, gnu::always_inline]] inline const std::byte* host(std::uint64_t address) noexcept {
  return reinterpret_cast<const std::byte*>(address);  // NOLINT(performance-no-int-to-ptr): made of one, lane by lane
}
[[nodiscard, gnu::always_inline]] inline std::uint64_t address(const std::byte* at) noexcept {
  return reinterpret_cast<std::uintptr_t>(at);
}
/// An entry as one value: AtomicPair::load() with the encoding that does not mix with others.
[[nodiscard, gnu::always_inline]] inline __m128i pair_at(const std::byte* entry) noexcept {
  __m128i pair;
  asm volatile("vmovdqa %1, %0" : "=x"(pair) : "m"(*reinterpret_cast<const __m128i*>(entry)) : "memory");
  return pair;
}
/// One bit for each lane whose mask is set.
[[nodiscard, gnu::always_inline]] inline unsigned bits_of(Signs mask) noexcept {
  return static_cast<unsigned>(_mm256_movemask_pd(reinterpret_cast<__m256d>(mask)));
}
/// Where in its line the way is that has one of the words; the last where there is none.
[[nodiscard, gnu::always_inline]] inline std::size_t way_at(unsigned words) noexcept {
  return static_cast<std::size_t>(__builtin_ctz(words | 0x40)) * 8;
}
/// The way of a set that has the word (or any other), read as one value.
template <class Isa>
[[nodiscard, gnu::always_inline]] inline __m128i entry_in(const std::byte* line, std::uint64_t word) noexcept {
  return pair_at(line + way_at(Isa::ways_with(line, word)));
}
/// The same of two sets, the page's first.
template <class Isa>
[[nodiscard, gnu::always_inline]] inline __m128i entry_in(const std::byte* page, std::uint64_t word,
                                                          const std::byte* block, std::uint64_t block_word) noexcept {
  const unsigned in_page = Isa::ways_with(page, word);
  const unsigned in_block = Isa::ways_with(block, block_word);
  // Without a branch: which of the two it is, nobody can predict.
  const std::uintptr_t other = in_page != 0 ? 0 : ~std::uintptr_t{0};
  const std::uint64_t line = address(page) ^ ((address(page) ^ address(block)) & other);
  return pair_at(host(line) + way_at(in_page | (in_block & static_cast<unsigned>(other))));
}
/// Of the word of one of its pages.
[[nodiscard, gnu::always_inline]] constexpr auto block_of(auto word) noexcept {
  constexpr std::uint64_t in_block = std::uint64_t{iotlb_layout::pages_per_block - 1} << iotlb_layout::number_at;
  return (word & ~in_block) | iotlb_layout::block_code << iotlb_layout::size_at;
}

/// What the first pass finds out.
struct Places {
  static constexpr std::size_t most = batch_lookup_width;
  alignas(64) std::uint64_t iova[most];
  alignas(64) std::uint64_t asked[most];
  alignas(64) std::uint64_t word[most];   ///< of the page
  alignas(64) std::uint64_t page[most];   ///< address of the page's set
  alignas(64) std::uint64_t block[most];  ///< of the block's; only with `blocks`
  alignas(64) std::uint64_t first_set[most];
  Sizes sizes;  ///< that any of the address spaces may have

  [[nodiscard]] bool may_have(PageSize size) const noexcept { return (sizes & bit_of(size)) != 0; }
};

/// One answer, in its place or nowhere: a branch on which lanes have a hit would be mispredicted.
[[gnu::always_inline]] inline void store_if(bool is_hit, std::byte* to, std::uint64_t gpa, std::uint64_t mask,
                                            std::uint64_t tail) noexcept {
  std::byte nowhere[record_bytes];
  // So that the compiler does not make a branch of it.
  auto where = reinterpret_cast<std::uintptr_t>(nowhere);
  asm("test %[hit], %[hit]\n\tcmovne %[to], %[where]"
      : [where] "+r"(where)
      : [hit] "r"(int{is_hit}), [to] "r"(to)
      : "cc");
  auto* const record = reinterpret_cast<std::byte*>(where);  // NOLINT(performance-no-int-to-ptr): one of the two above
  std::memcpy(record, &gpa, sizeof gpa);
  std::memcpy(record + 8, &mask, sizeof mask);
  std::memcpy(record + 16, &tail, sizeof tail);
}

/// Four entries, word by word.
struct Entries {
  Words first;
  Words second;

  [[gnu::always_inline]] explicit Entries(const __m128i (&entries)[lanes]) noexcept {
    const auto even = reinterpret_cast<Words>(_mm256_set_m128i(entries[2], entries[0]));
    const auto odd = reinterpret_cast<Words>(_mm256_set_m128i(entries[3], entries[1]));
    first = __builtin_shufflevector(even, odd, 0, 4, 2, 6);
    second = __builtin_shufflevector(even, odd, 1, 5, 3, 7);
  }
};

template <class Isa>
struct Lookup {
  /// @return which of the requests may be looked up
  [[nodiscard, gnu::always_inline]] static BatchBits find_places(const BatchTables& tables, const Iotlb::Lines& lines,
                                                                 const std::byte* requests, std::size_t count,
                                                                 Places& places) noexcept {
    BatchBits eligible{};
    Owners owners;
    Words source = every(~std::uint64_t{0});  // nobody's
    places.sizes = 0;
    for (std::size_t i = 0; i < count; i += lanes) {
      const std::byte* const from = requests + i * record_bytes;
      const Words first = load(from);
      const Words second = load(from + 32);
      const Words third = load(from + 64);
      const Words tail = tails_of(first, second, third);
      const Words some = __builtin_shufflevector(first, second, 0, 1, 6, 3);  // first, -, third, second
      const Words iova = __builtin_shufflevector(some, third, 0, 3, 2, 5);
      const Words asker = tail >> request_layout::source_at & low_bits(16);
      if (bits_of(asker == source) != 0xF) [[unlikely]] {
        owners = owners_of(tables, asker, places.sizes);
        source = asker;
      }
      const Signs good = plain(tail) & less(iova, owners.paged) & less(every(~std::uint64_t{0}), iova);
      eligible[i / 64] |= std::uint64_t{bits_of(good)} << (i % 64);

      const Words word = iotlb_layout::page_word(owners.prefix, iova);
      const Words hashed = iotlb_layout::hash(iotlb_layout::key_of(word), lines.seed) >> every(lines.hash_shift);
      const auto line = [&](Words in_shard) {
        return reinterpret_cast<std::uintptr_t>(lines.sets) + (owners.first_set + in_shard) * iotlb_layout::set_bytes;
      };
      store(&places.iova[i], iova);
      store(&places.asked[i], tail >> request_layout::access_at & all_right_bits);
      store(&places.word[i], word);
      store(&places.page[i], line(hashed ^ iotlb_layout::page_in_block(iova)));
      for (std::size_t lane = 0; lane < lanes; ++lane) __builtin_prefetch(host(places.page[i + lane]));
      store(&places.block[i], line(hashed));
      store(&places.first_set[i], owners.first_set);
      if (places.may_have(PageSize::kib32))
        for (std::size_t lane = 0; lane < lanes; ++lane) __builtin_prefetch(host(places.block[i + lane]));
    }
    return eligible;
  }

  /// The answers of those that are eligible and found. @return which
  template <bool blocks>
  [[nodiscard, gnu::always_inline]] static BatchBits look(const BatchTables& tables, const Places& places,
                                                          const BatchBits& eligible, std::byte* answers,
                                                          std::size_t count) noexcept {
    BatchBits found{};
    for (std::size_t i = 0; i < count; i += lanes) {
      __m128i entries[lanes];
      for (std::size_t lane = 0; lane < lanes; ++lane) {
        const std::byte* const page = host(places.page[i + lane]);
        const std::uint64_t word = places.word[i + lane];
        if constexpr (blocks)
          entries[lane] = entry_in<Isa>(page, word, host(places.block[i + lane]), block_of(word));
        else
          entries[lane] = entry_in<Isa>(page, word);
      }
      const auto [first, second] = Entries{entries};
      const Words iova = load(&places.iova[i]);
      const Words word = load(&places.word[i]);
      const Words asked = load(&places.asked[i]);

      Signs hit = first == word;
      Words within = every(low_bits(page_shift));
      if constexpr (blocks) {
        const Words page_of_block = second >> (iotlb_layout::page_in_block(iova) + iotlb_layout::pages_at) & 1;
        const Signs in_block = (first == block_of(word)) & (page_of_block == every(1));
        hit |= in_block;
        within |= only(in_block, every(low_bits(iotlb_layout::block_shift)));
      }
      const Words rights = second & answer_bits;
      hit &= (asked & ~rights) == Words{};
      const unsigned bits = bits_of(hit) & static_cast<unsigned>(eligible[i / 64] >> (i % 64));
      Words gpa = (second & iotlb_layout::frame_bits) + (iova & within);
      if constexpr (blocks) gpa &= low_bits(52);
      const Words mask = every(low_bits(page_shift));
      const Words tail = rights << answer_layout::rights_at | tables.kind;
      found[i / 64] |= std::uint64_t{bits} << (i % 64);
      std::byte* const to = answers + i * record_bytes;
      if (bits == 0xF) [[likely]] {
        const Words a = __builtin_shufflevector(gpa, mask, 0, 4, -1, 1);
        const Words b = __builtin_shufflevector(mask, tail, 0, 5, -1, 3);
        const Words c = __builtin_shufflevector(tail, gpa, 2, 7, -1, 3);
        store(to, __builtin_shufflevector(a, tail, 0, 1, 4, 3));
        store(to + 32, __builtin_shufflevector(b, gpa, 0, 1, 6, 3));
        store(to + 64, __builtin_shufflevector(c, mask, 0, 1, 4, 3));
      } else {
        for (std::size_t lane = 0; lane < lanes; ++lane)
          store_if((bits >> lane & 1) != 0, to + lane * record_bytes, gpa[lane], low_bits(page_shift), tail[lane]);
      }
    }
    return found;
  }

  /// Those of `rest` that are in a page of this size: at most four in a step, none of them with a branch of its own.
  /// @return which
  template <PageSize size>
  [[gnu::noinline]] static BatchBits look_large(const BatchTables& tables, const Iotlb::Lines& lines,
                                                const Places& places, const BatchBits& rest,
                                                std::byte* answers) noexcept {
    std::uint32_t missed[batch_lookup_width + lanes] = {};
    std::size_t count = 0;
    for (std::size_t word = 0; word < rest.size(); ++word)
      for (std::uint64_t left = rest[word]; left != 0; left &= left - 1)
        missed[count++] = static_cast<std::uint32_t>(word * 64) + static_cast<std::uint32_t>(__builtin_ctzll(left));
    BatchBits found{};
    constexpr std::uint64_t page_mask = mask_of(size);
    for (std::size_t at = 0; at < count; at += lanes) {
      const std::uint32_t* const i = missed + at;
      const auto of = [i](const std::uint64_t* column) {
        return Words{column[i[0]], column[i[1]], column[i[2]], column[i[3]]};
      };
      const Words iova = of(places.iova);
      const Words prefix = (of(places.word) & ~low_bits(iotlb_layout::tag_at)) | iotlb_layout::valid;
      const Words word = iotlb_layout::large_word(prefix, iova, shift_of(size), static_cast<std::uint64_t>(size));
      const Words hashed = iotlb_layout::hash(iotlb_layout::large_key_of(word), lines.seed) >> every(lines.hash_shift);
      const Words set = of(places.first_set) + (hashed ^ iotlb_layout::place_in_group(word));
      const Words line = reinterpret_cast<std::uintptr_t>(lines.sets) + set * iotlb_layout::set_bytes;
      __m128i entries[lanes];
      for (std::size_t lane = 0; lane < lanes; ++lane) entries[lane] = entry_in<Isa>(host(line[lane]), word[lane]);
      const Entries entry{entries};
      const Words rights = entry.second & answer_bits;
      const Signs in_window =
          (iova & ~(interrupt_window.last - interrupt_window.first)) == every(interrupt_window.first);
      const Signs hit = (entry.first == word) & ((of(places.asked) & ~rights) == Words{}) & ~in_window;
      const Words gpa = ((entry.second & iotlb_layout::frame_bits) + (iova & page_mask)) & low_bits(52);
      const Words tail = rights << answer_layout::rights_at | tables.kind;
      const unsigned bits = bits_of(hit);
      for (std::size_t lane = 0; lane < lanes; ++lane) {
        const bool is_hit = at + lane < count && (bits >> lane & 1) != 0;
        store_if(is_hit, answers + i[lane] * record_bytes, gpa[lane], page_mask & mask_clear_of_interrupts(iova[lane]),
                 tail[lane]);
        found[i[lane] / 64] |= std::uint64_t{is_hit} << (i[lane] % 64);
      }
    }
    return found;
  }

  static bool all_plain(const std::byte* requests, std::size_t count) noexcept {
    Signs all = Words{} == Words{};
    std::size_t i = 0;
    for (; i + lanes <= count; i += lanes) {
      const std::byte* const from = requests + i * record_bytes;
      all &= plain(tails_of(load(from), load(from + 32), load(from + 64)));
    }
    for (; i < count; ++i) {
      std::uint64_t tail = 0;
      std::memcpy(&tail, requests + i * record_bytes + 16, sizeof tail);
      all &= plain(every(tail));
    }
    return bits_of(all) == 0xF;
  }

  static BatchBits look_up(const BatchTables& tables, const std::byte* requests, std::byte* answers,
                           std::size_t count) noexcept {
    const std::size_t whole = count / lanes * lanes;
    Places places;
    const Iotlb::Lines lines = tables.iotlb->lines();
    const BatchBits eligible = find_places(tables, lines, requests, whole, places);
    BatchBits found = places.may_have(PageSize::kib32) ? look<true>(tables, places, eligible, answers, whole)
                                                       : look<false>(tables, places, eligible, answers, whole);
    const auto look_further = [&](auto look_in) {
      BatchBits rest;
      for (std::size_t i = 0; i < rest.size(); ++i) rest[i] = eligible[i] & ~found[i];
      const BatchBits more = look_in(tables, lines, places, rest, answers);
      for (std::size_t i = 0; i < rest.size(); ++i) found[i] |= more[i];
    };
    if (places.may_have(PageSize::mib2)) look_further(look_large<PageSize::mib2>);
    if (places.may_have(PageSize::gib1)) look_further(look_large<PageSize::gib1>);
    return found;
  }
};

}  // namespace
}  // namespace viommu::caches
