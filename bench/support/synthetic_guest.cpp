// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "bench/support/synthetic_guest.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <limits>
#include <map>
#include <new>

namespace viommu::bench {
namespace {

constexpr std::uint64_t page_bytes = 4096;
constexpr std::uint64_t context_table = 0x2000;
constexpr std::uint64_t first_upper_table = 0x20000;
constexpr std::uint64_t read_write = 3;
constexpr std::uint64_t large_page = 0x80;
constexpr std::uint64_t four_levels = 2;  // the AW field
constexpr unsigned top_level = 4;
// Frames of each size have an area of their own, above all RAM and the interrupt window.
constexpr std::array<std::uint64_t, 3> frame_area{std::uint64_t{1} << 40, std::uint64_t{1} << 42,
                                                  std::uint64_t{1} << 46};
constexpr std::array<unsigned, 3> frame_count_bits{28, 20, 16};

constexpr std::uint32_t none = std::numeric_limits<std::uint32_t>::max();

[[nodiscard]] std::span<std::byte> map_ram(std::size_t bytes) {
  void* const memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc{};
  static_cast<void>(madvise(memory, bytes, MADV_HUGEPAGE));  // as VMMs ask for their guests
  return {static_cast<std::byte*>(memory), bytes};
}

/// A random word for each number.
[[nodiscard]] constexpr std::uint32_t scattered(std::uint32_t number) noexcept {
  number = (number ^ number >> 16) * 0x85EBCA6B;
  number = (number ^ number >> 13) * 0xC2B2AE35;
  return number ^ number >> 16;
}

}  // namespace

SyntheticGuest::SyntheticGuest(const Layout& layout)
    : layout_{layout}, each_{std::max(layout.pages / layout.devices, 1u)}, first_{0, none, none} {
  const auto stride_shift = static_cast<unsigned>(__builtin_ctz(layout.stride));
  shift_ = {12 + stride_shift, 21, 30};
  if (layout.sizes == Sizes::mixed) first_ = {0, each_ * 4 / 5, each_ * 19 / 20};
  if (layout.devices <= 32) source_shift_ = 3;

  leaf_tables_ = std::max(static_cast<std::uint32_t>(std::uint64_t{each_} * layout.stride / 512), 1u);
  const std::uint64_t leaves = std::uint64_t{leaf_tables_} * layout.devices;
  const std::uint64_t uppers = (16 + leaf_tables_ / 512 + each_ / 512) * std::uint64_t{layout.devices};
  next_table_ = first_upper_table;
  first_leaf_table_ = first_upper_table + uppers * page_bytes;
  ram_ = map_ram(first_leaf_table_ + leaves * page_bytes);

  store(root_table, context_table | 1);
  for (std::uint32_t device = 0; device < layout.devices; ++device) {
    const std::uint64_t root = allocate_table();
    const std::uint64_t entry = context_table + 16 * std::uint64_t{source(device)};
    store(entry + 8, std::uint64_t{domain(device)} << 8 | four_levels);
    store(entry, root | 1);
    map_small(root, device);
    map_large(root, device);
  }
}

SyntheticGuest::~SyntheticGuest() { munmap(ram_.data(), ram_.size()); }

std::uint64_t SyntheticGuest::frame(unsigned kind, std::uint32_t device, std::uint32_t page) const noexcept {
  const std::uint32_t number = device * each_ + page;
  const std::uint32_t mask = (1u << frame_count_bits[kind]) - 1;
  const std::uint32_t place = (layout_.frames == Frames::contiguous ? number : number * scatter) & mask;
  constexpr std::array<unsigned, 3> size_shift{12, 21, 30};
  return frame_area[kind] + (std::uint64_t{place} << size_shift[kind]);
}

std::uint64_t SyntheticGuest::gpa(const viommu_request& request) const noexcept {
  const unsigned kind = (request.iova >= base_[1] ? 1u : 0u) + (request.iova >= base_[2] ? 1u : 0u);
  const std::uint64_t offset = request.iova - base_[kind];
  const auto page = static_cast<std::uint32_t>(offset >> shift_[kind]) + first_[kind];
  return frame(kind, device(request.source), page) | (offset & ((std::uint64_t{1} << shift_[kind]) - 1));
}

void SyntheticGuest::ask_batch(std::uint64_t count, std::span<viommu_request> requests) const noexcept {
  const auto of_device = static_cast<std::uint32_t>(mixed(~count)) & (layout_.devices - 1);
  const auto seed = static_cast<std::uint32_t>(mixed(count));
  if (layout_.sizes != Sizes::mixed) {  // in as few instructions as can be: their time is in that of whoever answers
    const viommu_request first = ask(of_device, 0);
    for (std::size_t index = 0; index < requests.size(); ++index) {
      viommu_request& request = requests[index] = first;
      request.iova += std::uint64_t{scattered(seed + static_cast<std::uint32_t>(index)) & (each_ - 1)} << shift_[0];
    }
    return;
  }
  for (std::size_t index = 0; index < requests.size(); ++index)
    requests[index] = ask(of_device, scattered(seed + static_cast<std::uint32_t>(index)) & (each_ - 1));
}

std::uint64_t SyntheticGuest::allocate_table() {
  const std::uint64_t table = next_table_;
  next_table_ += page_bytes;
  if (next_table_ > first_leaf_table_) throw std::bad_alloc{};
  return table;
}

/// The entry for `iova` in the table of that level (1: leaves), with the tables above it made as needed.
std::uint64_t SyntheticGuest::slot(std::uint64_t root, std::uint64_t iova, unsigned level) {
  std::uint64_t table = root;
  for (unsigned at = top_level;; --at) {  // ends: level >= 1
    const std::uint64_t entry = table + 8 * (iova >> (12 + 9 * (at - 1)) & 0x1ff);
    if (at == level) return entry;
    if (load(entry) == 0) store(entry, allocate_table() | read_write);
    table = load(entry) & ~(page_bytes - 1);
  }
}

void SyntheticGuest::map_small(std::uint64_t root, std::uint32_t device) {
  for (std::uint32_t table = 0; table < leaf_tables_; ++table) {
    const std::uint64_t iova = base_[0] + (std::uint64_t{table} << 21);
    store(slot(root, iova, 2), leaf_table(device * leaf_tables_ + table) | read_write);
  }
  for (std::uint32_t page = 0; page < std::min(each_, first_[1]); ++page) {
    store(leaf_slot(device, page), frame(0, device, page) | read_write);
  }
}

void SyntheticGuest::map_large(std::uint64_t root, std::uint32_t device) {
  if (layout_.sizes != Sizes::mixed) return;
  for (std::uint32_t page = first_[1]; page < each_; ++page) {
    const unsigned kind = page >= first_[2] ? 2 : 1;
    store(slot(root, ask(device, page).iova, kind + 1), frame(kind, device, page) | large_page | read_write);
  }
}

std::shared_ptr<SyntheticGuest> guest_of(const Layout& layout) {
  static std::map<Layout, std::shared_ptr<SyntheticGuest>> guests;
  std::shared_ptr<SyntheticGuest>& guest = guests[layout];
  if (!guest) guest = std::make_shared<SyntheticGuest>(layout);
  return guest;
}

}  // namespace viommu::bench
