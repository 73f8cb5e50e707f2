// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The memories that tests give to an engine do what the tests rely on.
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <catch2/catch.hpp>
#include <csignal>
#include <cstdint>
#include <vector>

#include "tests/support/guarded_region.hpp"
#include "tests/support/memory_backend.hpp"
#include "tests/support/sparse_memory.hpp"

namespace viommu::test {
namespace {

/// How a load at `address` ends in a process of its own.
int signal_of_load(const std::byte* address) {
  const pid_t child = ::fork();
  if (child == 0) {
    static_cast<void>(std::signal(SIGSEGV, SIG_DFL));
    static_cast<void>(std::signal(SIGBUS, SIG_DFL));
    const volatile std::byte value = *address;
    ::_exit(value == std::byte{0} ? 0 : 1);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

struct Host {
  Host() {
    memory.add_ram(0x1000, 0x1000);
    memory.store_u64(0x1010, 7);
    memory.store_u64(0x1018, 8);
    backend.install(table);
  }
  [[nodiscard]] bool read(std::uint64_t gpa, std::uint64_t size) {
    return table.memory_read(table.opaque, gpa, data.data(), size) == 0;
  }
  SparseMemory memory;
  MemoryBackend backend{memory};
  viommu_host table{};
  std::array<std::uint64_t, 2> data{};
};

}  // namespace

TEST_CASE("sparse memory is there exactly where it was added", "[support]") {
  SparseMemory memory;
  memory.add_ram(0x1000, 0x1FF8);
  CHECK(memory.load_u64(0x1000) == std::uint64_t{0});
  CHECK(memory.load_u64(0x2FF0) == std::uint64_t{0});
  CHECK_FALSE(memory.load_u64(0x2FF8));
  CHECK_FALSE(memory.load_u64(0xFF8));
  CHECK_FALSE(memory.load_u64(0x1004));
  CHECK_FALSE(memory.store_u64(0x2FF8, 1));
  CHECK(memory.store_u64(0x2FF0, 1));
  memory.remove_ram(0x2000, 0x1000);
  CHECK_FALSE(memory.load_u64(0x2FF0));
  CHECK(memory.load_u64(0x1FF8) == std::uint64_t{0});
  memory.add_ram(0xFFFFFFFFFFFFF000, 0x1000);
  CHECK(memory.store_u64(0xFFFFFFFFFFFFFFF8, 3));
  CHECK(memory.load_u64(0xFFFFFFFFFFFFFFF8) == std::uint64_t{3});
}

TEST_CASE("an access beside a guarded region ends the process", "[support][SEC-1]") {
  GuardedRegion region{0x5000, 0x2000};
  CHECK(region.store_u64(0x6FF8, 9));
  CHECK(region.load_u64(0x6FF8) == std::uint64_t{9});
  CHECK_FALSE(region.load_u64(0x7000));
  CHECK_FALSE(region.load_u64(0x4FF8));
  CHECK(signal_of_load(region.data()) == 0);
  CHECK(signal_of_load(region.data() + region.length() - 1) == 0);
  CHECK(signal_of_load(region.data() - 1) != 0);
  CHECK(signal_of_load(region.data() + region.length()) != 0);
}

TEST_CASE("the counting memory tells a second load of a word", "[support][SEC-2]") {
  Host host;
  std::vector<std::uint64_t> told;
  host.backend.forbid_second_load([&](std::uint64_t gpa) { told.push_back(gpa); });
  CHECK(host.read(0x1010, 16));
  CHECK(host.data == std::array<std::uint64_t, 2>{7, 8});
  CHECK(host.backend.reads() == 1);
  CHECK(told.empty());
  CHECK(host.read(0x1018, 8));
  CHECK(told == std::vector<std::uint64_t>{0x1018});
  host.backend.begin_decision();
  CHECK(host.read(0x1010, 8));
  CHECK(told.size() == 1);
  CHECK(host.backend.loads() == std::vector<MemoryBackend::Load>{{0x1010, 7}});
}

TEST_CASE("the failing memory fails the read it was told to", "[support][SEC-12]") {
  Host host;
  host.backend.fail_read(2);
  CHECK(host.read(0x1010, 8));
  CHECK_FALSE(host.read(0x1010, 8));
  CHECK(host.read(0x1010, 8));
  CHECK_FALSE(host.read(0x2000, 8));
  CHECK_FALSE(host.read(0x1FF8, 16));
}

TEST_CASE("the lying memory answers from its function", "[support][SEC-2]") {
  Host host;
  std::uint64_t next = 0;
  host.backend.lie([&](std::uint64_t) { return std::optional{++next}; });
  CHECK(host.read(0x1010, 8));
  CHECK(host.data[0] == 1);
  CHECK(host.read(0x1010, 16));
  CHECK(host.data == std::array<std::uint64_t, 2>{2, 3});
}

TEST_CASE("writes are listed and reach the memory", "[support]") {
  Host host;
  const std::uint32_t status = 0x12345678;
  CHECK(host.table.memory_write(host.table.opaque, 0x1014, &status, 4) == 0);
  CHECK(host.table.memory_write(host.table.opaque, 0x3000, &status, 4) < 0);
  CHECK(host.backend.writes() == std::vector<MemoryBackend::Write>{{0x1014, 4, status}, {0x3000, 4, status}});
  CHECK(host.memory.load_u64(0x1010) == (std::uint64_t{status} << 32 | 7));
  std::uint64_t expected = 9;
  CHECK(host.table.memory_compare_exchange(host.table.opaque, 0x1018, &expected, 5) == 1);
  CHECK(expected == 8);
  CHECK(host.table.memory_compare_exchange(host.table.opaque, 0x1018, &expected, 5) == 0);
  CHECK(host.memory.load_u64(0x1018) == std::uint64_t{5});
}

}  // namespace viommu::test
