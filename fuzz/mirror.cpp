// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Property: whatever the guest does to its tables and contexts, and the VMM to memory and consumers, after each flush
// that the architecture asks for every consumer holds exactly what an independent walk finds, and was never told what
// no consumer could do.
//
//   record: a step of MirrorWorld as six numbers
#include <array>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

#include "fuzz/support/input.hpp"
#include "fuzz/support/records.hpp"
#include "fuzz/support/require.hpp"
#include "fuzz/support/target.hpp"
#include "fuzz/support/work_done.hpp"
#include "tests/support/mirror_world.hpp"

namespace viommu::fuzz {
namespace {

constexpr std::size_t record_bytes = 8;
constexpr std::size_t most_steps = 200;

void run(Input input) {
  test::MirrorWorld world;
  for (std::size_t i = 0; i < most_steps && !input.empty(); ++i) {
    Input record = input.record(record_bytes);
    test::MirrorWorld::Step step;
    step.n = {record.take<std::uint8_t>(),  record.take<std::uint8_t>(), record.take<std::uint16_t>(),
              record.take<std::uint16_t>(), record.take<std::uint8_t>(), record.take<std::uint8_t>()};
    const std::string wrong = world.take(step);
    if (!wrong.empty()) fail(wrong.c_str());
    ++work_done;
  }
}

constexpr std::array<Cell, 6> cells{{{0, 1}, {1, 1}, {2, 2}, {4, 2}, {6, 1}, {7, 1}}};
constexpr RecordShape shape{0, record_bytes, cells, {}};

}  // namespace
}  // namespace viommu::fuzz

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace viommu::fuzz;
  try {
    run(Input{data, size});
  } catch (const std::out_of_range&) {
    return 0;  // the guest has no more room for tables
  }
  return 0;
}

std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t most, unsigned seed) {
  return viommu::fuzz::mutate_records(viommu::fuzz::shape, data, size, most, seed);
}
