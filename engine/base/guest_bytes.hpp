// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Bytes of guest memory at any address, in words: a byte is part of one atomic access, like everything that is shared
// with the guest. A word that holds a wanted byte lies in the same page, so it is there if the byte is.
#pragma once

#include <cstddef>
#include <span>

#include "engine/base/address.hpp"
#include "engine/base/guest_memory.hpp"
#include "engine/base/memory_view.hpp"

namespace viommu {

/// Copies the bytes at `gpa`; each word that holds some of them is loaded once, ascending. They do not wrap around.
/// @return false where a word is no memory; `to` is then undefined
[[nodiscard]] bool load_bytes(const MemoryView& memory, Gpa gpa, std::span<std::byte> to) noexcept;

/// Stores them in the largest aligned pieces there are, ascending, each with release. They do not wrap around.
/// @return false where a piece meets nothing writable; the pieces before it are stored
[[nodiscard]] bool store_bytes(const GuestMemory& memory, Gpa gpa, std::span<const std::byte> from) noexcept;

}  // namespace viommu
