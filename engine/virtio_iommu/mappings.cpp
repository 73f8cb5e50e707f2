// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/virtio_iommu/mappings.hpp"

#include "engine/base/scratch.hpp"

#include <algorithm>
#include <array>

namespace viommu::virtio_iommu {
namespace {

constexpr std::size_t list_room = node_keys;
constexpr std::uint64_t block_mask = Pages::block_mask;

/// A list that is full gives the mappings of a block a leaf of pages if it has this many of them. That many in the
/// smallest such leaf are 72 bytes each.
constexpr std::size_t dense = 16;
/// And a leaf of pages becomes a list when it has this few; far from the above, so that neither comes often.
constexpr std::size_t no_longer_dense = 6;
/// A list this empty is merged with a neighbour, if the two leave some room.
constexpr std::size_t nearly_empty = 8;
constexpr std::size_t most_merged = 24;
/// Lists that are made of a leaf of pages.
constexpr std::size_t list_of_pages = 24;

/// A mapping as leaves keep it.
struct Item {
  std::uint64_t first;
  std::uint64_t last;
  MappingWord word;
  std::uint16_t low_bits;
};

[[nodiscard]] Item item_of(const Mapping& mapping) noexcept {
  return {mapping.range.first.value, mapping.range.last.value, word_of(mapping, mapping.gpa),
          static_cast<std::uint16_t>(mapping.gpa.value & low_bits(page_shift))};
}

/// Whether a leaf of pages can hold it.
[[nodiscard]] bool fits_pages(const Item& item) noexcept {
  return (item.first & low_bits(page_shift)) == 0 && (~item.last & low_bits(page_shift)) == 0 &&
         (item.first | block_mask) == (item.last | block_mask) && item.low_bits == 0;
}

void set_entry(List& list, std::size_t index, const Item& item) noexcept {
  list.lasts[index].store(item.last, std::memory_order_relaxed);
  list.entries[index].first.store(item.first, std::memory_order_relaxed);
  list.entries[index].word.store(item.word.raw, std::memory_order_relaxed);
  list.low_bits[index].store(item.low_bits, std::memory_order_relaxed);
}

/// After set_entry() of the first `count`.
void finish_list(List& list, std::size_t count) noexcept {
  for (std::size_t i = count; i < list.lasts.size(); ++i) list.lasts[i].store(no_key, std::memory_order_relaxed);
  list.used = static_cast<std::uint8_t>(count);
  list.live = list.used;
}

[[nodiscard]] Item item_at(const List& list, std::size_t index) noexcept {
  return {list.entries[index].first.load(std::memory_order_relaxed), list.lasts[index].load(std::memory_order_relaxed),
          MappingWord{list.entries[index].word.load(std::memory_order_relaxed)},
          list.low_bits[index].load(std::memory_order_relaxed)};
}

/// The words of one mapping, which fits.
void set_pages(Pages& pages, const Item& item) noexcept {
  const std::size_t first = Pages::index_of(item.first);
  const std::size_t last = Pages::index_of(item.last);
  for (std::size_t index = first; index <= last; ++index) {
    MappingWord word = with(item.word, mapping_word::begins, index == first);
    word = with(word, mapping_word::ends, index == last);
    word = with(word, mapping_word::page, get(item.word, mapping_word::page) + (index - first) * page_size_bytes);
    pages.words[index].store(word.raw, std::memory_order_release);  // M4
  }
  ++pages.mappings;
}

/// The lines of a leaf that a request needs, all at once and not one after another.
void prefetch_leaf(NodeWord leaf, std::uint64_t address) noexcept {
  if (leaf.kind() == NodeKind::pages) {
    const Pages& pages = leaf.as<Pages>();
    __builtin_prefetch(&pages.base);
    __builtin_prefetch(&pages.words[Pages::index_of(address)]);
    __builtin_prefetch(&pages.mappings);
  } else if (leaf.kind() == NodeKind::list) {
    leaf.as<List>().prefetch();
    __builtin_prefetch(&leaf.as<List>().live);
  }
}

[[nodiscard]] bool live(std::uint64_t raw) noexcept { return get(MappingWord{raw}, mapping_word::live); }

}  // namespace

/// Mappings in order, more than one leaf may have.
class Mappings::Items {
 public:
  void add(const Item& item) noexcept { items_.put(count_++, item); }
  void add_live(const List& list) noexcept {
    for (std::size_t i = 0; i < list.used; ++i)
      if (const Item item = item_at(list, i); get(item.word, mapping_word::live)) add(item);
  }
  [[nodiscard]] std::size_t count() const noexcept { return count_; }
  [[nodiscard]] const Item& operator[](std::size_t index) const noexcept { return items_[index]; }

