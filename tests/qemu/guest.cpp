// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "tests/qemu/guest.hpp"

#include <cinttypes>

namespace viommu::qemu {
namespace {

using test::Random;

constexpr std::uint64_t pointer = 0x000F'FFFF'FFFF'F000;
constexpr std::uint64_t page_size = 0x80;
constexpr std::uint64_t interrupt_range = 0xFEE0'0000;
constexpr std::uint64_t odd_contexts = 13;

std::uint64_t one_bit(Random& random, unsigned high, unsigned low) {
  return std::uint64_t{1} << (low + random.below(high - low + 1));
}

std::uint64_t rights(Random& random) {
  constexpr std::array<std::uint64_t, 6> usual{3, 3, 3, 1, 1, 2};
  return random.pick(usual);
}

}  // namespace

Guest::Guest(Pair& pair, Random& random) : pair_{pair}, words_{pair.words()}, tables_{words_, first_table} {
  const bool wide = pair.variant().address_bits >= 48;
  for (test::Tree& tree : trees_) tree = tables_.create_tree(wide && random.chance(1, 2) ? 4 : 3);
  for (std::size_t source = 0; source < sources.size(); ++source) {
    contexts_.at(source) = tables_.context_entry(sources.at(source));
  }
  map_some(random);
  for (std::size_t source = 0; source < sources.size(); ++source) {
    pair_.note("  " + set_context(random, source, random.chance(1, 8)));
  }
  if (random.chance(1, 12)) break_root(random);
}

std::uint16_t Guest::domain(Random& random) {
  constexpr std::array<std::uint16_t, 6> ids{1, 2, 3, 0x102, 0xFFFF, 0};
  return ids.at(random.below(random.chance(1, 20) ? ids.size() : 3));
}

void Guest::break_root(Random& random) {
  const std::uint64_t entry = root_table() + 16;  // of bus 1
  const std::uint64_t low = words_.load(entry).value_or(0);
  switch (random.below(5)) {
    case 0:  words_.store(entry, low & ~std::uint64_t{1}); break;
    case 1:  words_.store(entry, low | one_bit(random, 11, 1)); break;
    case 2:  words_.store(entry, low | one_bit(random, 63, pair_.variant().address_bits)); break;
    case 3:  words_.store(entry + 8, one_bit(random, 63, 0)); break;
    default: words_.store(entry, no_memory | 1); break;
  }
  broken_root_ = true;
  pair_.note(format("  root entry of bus 1: %" PRIx64 " %" PRIx64, words_.load(entry).value_or(0),
                    words_.load(entry + 8).value_or(0)));
}

void Guest::map_some(Random& random) {
  for (std::size_t tree = 0; tree < trees_.size(); ++tree) {
    for (const std::uint64_t iova : iovas) {
      if (random.chance(1, 5)) continue;
      const unsigned level = random.chance(2, 3) ? 1 : 1 + static_cast<unsigned>(random.below(3));
      if (const auto entry = slot(tree, iova, level)) words_.store(*entry, leaf(random, level));
    }
  }
}

std::optional<std::uint64_t> Guest::slot(std::size_t tree, std::uint64_t iova, unsigned level) {
  // Down through tables only; what is absent is made on the way.
  std::uint64_t table = trees_.at(tree).root;
  for (unsigned at = trees_.at(tree).levels; at > level; --at) {
    const std::uint64_t entry = words_.load(table + 8 * (iova >> (12 + 9 * (at - 1)) & 511)).value_or(0);
    if (entry == 0) break;
    if ((entry & 3) == 0 || (entry & page_size) != 0) return std::nullopt;
    table = entry & pointer;
    if (table <= first_table || table >= table_end) return std::nullopt;
  }
  return tables_.slot(trees_.at(tree), iova, level);
}

std::uint64_t Guest::leaf(Random& random, unsigned level) const {
  std::uint64_t entry = rights(random);
  if (random.chance(1, 3)) entry |= random.next() & 0xBFF0'0000'0000'077C;  // 63, 61:52, 10:8, 6:2 are ignored
  const bool second = random.chance(1, 2);
  switch (level) {
    case 1:  return entry | ((second ? second_data : first_data) + 0x1000 * random.below(data_pages));
    case 2:  return entry | page_size | (random.chance(1, 8) ? no_memory : second ? arena + 0x20'0000 : arena);
    default: return entry | page_size | (random.chance(1, 8) ? 0x8000'0000U : 0U);
  }
}

std::uint64_t Guest::odd_entry(Random& random, unsigned level, std::uint64_t table) {
  const std::uint64_t entry = leaf(random, level);
  const unsigned width = pair_.variant().address_bits;
  switch (random.below(10)) {
    case 0:  return entry ^ one_bit(random, 63, 62);
    case 1:  return entry | one_bit(random, 51, width);
    case 2:  return entry | 0x800;
    case 3:  return level == 1 ? entry | page_size : entry | one_bit(random, 12 + 9 * (level - 1) - 1, 12);
    case 4:  return (entry & ~pointer) | (level == 3 ? 0xC000'0000U : interrupt_range);
    case 5:  return (entry & ~(pointer | page_size)) | no_memory;
    case 6:  return (entry & ~(pointer | page_size)) | (table & pointer);
    case 7:  return (entry & ~(pointer | page_size)) | trees_.at(random.below(trees_.size())).root;
    case 8:  return entry & ~std::uint64_t{3};
    default: return random.chance(1, 4) ? ~std::uint64_t{0} : std::uint64_t{0};
  }
}

std::string Guest::change_entry(Random& random) {
  constexpr std::array<unsigned, 8> levels{1, 1, 1, 1, 1, 2, 3, 4};
  const std::size_t tree = random.below(trees_.size());
  const std::uint64_t iova = random.pick(iovas);
  const unsigned level = random.pick(levels);
  if (level > trees_.at(tree).levels) return "no entry of that level";
  const auto entry = slot(tree, iova, level);
  if (!entry) return "no table leads to that entry";
  std::uint64_t value = 0;
  if (level == 4 || random.chance(1, 4))
    value = odd_entry(random, level, *entry);
  else if (random.chance(3, 4))
    value = leaf(random, level);
  words_.store(*entry, value);
  return format("tree %zu, 0x%" PRIx64 ", level %u: %" PRIx64, tree, iova, level, value);
}

std::optional<std::uint16_t> Guest::remap(Random& random, std::size_t source, std::uint64_t iova) {
  const std::uint64_t low = words_.load(contexts_.at(source)).value_or(0);
  const std::uint64_t high = words_.load(contexts_.at(source) + 8).value_or(0);
  std::uint64_t table = low & pointer;
  for (auto level = static_cast<unsigned>(high & 7) + 2; level >= 1 && level <= 4; --level) {
    const std::uint64_t place = table + 8 * (iova >> (12 + 9 * (level - 1)) & 511);
    const std::uint64_t entry = words_.load(place).value_or(0);
    if (place < first_table || place >= table_end || (entry & 3) == 0) return std::nullopt;
    if (level == 1 || (entry & page_size) != 0) {
      words_.store(place, leaf(random, level));
      return static_cast<std::uint16_t>(high >> 8);
    }
    table = entry & pointer;
  }
  return std::nullopt;
}

std::string Guest::change_context(Random& random) {
  return set_context(random, random.below(sources.size()), random.chance(1, 2));
}

std::string Guest::set_context(Random& random, std::size_t source, bool odd) {
  const test::Tree& tree = trees_.at(random.below(trees_.size()));
  const unsigned width = pair_.variant().address_bits;
  const std::uint64_t high = std::uint64_t{domain(random)} << 8 | random.below(16) << 3 | (tree.levels - 2);
  std::uint64_t low = tree.root | 1;
  std::uint64_t changed = high;
  switch (odd ? random.below(odd_contexts) : odd_contexts) {
    case 0:
    case 1: low &= ~std::uint64_t{1}; break;
    case 2:
    case 3:
    case 4:
      low |= 8;  // pass-through takes the largest width
      changed = (high & ~std::uint64_t{7}) | (width >= 48 ? 2U : 1U);
      break;
    case 5:  low |= one_bit(random, 11, 4); break;
    case 6:  low |= one_bit(random, 63, width); break;
    case 7:  changed ^= random.chance(1, 2) ? page_size : one_bit(random, 63, 24); break;
    case 8:  changed ^= 1 + random.below(7); break;
    case 9:  low |= random.chance(1, 2) ? 4U : 12U; break;
    case 10: low = no_memory | 1; break;
    case 11: low |= 8; break;  // of whatever width the tree has
    case 12:                   // the pointer of a pass-through context is ignored
      low |= 8 | one_bit(random, 63, width);
      changed = (high & ~std::uint64_t{7}) | (width >= 48 ? 2U : 1U);
      break;
    default: break;
  }
  if (random.chance(1, 8)) low |= 2;  // fault processing disabled
  words_.store(contexts_.at(source) + 8, changed);
  words_.store(contexts_.at(source), low);
  return format("context of %04x: %" PRIx64 " %" PRIx64, sources.at(source), low, changed);
}

}  // namespace viommu::qemu
