// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Property: whatever the driver of a virtio-iommu asks for through rings in its memory or as bytes, and whatever the
// VMM plugs, maps, moves and resets meanwhile, the device answers as its model does: every byte of a reply and of a
// report, what each endpoint sees, what each consumer holds. No request is answered while somebody may still use what
// it took away; nothing is lost and nothing hangs; a device that was saved goes on elsewhere as the same one.
//
//   head: features, sizes, two of the VMM's options     record: an operation, and what a request's record has
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include "fuzz/support/input.hpp"
#include "fuzz/support/records.hpp"
#include "fuzz/support/target.hpp"
#include "fuzz/support/virtio_grammar.hpp"
#include "fuzz/virtio_device/guest.hpp"
#include "fuzz/virtio_device/setup.hpp"
#include "fuzz/virtio_device/world.hpp"

namespace viommu::fuzz::virtio_device {
namespace {

constexpr std::array<Cell, 14> cells{{{0, 1},
                                      {1, 1},
                                      {2, 1},
                                      {3, 1},
                                      {4, 1},
                                      {5, 8},
                                      {13, 8},
                                      {21, 8},
                                      {29, 1},
                                      {30, 2},
                                      {34, 1},
                                      {35, 1},
                                      {36, 1},
                                      {5, 1}}};
constexpr auto values = [] {
  constexpr std::array<std::uint64_t, 8> more{0x1000'0000, 0x1008'0000, 0x4FFF'F000,   0x500F'F000,
                                              0x6000'0000, 0x10'2000,   0x1'0000'0000, 0x1'3FFF'F000};
  std::array<std::uint64_t, virtio_values.size() + more.size()> all{};
  std::ranges::copy(more, std::ranges::copy(virtio_values, all.begin()).out);
  return all;
}();
constexpr RecordShape shape{head_bytes, World::record_bytes, cells, values};

}  // namespace
}  // namespace viommu::fuzz::virtio_device

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace viommu::fuzz::virtio_device;
  using viommu::fuzz::Input;
  static Guest guest;
  Input input{data, size};
  World world{guest, take_setup(input)};
  world.run(input);
  return 0;
}

std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t most, unsigned seed) {
  return viommu::fuzz::mutate_records(viommu::fuzz::virtio_device::shape, data, size, most, seed);
}
