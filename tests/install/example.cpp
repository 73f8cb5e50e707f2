// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What example.c does, through the C++ header: the same answers by value, everything given back at the end of its
// scope.
#include <array>
#include <cstddef>
#include <cstdint>
#include <iostream>
#include <span>
#include <viommu/viommu.hpp>

namespace {

alignas(4096) std::array<std::array<std::uint64_t, 512>, 8> ram;  // guest memory, at guest-physical address 0

void show(viommu::Reader& reader, std::uint64_t iova) {
  const viommu::Guard guard = reader.guard();
  const viommu_translation found = reader.translate(viommu::request(0x0010, iova, VIOMMU_READ));
  std::cout << std::hex << "0x" << iova;
  if (viommu::allowed(found))
    std::cout << " -> 0x" << found.gpa << '\n';
  else
    std::cout << " is blocked, reason " << std::dec << unsigned{found.reason} << '\n';
}

}  // namespace

int main() {
  viommu_vtd_options options{};
  options.size = sizeof options;
  viommu_host host{};
  host.size = sizeof host;
  auto engine = viommu::Engine::create_vtd(options, host);
  if (!engine) {
    std::cout << engine.error().text << '\n';
    return 1;
  }
  if (engine->add_region(0, std::as_writable_bytes(std::span{ram})) != VIOMMU_OK) return 1;
  auto reader = engine->reader();
  if (!reader) return 1;

  constexpr std::size_t devfn = 0x10;  // 02.0
  ram[1][0] = 0x2000 | 1;              // root entry of bus 0
  ram[2][2 * devfn] = 0x3000 | 1;      // context entry of devfn: second-stage table,
  ram[2][2 * devfn + 1] = 5 << 8 | 1;  //   domain 5, three levels
  ram[3][0] = 0x4000 | 3;
  ram[4][0] = 0x5000 | 3;
  ram[5][7] = 0x6000 | 3;  // 0x7000 is the page at 0x6000
  engine->mmio_write(0x20, 8, 0x1000);
  engine->mmio_write(0x18, 4, 1u << 30);
  engine->mmio_write(0x18, 4, 1u << 31);

  show(*reader, 0x7123);
  show(*reader, 0x8000);
}
