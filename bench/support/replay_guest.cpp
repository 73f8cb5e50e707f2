// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "bench/support/replay_guest.hpp"

#include <sys/mman.h>

#include <new>

#include "bench/support/synthetic_guest.hpp"

namespace viommu::bench {
namespace {

constexpr std::uint64_t context_table = 0x2000;
constexpr std::uint64_t first_upper_table = 0x20000;
constexpr std::uint64_t read_write = 3;
constexpr std::uint64_t four_levels = 2;  // the AW field
constexpr std::uint64_t frame_count = 1 << 28;
constexpr unsigned domain_shift = 27;  // the domains' frames are others

/// Where the page of that number lies, in pages; domains are half of the frames apart.
[[nodiscard]] std::uint64_t place_of(Shape shape, std::uint64_t page) noexcept {
  constexpr std::uint64_t scatter = 0x9E3779B1;  // odd: permutes any power of two, and parts neighbours
  constexpr std::uint64_t half = (std::uint64_t{1} << domain_shift) - 1;
  constexpr std::uint64_t run = 16;
  if (shape == Shape::contiguous) return page & half;
  if (shape == Shape::runs) return (page / run * scatter * run + page % run) & half;
  return page * scatter & half;
}

}  // namespace

std::string name_of(Shape shape) {
  switch (shape) {
    case Shape::contiguous: return "contiguous";
    case Shape::runs:       return "runs16";
    case Shape::scattered:  return "scattered";
    case Shape::sparse:     return "sparse";
  }
  return "";
}

ReplayGuest::ReplayGuest(Shape shape, std::uint32_t tables, std::uint32_t domains)
    : tables_{tables}, next_table_{first_upper_table} {
  static_assert(frame_count << 12 == frame_bytes);
  // For each domain a root, and a table at each of the two levels between it and the leaves for what it spans.
  const std::uint64_t uppers = std::uint64_t{domains} * (2 + std::uint64_t{tables} / table_pages + 1);
  first_leaf_table_ = first_upper_table + uppers * table_bytes;
  const std::uint64_t bytes = first_leaf_table_ + std::uint64_t{domains} * tables * table_bytes;
  void* const memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc{};
  static_cast<void>(madvise(memory, bytes, MADV_HUGEPAGE));  // as VMMs ask for their guests
  ram_ = {static_cast<std::byte*>(memory), bytes};

  store(root_table, context_table | 1);
  for (std::uint32_t domain = 0; domain < domains; ++domain) {
    const std::uint64_t root = roots_[domain] = allocate_table();
    const std::uint64_t directories = allocate_table();
    store(root, directories | read_write);
    std::uint64_t directory = 0;
    for (std::uint32_t number = 0; number < tables; ++number) {
      if (number % table_pages == 0) {
        directory = allocate_table();
        const std::uint64_t at = (first_iova >> 30) + number / table_pages;
        store(directories + at * 8, directory | read_write);
      }
      store(directory + std::uint64_t{number % table_pages} * 8, table(domain, number) | read_write);
      for (std::uint32_t i = 0; i < table_pages; ++i) {
        const std::uint64_t page = std::uint64_t{number} * table_pages + i;
        if (shape == Shape::sparse && mixed(page) % 64 != 0) continue;
        const std::uint64_t place = place_of(shape, page) | std::uint64_t{domain} << domain_shift;
        store(table(domain, number) + i * sizeof(std::uint64_t), (first_frame + (place << 12)) | read_write);
      }
    }
  }
  attach(0);
}

ReplayGuest::~ReplayGuest() { munmap(ram_.data(), ram_.size()); }

void ReplayGuest::attach(std::uint32_t domain) const noexcept {
  const std::uint64_t entry = context_table + 16 * std::uint64_t{source};
  store(entry + 8, std::uint64_t{id_of(domain)} << 8 | four_levels);
  store(entry, roots_[domain] | 1);
}

std::uint64_t ReplayGuest::allocate_table() noexcept {
  const std::uint64_t table = next_table_;
  next_table_ += table_bytes;
  return table;
}

}  // namespace viommu::bench