  void fill(List& list, std::size_t from, std::size_t to) const noexcept {
    for (std::size_t i = from; i < to; ++i) set_entry(list, i - from, items_[i]);
    finish_list(list, to - from);
  }
  void fill(Pages& pages, std::size_t from, std::size_t to) const noexcept {
    pages.base = items_[from].first & ~block_mask;
    for (std::size_t i = from; i < to; ++i) set_pages(pages, items_[i]);
  }

 private:
  Scratch<Item, Pages::count + 1> items_;
  std::size_t count_ = 0;
};

/// Nodes made and nodes replaced by one change of structure: the made ones are given back unless it is done.
class Mappings::Change {
 public:
  explicit Change(Mappings& mappings) noexcept : mappings_{mappings}, nodes_{mappings.nodes_} {}
  Change(const Change&) = delete;
  Change& operator=(const Change&) = delete;
  ~Change() {
    for (std::size_t i = 0; i < made_count_; ++i) nodes_.give_back(made_[i]);
  }
  template <class Node>
  [[nodiscard]] Node* make() noexcept {
    auto* const node = nodes_.take<Node>();
    if (node != nullptr) made_.put(made_count_++, NodeWord::of(*node));
    return node;
  }
  void replaces(NodeWord node) noexcept { replaced_.put(replaced_count_++, node); }
  /// What was made is in the tree, and what was replaced is out of it.
  void done() noexcept {
    for (std::size_t i = 0; i < replaced_count_; ++i) mappings_.retire_leaf(replaced_[i]);
    for (std::size_t i = 0; i < made_count_; ++i)
      if (made_[i].kind() == NodeKind::pages) mappings_.add_pages(made_[i]);
    made_count_ = 0;
  }

 private:
  // Leaves of one leaf of pages, and two inner nodes a level.
  static constexpr std::size_t most_made = Pages::count / list_of_pages + 2 + 2 * Path::most_steps + 1;
  static constexpr std::size_t most_replaced = Path::most_steps + 2;
  Mappings& mappings_;
  MappingNodes& nodes_;
  Scratch<NodeWord, most_made> made_;
  Scratch<NodeWord, most_replaced> replaced_;
  std::size_t made_count_ = 0;
  std::size_t replaced_count_ = 0;
};

/// Children of an inner node to be, without empty ones: their neighbour has their interval too.
class Mappings::Children {
 public:
  void add(const Child& child) noexcept {
    if (!child.node.none()) {
      children_.put(count_++, child);
    } else if (count_ != 0) {
      children_[count_ - 1].high = child.high;
    }
  }
  /// The slots [from, to) of a node.
  void add(const Path::Step& step, std::size_t from, std::size_t to) noexcept {
    const std::size_t last = step.inner->count() - 1;
    for (std::size_t slot = from; slot < to; ++slot)
      add({{step.inner->children[slot].load(std::memory_order_relaxed)}, high_of(step, slot, last)});
  }
  [[nodiscard]] static std::uint64_t high_of(const Path::Step& step, std::size_t slot, std::size_t last) noexcept {
    return slot == last ? step.high : step.inner->keys[slot].load(std::memory_order_relaxed);
  }
  /// An empty one too.
  void keep(const Child& child) noexcept { children_.put(count_++, child); }
  [[nodiscard]] std::size_t count() const noexcept { return count_; }
  [[nodiscard]] std::span<const Child> all() const noexcept { return {children_.data(), count_}; }

  /// One node of them, or two if they are too many; of one child, the child. False when there is no memory.
  [[nodiscard]] bool make(Change& change, Children& parents) const noexcept {
    const std::size_t half = count_ <= Inner::most_children ? count_ : count_ / 2;
    return make(change, 0, half, parents) && (half == count_ || make(change, half, count_, parents));
  }
  [[nodiscard]] const Child& operator[](std::size_t index) const noexcept { return children_[index]; }

