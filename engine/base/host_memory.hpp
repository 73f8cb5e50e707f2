// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Memory of the engine itself, from the host's allocator; arrays that are sized once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>

namespace viommu {

/// The host's allocator, or the process's when `allocate` is null.
struct HostAllocator {
  void* opaque = nullptr;
  void* (*allocate)(void* opaque, std::size_t size, std::size_t alignment) = nullptr;
  void (*deallocate)(void* opaque, void* memory, std::size_t size, std::size_t alignment) = nullptr;

  /// Null when there is no memory.
  [[nodiscard]] void* get(std::size_t size, std::size_t alignment) const noexcept {
    if (allocate != nullptr) return allocate(opaque, size, alignment);
    return ::operator new(size, std::align_val_t{alignment}, std::nothrow);
  }
  void put(void* memory, std::size_t size, std::size_t alignment) const noexcept {
    if (memory == nullptr) return;
    if (deallocate != nullptr) return deallocate(opaque, memory, size, alignment);
    ::operator delete(memory, std::align_val_t{alignment});
  }
};

/// A fixed number of value-initialised elements. Empty until reset() succeeds.
template <class T>
class HostArray {
 public:
  HostArray() = default;
  HostArray(HostArray&& other) noexcept
      : allocator_{other.allocator_},
        data_{std::exchange(other.data_, nullptr)},
        size_{std::exchange(other.size_, 0)} {}
  HostArray& operator=(HostArray&& other) noexcept {
    std::swap(allocator_, other.allocator_);
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~HostArray() { clear(); }

  /// @return false when the host has no memory; the array is empty then.
  [[nodiscard]] bool reset(const HostAllocator& allocator, std::size_t size) noexcept {
    static_assert(std::is_nothrow_default_constructible_v<T>);
    clear();
    allocator_ = allocator;
    void* const memory = allocator_.get(bytes_for(size), alignment);
    if (memory == nullptr) return false;
    data_ = static_cast<T*>(memory);
    size_ = size;
    std::uninitialized_value_construct_n(data_, size_);
    return true;
  }

  [[nodiscard]] T& operator[](std::size_t index) noexcept { return data_[index]; }
  [[nodiscard]] const T& operator[](std::size_t index) const noexcept { return data_[index]; }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  [[nodiscard]] std::size_t bytes() const noexcept { return bytes_for(size_); }
  [[nodiscard]] T* begin() noexcept { return data_; }
  [[nodiscard]] T* end() noexcept { return data_ + size_; }
  [[nodiscard]] const T* begin() const noexcept { return data_; }
  [[nodiscard]] const T* end() const noexcept { return data_ + size_; }

 private:
  static constexpr std::size_t alignment = alignof(T) < 64 ? 64 : alignof(T);
  [[nodiscard]] static constexpr std::size_t bytes_for(std::size_t size) noexcept {
    return size == 0 ? alignment : size * sizeof(T);
  }
  void clear() noexcept {
    if (data_ == nullptr) return;
    std::destroy_n(data_, size_);
    allocator_.put(data_, bytes_for(size_), alignment);
    data_ = nullptr;
    size_ = 0;
  }

  HostAllocator allocator_;
  T* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace viommu
