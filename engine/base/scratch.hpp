// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Room on the stack that costs nothing until it is used: a batch writes what it needs and reads only that.
#pragma once

#include <cstddef>
#include <new>
#include <type_traits>

namespace viommu {

/// `count` elements without a value. Each is to be put before it is read.
template <class T, std::size_t count>
class Scratch {
  static_assert(std::is_trivially_copyable_v<T> && std::is_trivially_destructible_v<T>);

 public:
  // Leaves the bytes as they are. NOLINTNEXTLINE(modernize-use-equals-default): that with {} would clear them
  Scratch() noexcept {}

  void put(std::size_t index, const T& value) noexcept { ::new (bytes_ + index * sizeof(T)) T{value}; }
  /// Begins an element that is then written field by field.
  T& emplace(std::size_t index) noexcept { return *::new (bytes_ + index * sizeof(T)) T; }
  [[nodiscard]] T& operator[](std::size_t index) noexcept { return data()[index]; }
  [[nodiscard]] const T& operator[](std::size_t index) const noexcept { return data()[index]; }
  [[nodiscard]] T* data() noexcept { return std::launder(reinterpret_cast<T*>(bytes_)); }
  [[nodiscard]] const T* data() const noexcept { return std::launder(reinterpret_cast<const T*>(bytes_)); }

 private:
  alignas(T) std::byte bytes_[count * sizeof(T)];
};

}  // namespace viommu
