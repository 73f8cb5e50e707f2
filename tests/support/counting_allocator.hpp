// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// A host allocator that knows what is open, hands out dirty memory, and fails when it is told to.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <new>
#include <unordered_map>

#include "engine/base/host_memory.hpp"

namespace viommu::test {

/// Threads: any.
class CountingAllocator {
 public:
  CountingAllocator() = default;
  CountingAllocator(const CountingAllocator&) = delete;
  CountingAllocator& operator=(const CountingAllocator&) = delete;
  ~CountingAllocator() {
    for (const auto& [memory, block] : open_) ::operator delete(memory, std::align_val_t{block.alignment});
  }

  [[nodiscard]] HostAllocator functions() noexcept {
    return {this,
            [](void* self, std::size_t size, std::size_t alignment) {
              return static_cast<CountingAllocator*>(self)->allocate(size, alignment);
            },
            [](void* self, void* memory, std::size_t size, std::size_t alignment) {
              static_cast<CountingAllocator*>(self)->deallocate(memory, size, alignment);
            }};
  }

  [[nodiscard]] void* allocate(std::size_t size, std::size_t alignment) {
    const std::lock_guard guard{lock_};
    ++calls_;
    if (calls_until_failure_ != 0) {
      --calls_until_failure_;
      if (calls_until_failure_ == 0) return nullptr;
    }
    void* const memory = ::operator new(size, std::align_val_t{alignment}, std::nothrow);
    if (memory == nullptr) return nullptr;
    constexpr int dirt = 0xA5;  // what is used before it was written shows
    std::memset(memory, dirt, size);
    open_.emplace(memory, Block{size, alignment});
    bytes_ += size;
    most_bytes_ = std::max(most_bytes_, bytes_);
    return memory;
  }
  void deallocate(void* memory, std::size_t size, std::size_t alignment) {
    const std::lock_guard guard{lock_};
    const auto found = open_.find(memory);
    if (found == open_.end() || found->second.size != size || found->second.alignment != alignment) {
      ++mistakes_;
      return;
    }
    open_.erase(found);
    bytes_ -= size;
    ::operator delete(memory, std::align_val_t{alignment});
  }

  /// The k-th call from now on fails, counted from 1; 0: none does.
  void fail_at(std::uint64_t k) noexcept { calls_until_failure_ = k; }
  [[nodiscard]] std::uint64_t calls() const noexcept { return calls_; }  ///< of allocate
  [[nodiscard]] std::size_t open_blocks() const noexcept { return open_.size(); }
  [[nodiscard]] std::size_t open_bytes() const noexcept { return bytes_; }
  [[nodiscard]] std::size_t most_open_bytes() const noexcept { return most_bytes_; }  ///< at a time, ever
  /// Blocks given back that were not open, or with another size or alignment than they were taken with.
  [[nodiscard]] std::uint64_t mistakes() const noexcept { return mistakes_; }

 private:
  struct Block {
    std::size_t size;
    std::size_t alignment;
  };
  std::mutex lock_;
  std::unordered_map<void*, Block> open_;
  std::size_t bytes_ = 0;
  std::size_t most_bytes_ = 0;
  std::uint64_t calls_ = 0;
  std::uint64_t calls_until_failure_ = 0;
  std::uint64_t mistakes_ = 0;
};

}  // namespace viommu::test
