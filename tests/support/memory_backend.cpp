// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "tests/support/memory_backend.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace viommu::test {
namespace {

constexpr std::int32_t no_memory = -1;

void end_program(std::uint64_t gpa) {
  std::fprintf(stderr, "the word at %llx was loaded twice in one decision\n", static_cast<unsigned long long>(gpa));
  std::abort();
}

}  // namespace

void MemoryBackend::install(viommu_host& host) {
  host.opaque = this;
  host.memory_read = [](void* self, std::uint64_t gpa, void* data, std::uint64_t size) {
    return static_cast<MemoryBackend*>(self)->read(gpa, data, size);
  };
  host.memory_write = [](void* self, std::uint64_t gpa, const void* data, std::uint64_t size) {
    return static_cast<MemoryBackend*>(self)->write(gpa, data, size);
  };
  host.memory_compare_exchange = [](void* self, std::uint64_t gpa, std::uint64_t* expected, std::uint64_t desired) {
    return static_cast<MemoryBackend*>(self)->compare_exchange(gpa, *expected, desired);
  };
}

void MemoryBackend::begin_decision() {
  loads_.clear();
  exchanges_.clear();
  reads_ = 0;
}

void MemoryBackend::forbid_second_load(std::function<void(std::uint64_t)> tell) {
  second_load_forbidden_ = true;
  tell_ = tell ? std::move(tell) : end_program;
}

std::int32_t MemoryBackend::read(std::uint64_t gpa, void* data, std::uint64_t size) {
  ++reads_;
  const bool fails = reads_until_failure_ == 1;
  if (reads_until_failure_ != 0) --reads_until_failure_;
  bool found = !fails && gpa % size == 0;
  for (std::uint64_t offset = 0; offset < size; offset += 8) {
    const auto loaded_before = [&](const Load& load) { return load.gpa == gpa + offset; };
    if (second_load_forbidden_ && std::ranges::any_of(loads_, loaded_before)) tell_(gpa + offset);
    std::optional<std::uint64_t> value;
    if (found) value = liar_ ? liar_(gpa + offset) : memory_->load_u64(gpa + offset);
    loads_.push_back({gpa + offset, value});
    found = found && value.has_value();
    if (value) std::memcpy(static_cast<std::byte*>(data) + offset, &*value, sizeof *value);
  }
  return found ? 0 : no_memory;
}

std::int32_t MemoryBackend::write(std::uint64_t gpa, const void* data, std::uint64_t size) {
  std::uint64_t value = 0;
  std::memcpy(&value, data, std::min(size, std::uint64_t{sizeof value}));
  writes_.push_back({gpa, size, value});
  return memory_->write(gpa, {static_cast<const std::byte*>(data), size}) ? 0 : no_memory;
}

std::int32_t MemoryBackend::compare_exchange(std::uint64_t gpa, std::uint64_t& expected, std::uint64_t desired) {
  const std::uint64_t asked = expected;
  const std::int32_t outcome = outcome_ ? outcome_() : exchange(gpa, expected, desired);
  exchanges_.push_back({gpa, asked, desired, outcome});
  return outcome;
}

std::int32_t MemoryBackend::exchange(std::uint64_t gpa, std::uint64_t& expected, std::uint64_t desired) {
  const std::optional<std::uint64_t> found = memory_->load_u64(gpa);
  if (!found) return no_memory;
  if (*found != expected) {
    expected = *found;
    return 1;
  }
  memory_->store_u64(gpa, desired);
  return 0;
}

}  // namespace viommu::test
