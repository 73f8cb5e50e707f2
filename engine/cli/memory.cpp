// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/cli/memory.hpp"

#include <algorithm>
#include <iterator>
#include <utility>

namespace viommu::cli {
namespace {

constexpr std::uint64_t everything = ~std::uint64_t{0};

/// The last address of an access; the caller's accesses never pass the end of the address space.
constexpr std::uint64_t last_of(std::uint64_t gpa, std::uint64_t length) noexcept { return gpa + (length - 1); }

bool any_of(const std::unordered_set<std::uint64_t>& words, std::uint64_t gpa, std::uint64_t length) {
  if (words.empty()) return false;
  for (std::uint64_t number = gpa / 8; number <= last_of(gpa, length) / 8; ++number)
    if (words.contains(number)) return true;
  return false;
}

}  // namespace

Memory::Memory() : slots_(1024), ram_{{0, everything}} {}

Memory::Page* Memory::find(std::uint64_t number) const noexcept {
  if (latest_.page != nullptr && latest_.number == number) return latest_.page;
  const std::size_t mask = slots_.size() - 1;
  for (std::size_t i = hash(number) & mask;; i = (i + 1) & mask) {  // ends: at most half of the slots are used
    const Slot& slot = slots_[i];
    if (slot.page == nullptr) return nullptr;
    if (slot.number == number) {
      latest_ = slot;
      return slot.page;
    }
  }
}

void Memory::put(std::uint64_t number, Page* page) noexcept {
  const std::size_t mask = slots_.size() - 1;
  std::size_t i = hash(number) & mask;
  while (slots_[i].page != nullptr) i = (i + 1) & mask;
  slots_[i] = {number, page};
}

Memory::Page& Memory::page(std::uint64_t number) {
  if (Page* found = find(number)) return *found;
  if (2 * (pages_.size() + 1) > slots_.size()) {
    const std::vector<Slot> old = std::exchange(slots_, std::vector<Slot>(2 * slots_.size()));
    for (const Slot& slot : old)
      if (slot.page != nullptr) put(slot.number, slot.page);
  }
  pages_.push_back(std::make_unique<Page>());
  put(number, pages_.back().get());
  return *pages_.back();
}

std::uint64_t Memory::word(std::uint64_t gpa) const noexcept {
  const Page* found = find(gpa / page_bytes);
  return found == nullptr ? 0 : (*found)[gpa % page_bytes / 8];
}

void Memory::store(std::uint64_t gpa, std::uint64_t value) {
  if (!unreadable_.empty()) unreadable_.erase(gpa / 8);
  if (!unwritable_.empty()) unwritable_.erase(gpa / 8);
  if (gpa % 8 == 0) {
    if (is_ram(gpa, gpa + 7)) page(gpa / page_bytes)[gpa % page_bytes / 8] = value;
    return;
  }
  for (unsigned i = 0; i < 8; ++i) {
    const auto byte = static_cast<std::byte>(value >> (8 * i));
    if (gpa <= everything - i) static_cast<void>(write(gpa + i, {&byte, 1}));
  }
}

void Memory::fail_reads(std::uint64_t gpa, std::uint64_t length) {
  // A trace's failed access is one word or one descriptor; a longer one is a whole hole, and its start says enough.
  const std::uint64_t last = last_of(gpa, std::min<std::uint64_t>(length, page_bytes));
  for (std::uint64_t number = gpa / 8; number <= last / 8; ++number) unreadable_.insert(number);
}

void Memory::fail_writes(std::uint64_t gpa, std::uint64_t length) {
  const std::uint64_t last = last_of(gpa, std::min<std::uint64_t>(length, page_bytes));
  for (std::uint64_t number = gpa / 8; number <= last / 8; ++number) unwritable_.insert(number);
}

void Memory::allow_writes(std::uint64_t gpa, std::uint64_t length) {
  if (unwritable_.empty()) return;
  for (std::uint64_t number = gpa / 8; number <= last_of(gpa, length) / 8; ++number) unwritable_.erase(number);
}

void Memory::limit_ram(std::uint64_t first, std::uint64_t last) { ram_ = {{first, last}}; }

bool Memory::add_ram(std::uint64_t first, std::uint64_t last) {
  for (const Extent& extent : ram_)
    if (first <= extent.last && extent.first <= last) return false;
  const auto after = std::find_if(ram_.begin(), ram_.end(), [&](const Extent& e) { return e.first > last; });
  auto at = ram_.insert(after, Extent{first, last});
  // Neighbours become one, so that an access across their border is an access to RAM.
  if (std::next(at) != ram_.end() && at->last + 1 == std::next(at)->first) {
    at->last = std::next(at)->last;
    at = std::prev(ram_.erase(std::next(at)));
  }
  if (at != ram_.begin() && std::prev(at)->last + 1 == at->first) {
    std::prev(at)->last = at->last;
    ram_.erase(at);
  }
  return true;
}

bool Memory::remove_ram(std::uint64_t first, std::uint64_t last) {
  const auto at =
      std::find_if(ram_.begin(), ram_.end(), [&](const Extent& e) { return e.first <= first && last <= e.last; });
  if (at == ram_.end()) return false;
  const Extent whole = *at;
  const auto next = ram_.erase(at);
  const auto right = last < whole.last ? ram_.insert(next, {last + 1, whole.last}) : next;
  if (whole.first < first) ram_.insert(right, {whole.first, first - 1});
  for (const Slot& slot : slots_) {
    if (slot.page == nullptr) continue;
    const std::uint64_t base = slot.number * page_bytes;
    for (std::size_t i = 0; i < slot.page->size(); ++i)
      if (base + 8 * i >= first && base + 8 * i <= last) (*slot.page)[i] = 0;
  }
  return true;
}

std::optional<std::uint64_t> Memory::last_ram() const {
  if (ram_.empty()) return std::nullopt;
  return ram_.back().last;
}

bool Memory::is_ram(std::uint64_t first, std::uint64_t last) const noexcept {
  return std::any_of(ram_.begin(), ram_.end(),
                     [&](const Extent& e) { return e.first <= first && first <= last && last <= e.last; });
}

bool Memory::readable(std::uint64_t gpa, std::uint64_t length) const {
  return length != 0 && is_ram(gpa, last_of(gpa, length)) && !any_of(unreadable_, gpa, length);
}

bool Memory::writable(std::uint64_t gpa, std::uint64_t length) const {
  return length != 0 && is_ram(gpa, last_of(gpa, length)) && !any_of(unwritable_, gpa, length);
}

std::optional<std::uint64_t> Memory::load(std::uint64_t gpa) const {
  if (!readable(gpa, 8)) return std::nullopt;
  return word(gpa);
}

bool Memory::read(std::uint64_t gpa, std::span<std::byte> to) const {
  if (!readable(gpa, to.size())) return false;
  for (std::size_t i = 0; i < to.size(); ++i) {
    const std::uint64_t at = gpa + i;
    to[i] = static_cast<std::byte>(word(at) >> (8 * (at % 8)));
  }
  return true;
}

bool Memory::write(std::uint64_t gpa, std::span<const std::byte> from) {
  if (!writable(gpa, from.size())) return false;
  for (std::size_t i = 0; i < from.size(); ++i) {
    const std::uint64_t at = gpa + i;
    std::uint64_t& target = page(at / page_bytes)[at % page_bytes / 8];
    const auto shift = static_cast<unsigned>(8 * (at % 8));
    target = (target & ~(std::uint64_t{0xff} << shift)) | (std::to_integer<std::uint64_t>(from[i]) << shift);
  }
  return true;
}

}  // namespace viommu::cli
