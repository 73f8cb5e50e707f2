// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "tests/support/guarded_region.hpp"

#include <sys/mman.h>

#include <atomic>
#include <stdexcept>

namespace viommu::test {
namespace {

constexpr std::size_t guard_bytes = 4096;

std::byte* map_inaccessible(std::size_t length) {
  // No memory is set aside for what is never touched: a region may be as long as a guest's.
  void* mapping = ::mmap(nullptr, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapping == MAP_FAILED) throw std::runtime_error{"mmap failed"};
  return static_cast<std::byte*>(mapping);
}

}  // namespace

void GuardedRegion::Unmap::operator()(std::byte* mapping) const noexcept { ::munmap(mapping, length); }

GuardedRegion::GuardedRegion(std::uint64_t gpa, std::size_t length)
    : gpa_{gpa},
      length_{length},
      mapping_{map_inaccessible(length + 2 * guard_bytes), Unmap{length + 2 * guard_bytes}},
      data_{mapping_.get() + guard_bytes} {
  make_accessible(true);
}

void GuardedRegion::make_accessible(bool accessible) {
  const int protection = accessible ? PROT_READ | PROT_WRITE : PROT_NONE;
  if (::mprotect(data_, length_, protection) != 0) throw std::runtime_error{"mprotect failed"};
}

std::uint64_t* GuardedRegion::word(std::uint64_t gpa) const noexcept {
  if (gpa % 8 != 0 || gpa < gpa_ || gpa - gpa_ >= length_) return nullptr;
  void* address = data_ + (gpa - gpa_);  // through void*: the region is page aligned, so this is too
  return static_cast<std::uint64_t*>(address);
}

std::optional<std::uint64_t> GuardedRegion::load_u64(std::uint64_t gpa) const noexcept {
  std::uint64_t* at = word(gpa);
  if (at == nullptr) return std::nullopt;
  return std::atomic_ref{*at}.load(std::memory_order_acquire);
}

bool GuardedRegion::store_u64(std::uint64_t gpa, std::uint64_t value) noexcept {
  std::uint64_t* at = word(gpa);
  if (at == nullptr) return false;
  std::atomic_ref{*at}.store(value, std::memory_order_release);
  return true;
}

}  // namespace viommu::test