 private:
  [[nodiscard]] bool make(Change& change, std::size_t from, std::size_t to, Children& parents) const noexcept {
    if (to - from == 1) {
      parents.keep(children_[from]);
      return true;
    }
    auto* const inner = change.make<Inner>();
    if (inner == nullptr) return false;
    std::uint64_t height = 0;
    for (std::size_t i = from; i < to; ++i) {
      const NodeWord node = children_[i].node;
      inner->children[i - from].store(node.raw, std::memory_order_relaxed);
      if (node.kind() == NodeKind::inner) height = std::max(height, node.as<Inner>().height);
    }
    for (std::size_t key = 0; key < inner->keys.size(); ++key)
      inner->keys[key].store(from + key + 1 < to ? children_[from + key].high : no_key, std::memory_order_relaxed);
    inner->height = height + 1;
    parents.add({NodeWord::of(*inner), children_[to - 1].high});
    return inner->height <= Path::most_steps;
  }

  // A node's own, with one of them replaced by all that become of a leaf.
  Scratch<Child, Inner::most_children + Pages::count / list_of_pages + 2> children_;
  std::size_t count_ = 0;
};

// ---- The way down ----

Mappings::Leaf Mappings::leaf_of(std::uint64_t address) const noexcept {
  Leaf leaf{{root_.load(std::memory_order_acquire)}, no_key};  // M1
  while (leaf.node.kind() == NodeKind::inner) {
    const Inner& inner = leaf.node.as<Inner>();
    inner.prefetch();
    const std::size_t slot = inner.slot_of(address);
    leaf.high = std::min(leaf.high, inner.keys[slot].load(std::memory_order_relaxed));
    leaf.node.raw = inner.children[slot].load(std::memory_order_acquire);  // M1
  }
  prefetch_leaf(leaf.node, address);
  return leaf;
}

void Mappings::descend(std::uint64_t address, Path& path) const noexcept {
  path.depth = 0;
  path.leaf = {{root_.load(std::memory_order_relaxed)}, no_key};
  while (path.leaf.node.kind() == NodeKind::inner) {
    auto& inner = path.leaf.node.as<Inner>();
    inner.prefetch();
    const std::size_t slot = inner.slot_of(address);
    path.steps[path.depth++] = {&inner, slot, path.leaf.high};
    path.leaf.high = std::min(path.leaf.high, inner.keys[slot].load(std::memory_order_relaxed));
    path.leaf.node.raw = inner.children[slot].load(std::memory_order_relaxed);
  }
  prefetch_leaf(path.leaf.node, address);
}

/// Where the node below the first `level` steps hangs.
Atomic<std::uint64_t>& Mappings::place_of(const Path& path, std::size_t level) noexcept {
  if (level == 0) return root_;
  const Path::Step& step = path.steps[level - 1];
  return step.inner->children[step.slot];
}

// ---- Shortcuts ----

void Mappings::add_pages(NodeWord leaf) noexcept {
  if (++pages_leaves_ >= growth_at_) {
    const std::uint64_t slots = shortcut_slots();
    resize_shortcuts(slots == 0 ? Shortcuts::first_slots : slots * Shortcuts::growth);
  }
  remember(leaf);
}

std::uint64_t Mappings::shortcut_slots() const noexcept {
  const NodeWord table{shortcuts_.load(std::memory_order_relaxed)};
  return table.none() ? 0 : table.as<Shortcuts>().mask + 1;
}

void Mappings::remember(NodeWord leaf) noexcept {
  const NodeWord table{shortcuts_.load(std::memory_order_relaxed)};
  if (table.none()) return;
  auto& shortcuts = table.as<Shortcuts>();
  Atomic<std::uint64_t>& slot = shortcuts[shortcuts.slot_of(leaf.as<Pages>().base)];
  if (slot.load(std::memory_order_relaxed) != leaf.raw) slot.store(leaf.raw, std::memory_order_release);  // M6
}

void Mappings::resize_shortcuts(std::uint64_t slots) noexcept {
  const std::uint64_t before = shortcut_slots();
  Shortcuts* const made = slots > Shortcuts::most_slots ? nullptr : nodes_.take_shortcuts(slots);
  if (made == nullptr) {
    growth_at_ = std::max(before + 1, pages_leaves_ * 2);  // perhaps there is memory by then
    return;
  }
  growth_at_ = slots + 1;
  const NodeWord table{shortcuts_.load(std::memory_order_relaxed)};
  constexpr std::uint64_t ahead = 16;
  const auto leaf_at = [&](std::uint64_t slot) {
    return NodeWord{table.as<Shortcuts>()[slot].load(std::memory_order_relaxed)};
  };
  for (std::uint64_t slot = 0; slot < before; ++slot) {
    if (slot + ahead < before)
      if (const NodeWord next = leaf_at(slot + ahead); !next.none()) __builtin_prefetch(&next.as<Pages>().base);
    if (const NodeWord leaf = leaf_at(slot); !leaf.none())
      (*made)[made->slot_of(leaf.as<Pages>().base)].store(leaf.raw, std::memory_order_relaxed);
  }
  shortcuts_.store(NodeWord::of(*made).raw, std::memory_order_release);  // M6
  if (!table.none()) nodes_.retire(table);
}

void Mappings::retire_leaf(NodeWord leaf) noexcept {
  if (leaf.kind() == NodeKind::pages) forget(leaf);
  nodes_.retire(leaf);
}

void Mappings::forget(NodeWord leaf) noexcept {
  const NodeWord table{shortcuts_.load(std::memory_order_relaxed)};
  if (--pages_leaves_ == 0) return drop_shortcuts();
  if (table.none()) return;
  auto& shortcuts = table.as<Shortcuts>();
  Atomic<std::uint64_t>& slot = shortcuts[shortcuts.slot_of(leaf.as<Pages>().base)];
  if (slot.load(std::memory_order_relaxed) == leaf.raw) slot.store(0, std::memory_order_release);  // M6
  const std::uint64_t slots = shortcuts.mask + 1;
  if (slots > Shortcuts::first_slots && pages_leaves_ * Shortcuts::most_slots_a_leaf < slots)
    resize_shortcuts(slots / Shortcuts::growth);
}

void Mappings::drop_shortcuts() noexcept {
  const NodeWord table{shortcuts_.load(std::memory_order_relaxed)};
  growth_at_ = 1;
  if (table.none()) return;
  shortcuts_.store(0, std::memory_order_release);  // M6
  nodes_.retire(table);
}

// ---- Looking ----

Mapping Mappings::pages_around(const Pages& pages, std::size_t index, MappingWord word) noexcept {
  // Neighbours belong together if each word says what the one before goes on with.
  const auto goes_on = [](MappingWord before, MappingWord after) {
    if (get(before, mapping_word::ends) || get(after, mapping_word::begins)) return false;
    const MappingWord expected = with(before, mapping_word::page, get(before, mapping_word::page) + page_size_bytes);
    return with(with(expected, mapping_word::begins, false), mapping_word::ends, false).raw ==
           with(after, mapping_word::ends, false).raw;
  };
  std::size_t first = index;
  for (MappingWord here = word; first > 0; --first) {
    const MappingWord before{pages.words[first - 1].load(std::memory_order_acquire)};  // M3
    if (!goes_on(before, here)) break;
    here = before;
  }
  std::size_t last = index;
  for (MappingWord here = word; last + 1 < Pages::count; ++last) {
    const MappingWord after{pages.words[last + 1].load(std::memory_order_acquire)};  // M3
    if (!goes_on(here, after)) break;
    here = after;
  }
  const std::uint64_t base = pages.base;
  const Gpa page = get(word, mapping_word::page);
  return mapping_of({{base + first * page_size_bytes}, {base + last * page_size_bytes + (page_size_bytes - 1)}},
                    {page.value - (index - first) * page_size_bytes}, word);
}

std::optional<Mapping> Mappings::first_in(NodeWord leaf, std::uint64_t address) noexcept {
  if (leaf.kind() == NodeKind::list) {
    const List& list = leaf.as<List>();
    for (std::size_t index = keys_below(list.lasts, address); index < list_room; ++index) {
      const MappingWord word{list.entries[index].word.load(std::memory_order_acquire)};  // M3
      if (!get(word, mapping_word::live)) continue;
      const Item item = item_at(list, index);
      return mapping_of({{item.first}, {item.last}}, get(word, mapping_word::page) + item.low_bits, word);
    }
  } else if (leaf.kind() == NodeKind::pages) {
    const Pages& pages = leaf.as<Pages>();
    const std::uint64_t from = address <= pages.base ? 0 : (address - pages.base) / page_size_bytes;
    for (std::uint64_t index = from; index < Pages::count; ++index) {
      const MappingWord word{pages.words[index].load(std::memory_order_acquire)};  // M3
      if (get(word, mapping_word::live)) return pages_around(pages, index, word);
    }
  }
  return std::nullopt;
}

std::optional<Mapping> Mappings::first_from(Iova iova) const noexcept {
  if (const std::optional<Mapping> found = find_by_shortcut(iova)) return found;
  for (std::uint64_t at = iova.value;;) {  // ends: as in visit()
    const Leaf leaf = leaf_of(at);
    if (const std::optional<Mapping> found = first_in(leaf.node, at)) return found;
    if (leaf.high == no_key) return std::nullopt;
    at = leaf.high + 1;
  }
}

bool Mappings::overlaps(IovaRange range) const noexcept {
  const std::optional<Mapping> found = first_from(range.first);
  return found && found->range.first <= range.last;
}

bool Mappings::splits(IovaRange range) const noexcept {
  // Those in between are covered.
  const std::optional<Mapping> first = first_from(range.first);
  if (!first || first->range.first > range.last) return false;
  if (first->range.first < range.first || first->range.last > range.last) return true;
  if (first->range.last == range.last) return false;
  const std::optional<Mapping> last = first_from(range.last);
  return last && last->range.first <= range.last && last->range.last > range.last;
}

// ---- Insertion ----

Inserted Mappings::lacking() const noexcept {
  return nodes_.lack() == MappingNodes::Lack::reclaim ? Inserted::later : Inserted::no_memory;
}

Inserted Mappings::added() noexcept {
  ++size_;
  nodes_.add_mappings(1);
  return Inserted::ok;
}

Inserted Mappings::insert(const Mapping& mapping) noexcept {
  Path path;
  descend(mapping.range.first.value, path);
  if (path.leaf.high < mapping.range.last.value) {
    if (overlaps(mapping.range)) return Inserted::overlap;
    if (!nodes_.may_add_mapping()) return Inserted::limit;
    if (!move_border(path, mapping.range.first.value, mapping.range.last.value)) return lacking();
  }
  switch (path.leaf.node.kind()) {
    case NodeKind::list:      return insert_into_list(path, mapping);
    case NodeKind::pages:     return insert_into_pages(path, mapping);
    case NodeKind::none:
    case NodeKind::inner:
    case NodeKind::shortcuts: break;
  }
  return insert_into_none(path, mapping);
}

Inserted Mappings::insert_into_none(const Path& path, const Mapping& mapping) noexcept {
  if (!nodes_.may_add_mapping()) return Inserted::limit;
  auto* const list = nodes_.take<List>();
  if (list == nullptr) return lacking();
  set_entry(*list, 0, item_of(mapping));
  finish_list(*list, 1);
  place_of(path, path.depth).store(NodeWord::of(*list).raw, std::memory_order_release);  // M2
  return added();
}

Inserted Mappings::insert_into_list(const Path& path, const Mapping& mapping) noexcept {
  auto& list = path.leaf.node.as<List>();
  const Item added_item = item_of(mapping);
  std::size_t index = keys_below(list.lasts, added_item.first);
  for (std::size_t i = index; i < list.used; ++i) {
    const Item item = item_at(list, i);
    if (item.first > added_item.last) break;
    if (get(item.word, mapping_word::live)) return Inserted::overlap;
    if (item.first != added_item.first || item.last != added_item.last || item.low_bits != added_item.low_bits)
      continue;
    // The range is still there, of a mapping that went: it comes back, leading where the new one does.
    if (!nodes_.may_add_mapping()) return Inserted::limit;
    list.entries[i].word.store(added_item.word.raw, std::memory_order_release);  // M4
    ++list.live;
    return added();
  }
  if (!nodes_.may_add_mapping()) return Inserted::limit;
  if (list.live == list_room) {
    Items items;
    for (std::size_t i = 0; i < index; ++i) items.add(item_at(list, i));
    items.add(added_item);
    for (std::size_t i = index; i < list_room; ++i) items.add(item_at(list, i));
    return insert_into_full_list(path, items, index);
  }
  auto* const copy = nodes_.take<List>();
  if (copy == nullptr) return lacking();
  std::size_t count = 0;
  const auto copy_live = [&](std::size_t from, std::size_t to) {
    for (std::size_t i = from; i < to; ++i)
      if (const Item item = item_at(list, i); get(item.word, mapping_word::live)) set_entry(*copy, count++, item);
  };
  copy_live(0, index);
  set_entry(*copy, count++, added_item);
  copy_live(index, list.used);
  finish_list(*copy, count);
  place_of(path, path.depth).store(NodeWord::of(*copy).raw, std::memory_order_release);  // M2
  nodes_.retire(path.leaf.node);
  return added();
}

namespace {

/// The longest run of mappings that one leaf of pages could have.
struct Run {
  std::size_t from = 0;
  std::size_t to = 0;
};

template <class Sequence>
[[nodiscard]] Run longest_run(const Sequence& items) noexcept {
  Run best;
  Run run;
  for (std::size_t i = 0; i < items.count(); ++i) {
    const bool fits = fits_pages(items[i]);
    if (!fits || run.to != i || (items[run.from].first | block_mask) != (items[i].first | block_mask)) run.from = i;
    run.to = fits ? i + 1 : i;
    if (run.to - run.from > best.to - best.from) best = run;
  }
  return best;
}

/// The last address of a leaf that ends with `left` before one that begins with `right`: where the left one's block
/// ends, where the right one's begins, or else between the two.
[[nodiscard]] std::uint64_t border_behind(const Item& left, const Item& right) noexcept {
  return (left.last | block_mask) < right.first ? left.last | block_mask : left.last;
}
[[nodiscard]] std::uint64_t border_before(const Item& left, const Item& right) noexcept {
  const std::uint64_t base = right.first & ~block_mask;
  return base > left.last ? base - 1 : left.last;
}

/// Where to divide a full list: between blocks if that is near the middle. Mappings that come in order leave full ones.
template <class Sequence>
[[nodiscard]] std::size_t division_of(const Sequence& items, std::size_t position) noexcept {
  const std::size_t count = items.count();
  if (position + 1 == count) return position;
  if (position == 0) return 1;
  const std::size_t middle = count / 2;
  for (std::size_t off = 0; off < middle / 2; ++off)
    for (const std::size_t at : {middle + off, middle - off})
      if ((items[at - 1].last | block_mask) != (items[at].first | block_mask)) return at;
  return middle;
}

}  // namespace

Inserted Mappings::insert_into_full_list(const Path& path, const Items& items, std::size_t position) noexcept {
  Change change{*this};
  change.replaces(path.leaf.node);
  std::array<Child, 3> leaves;
  std::size_t count = 0;
  const auto add_leaf = [&](auto* node, std::size_t from, std::size_t to, std::uint64_t high) {
    if (node == nullptr) return false;
    items.fill(*node, from, to);
    leaves[count++] = {NodeWord::of(*node), high};
    return true;
  };
  const std::uint64_t high = path.leaf.high;
  const Run run = longest_run(items);
  bool made = true;
  if (run.to - run.from >= dense) {
    if (run.from != 0)
      made = add_leaf(change.make<List>(), 0, run.from, border_before(items[run.from - 1], items[run.from]));
    const bool ends = run.to == items.count();
    const std::uint64_t border = ends ? high : border_behind(items[run.to - 1], items[run.to]);
    made = made && add_leaf(change.make<Pages>(), run.from, run.to, border);
    if (!ends) made = made && add_leaf(change.make<List>(), run.to, items.count(), high);
  } else {
    const std::size_t at = division_of(items, position);
    made = add_leaf(change.make<List>(), 0, at, border_before(items[at - 1], items[at])) &&
           add_leaf(change.make<List>(), at, items.count(), high);
  }
  const std::size_t slot = path.depth == 0 ? 0 : path.steps[path.depth - 1].slot;
  if (!made || !replace(path, slot, slot, {leaves.data(), count}, change)) return lacking();
  return added();
}

Inserted Mappings::insert_into_pages(const Path& path, const Mapping& mapping) noexcept {
  auto& pages = path.leaf.node.as<Pages>();
  const Item item = item_of(mapping);
  if (!fits_pages(item) || (item.first & ~block_mask) != pages.base) return insert_beside_pages(path, mapping);
  const std::size_t last = Pages::index_of(item.last);
  for (std::size_t index = Pages::index_of(item.first); index <= last; ++index)
    if (live(pages.words[index].load(std::memory_order_relaxed))) return Inserted::overlap;
  if (!nodes_.may_add_mapping()) return Inserted::limit;
  set_pages(pages, item);
  remember(path.leaf.node);
  return added();
}

/// In the interval of a leaf of pages, and not for it.
Inserted Mappings::insert_beside_pages(const Path& path, const Mapping& mapping) noexcept {
  const Pages& pages = path.leaf.node.as<Pages>();
  const Item item = item_of(mapping);
  const std::optional<Mapping> after = first_in(path.leaf.node, item.first);
  if (after && after->range.first <= mapping.range.last) return Inserted::overlap;
  if (!nodes_.may_add_mapping()) return Inserted::limit;

  Change change{*this};
  Children leaves;
  const std::size_t slot = path.depth == 0 ? 0 : path.steps[path.depth - 1].slot;
  const std::optional<Mapping> first = first_in(path.leaf.node, 0);
  const bool before = first && first->range.first < mapping.range.first;
  if (before && after) {
    // Among the pages: lists from now on.
    Items items;
    bool placed = false;
    for (std::optional<Mapping> found = first; found; found = first_in(path.leaf.node, found->range.last.value + 1)) {
      if (!placed && found->range.first > mapping.range.first) {
        items.add(item);
        placed = true;
      }
      items.add(item_of(*found));
      if (found->range.last.value == no_key) break;
    }
    change.replaces(path.leaf.node);
    for (std::size_t from = 0; from < items.count();) {
      const std::size_t to = std::min(from + list_of_pages, items.count());
      auto* const list = change.make<List>();
      if (list == nullptr) return lacking();
      items.fill(*list, from, to);
      leaves.add({NodeWord::of(*list), to == items.count() ? path.leaf.high : border_before(items[to - 1], items[to])});
      from = to;
    }
  } else {
    auto* const list = change.make<List>();
    if (list == nullptr) return lacking();
    set_entry(*list, 0, item);
    finish_list(*list, 1);
    const std::uint64_t block_last = pages.base | block_mask;
    if (before) {
      leaves.add({path.leaf.node, item.first > block_last ? block_last : item.first - 1});
      leaves.add({NodeWord::of(*list), path.leaf.high});
    } else {
      leaves.add({NodeWord::of(*list), item.last < pages.base ? pages.base - 1 : item.last});
      leaves.add({path.leaf.node, path.leaf.high});
    }
  }
  if (!replace(path, slot, slot, leaves.all(), change)) return lacking();
  return added();
}

// ---- Structure ----

bool Mappings::replace(const Path& path, std::size_t from, std::size_t to, std::span<const Child> with,
                       Change& change) noexcept {
  Children pieces;
  for (const Child& child : with) pieces.add(child);
  std::size_t level = path.depth;
  while (level != 0 && (pieces.count() > 1 || from != to)) {
    const Path::Step& step = path.steps[--level];
    Children children;
    children.add(step, 0, from);
    for (const Child& piece : pieces.all()) children.add(piece);
    children.add(step, to + 1, step.inner->count());
    Children parents;
    if (!children.make(change, parents)) return false;
    change.replaces(NodeWord::of(*step.inner));
    pieces = parents;
    from = to = level == 0 ? 0 : path.steps[level - 1].slot;
  }
  if (pieces.count() > 1) {
    Children top;
    if (!pieces.make(change, top)) return false;
    pieces = top;
  }
  place_of(path, level).store(pieces[0].node.raw, std::memory_order_release);  // M2
  change.done();
  return true;
}

bool Mappings::move_border(Path& path, std::uint64_t first, std::uint64_t high) noexcept {
  while (path.leaf.high < high) {  // ends: the node where the ways part lies higher each time
    std::size_t level = path.depth;
    std::size_t last = 0;
    do {
      --level;
      last = path.steps[level].inner->count() - 1;
    } while (path.steps[level].slot == last);
    const Path::Step& step = path.steps[level];
    // What follows without a mapping goes; what has one has it behind `high`.
    Children children;
    children.add(step, 0, step.slot);
    const NodeWord own{step.inner->children[step.slot].load(std::memory_order_relaxed)};
    children.keep({own, high});
    for (std::size_t slot = step.slot + 1; slot <= last; ++slot) {
      const NodeWord node{step.inner->children[slot].load(std::memory_order_relaxed)};
      if (!node.none()) children.add({node, Children::high_of(step, slot, last)});
    }
    Change change{*this};
    Children parents;
    if (!children.make(change, parents)) return false;
    change.replaces(NodeWord::of(*step.inner));
    place_of(path, level).store(parents[0].node.raw, std::memory_order_release);  // M2
    change.done();
    descend(first, path);
  }
  return true;
}

// ---- Removal ----

void Mappings::take_out(const Path& path, const Mapping& mapping) noexcept {
  const NodeWord leaf = path.leaf.node;
  if (leaf.kind() == NodeKind::list) {
    auto& list = leaf.as<List>();
    Atomic<std::uint64_t>& word = list.entries[keys_below(list.lasts, mapping.range.first.value)].word;
    word.store(0, std::memory_order_release);  // M4
    --list.live;
  } else {
    auto& pages = leaf.as<Pages>();
    const std::size_t last = Pages::index_of(mapping.range.last.value);
    for (std::size_t index = Pages::index_of(mapping.range.first.value); index <= last; ++index)
      pages.words[index].store(0, std::memory_order_release);  // M4
    --pages.mappings;
  }
  --size_;
  nodes_.remove_mappings(1);
}

void Mappings::tidy(Path& path) noexcept {
  const NodeWord leaf = path.leaf.node;
  if (leaf.kind() == NodeKind::list) {
    const List& list = leaf.as<List>();
    if (list.live == 0) return prune(path);
    if (list.live <= nearly_empty) merge(path);
    return;
  }
  const Pages& pages = leaf.as<Pages>();
  if (pages.mappings == 0) return prune(path);
  if (pages.mappings > no_longer_dense) return;
  auto* const list = nodes_.take<List>();
  if (list == nullptr) return;  // it stays as it is
  std::size_t count = 0;
  for (std::optional<Mapping> found = first_in(leaf, 0); found; found = first_in(leaf, found->range.last.value + 1)) {
    set_entry(*list, count++, item_of(*found));
    if (found->range.last.value == no_key) break;
  }
  finish_list(*list, count);
  place_of(path, path.depth).store(NodeWord::of(*list).raw, std::memory_order_release);  // M2
  retire_leaf(leaf);
}

/// Takes an empty leaf out, and inner nodes that have no other child; one that has one other child gives it its place.
/// Needs no memory: a slot without a node says that its interval has no mapping.
void Mappings::prune(Path& path) noexcept {
  place_of(path, path.depth).store(0, std::memory_order_release);  // M4
  retire_leaf(path.leaf.node);
  while (path.depth != 0) {
    const Path::Step& step = path.steps[path.depth - 1];
    NodeWord left;
    std::size_t others = 0;
    for (const Atomic<std::uint64_t>& child : step.inner->children) {
      const NodeWord node{child.load(std::memory_order_relaxed)};
      if (node.none()) continue;
      left = node;
      ++others;
    }
    if (others > 1) return;
    path.leaf = {left, step.high};
    --path.depth;
    place_of(path, path.depth).store(left.raw, std::memory_order_release);  // M2
    nodes_.retire(NodeWord::of(*step.inner));
    if (others == 0) continue;
    if (left.kind() == NodeKind::list && left.as<List>().live <= nearly_empty) merge(path);
    return;
  }
}

/// With the list before or behind it, if the two are one list with room. If there is no memory it is left for later.
void Mappings::merge(const Path& path) noexcept {
  if (path.depth == 0) return;
  const Path::Step& step = path.steps[path.depth - 1];
  const std::size_t last = step.inner->count() - 1;
  const auto node_at = [&](std::size_t slot) {
    return NodeWord{step.inner->children[slot].load(std::memory_order_relaxed)};
  };
  const auto merged = [&](std::size_t left, std::size_t right) {
    if (node_at(left).kind() != NodeKind::list || node_at(right).kind() != NodeKind::list) return false;
    const List& one = node_at(left).as<List>();
    const List& other = node_at(right).as<List>();
    if (std::size_t{one.live} + other.live > most_merged) return false;
    Change change{*this};
    auto* const list = change.make<List>();
    if (list == nullptr) return true;
    Items items;
    items.add_live(one);
    items.add_live(other);
    items.fill(*list, 0, items.count());
    change.replaces(node_at(left));
    change.replaces(node_at(right));
    const Child child{NodeWord::of(*list), Children::high_of(step, right, last)};
    static_cast<void>(replace(path, left, right, {&child, 1}, change));
    return true;
  };
  for (std::size_t left = step.slot; left != 0;) {
    --left;
    if (node_at(left).none()) continue;
    if (merged(left, step.slot)) return;
    break;
  }
  for (std::size_t right = step.slot + 1; right <= last; ++right) {
    if (node_at(right).none()) continue;
    static_cast<void>(merged(step.slot, right));
    return;
  }
}

void Mappings::clear() noexcept {
  const NodeWord root{root_.load(std::memory_order_relaxed)};
  if (root.none()) return;
  drop_shortcuts();
  pages_leaves_ = 0;
  root_.store(0, std::memory_order_release);  // M4
  nodes_.retire_tree(root);
  nodes_.remove_mappings(size_);
  size_ = 0;
}

}  // namespace viommu::virtio_iommu
