// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "tests/mutants/mutant.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>

namespace viommu {
namespace {

[[nodiscard]] int number_from_environment() noexcept {
  const char* const text = std::getenv("VIOMMU_MUTANT");
  return text == nullptr ? 0 : std::atoi(text);
}

struct Reached {
  unsigned char* at = nullptr;  // a byte for each mutant, shared with the processes that a test starts
  long size = 0;
};

[[nodiscard]] Reached reached_from_environment() noexcept {
  const char* const name = std::getenv("VIOMMU_MUTANTS_REACHED");
  if (name == nullptr) return {};
  const int file = open(name, O_RDWR);
  struct stat status{};
  if (file < 0 || fstat(file, &status) != 0) return {};
  void* const at = mmap(nullptr, static_cast<std::size_t>(status.st_size), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  close(file);
  if (at == MAP_FAILED) return {};
  return {static_cast<unsigned char*>(at), status.st_size};
}

}  // namespace

int selected_mutant = number_from_environment();

void note_reached_mutant(int number) noexcept {
  static const Reached reached = reached_from_environment();
  if (number < reached.size) __atomic_store_n(reached.at + number, 1, __ATOMIC_RELAXED);
}

}  // namespace viommu
