// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "bench/support/guest_ram.hpp"

#include <sys/mman.h>

#include <cstring>
#include <new>
#include <utility>

namespace viommu::bench {
namespace {

constexpr std::size_t page_bytes = 4096;
constexpr std::uint64_t block_bytes = std::uint64_t{1} << 30;

}  // namespace

GuestRam::GuestRam(const std::set<std::uint64_t>& pages) {
  std::set<std::uint64_t> blocks;
  for (const std::uint64_t page : pages) blocks.insert(page * page_bytes / block_bytes);
  for (auto block = blocks.begin(); block != blocks.end();) {
    const std::uint64_t first = *block;
    std::uint64_t after = first;
    while (block != blocks.end() && *block == after) {
      ++block;
      ++after;
    }
    const std::size_t bytes = (after - first) * block_bytes;
    void* const memory =
        mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc{};
    regions_.push_back({first * block_bytes, {static_cast<std::byte*>(memory), bytes}});
  }
  for (const std::uint64_t page : pages) pages_.push_back(at(page * page_bytes));
  clear();
}

GuestRam::GuestRam(GuestRam&& other) noexcept
    : regions_{std::exchange(other.regions_, {})}, pages_{std::exchange(other.pages_, {})} {}

GuestRam& GuestRam::operator=(GuestRam&& other) noexcept {
  std::swap(regions_, other.regions_);
  std::swap(pages_, other.pages_);
  return *this;
}

GuestRam::~GuestRam() {
  for (const Region& region : regions_) munmap(region.memory.data(), region.memory.size());
}

std::byte* GuestRam::at(std::uint64_t gpa) const noexcept {
  for (const Region& region : regions_) {
    if (gpa >= region.gpa && gpa - region.gpa < region.memory.size()) return region.memory.data() + (gpa - region.gpa);
  }
  return nullptr;
}

std::uint64_t GuestRam::word(std::uint64_t gpa) const noexcept {
  std::uint64_t word = 0;
  if (const std::byte* const from = at(gpa)) std::memcpy(&word, from, sizeof word);
  return word;
}

void GuestRam::clear() noexcept {
  for (std::byte* const page : pages_) std::memset(page, 0, page_bytes);
}

}  // namespace viommu::bench
