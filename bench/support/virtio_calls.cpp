// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "bench/support/virtio_calls.hpp"

#include <cstddef>
#include <stdexcept>
#include <string>
#include <utility>

namespace viommu::bench {
namespace {

using virtio_iommu::RequestType;
using virtio_iommu::Status;

void succeed(viommu_result result, const char* what) {
  if (result != VIOMMU_OK) throw std::runtime_error{std::string{what} + ": " + viommu_result_text(result)};
}

[[nodiscard]] Engine create_engine() {
  viommu_host host{};
  host.size = sizeof host;
  host.memory_read = [](void*, std::uint64_t, void*, std::uint64_t) -> std::int32_t { return -1; };
  viommu_virtio_options options{};
  options.size = sizeof options;
  auto engine = Engine::create_virtio(options, host);
  if (!engine) throw std::runtime_error{"the engine was refused: " + engine.error().text};
  return *std::move(engine);
}

[[nodiscard]] Reader create_reader(Engine& engine) {
  auto reader = engine.reader();
  if (!reader) throw std::runtime_error{"the reader was refused"};
  return *std::move(reader);
}

}  // namespace

VirtioCalls::VirtioCalls() : engine_{create_engine()} {
  viommu_device device{};
  device.size = sizeof device;
  device.source = source;
  succeed(engine_.add_device(device).code, "the device");
  succeed(engine_.ready(), "ready");
  std::uint64_t offered = 0;
  succeed(viommu_virtio_features(engine_.get(), &offered), "features");
  succeed(viommu_virtio_negotiate(engine_.get(), offered), "negotiate");
  if (!ask(virtio_iommu::AttachLayout{{RequestType::attach, {}}, domain, source, {}, {}, {}}))
    throw std::runtime_error{"the ATTACH was refused"};
}

template <class Layout>
bool VirtioCalls::ask(const Layout& request) {
  virtio_iommu::RequestTail reply{Status::device_error, {}};
  std::uint32_t used = 0;
  viommu_result result = VIOMMU_E_BUSY;
  // The answer waits for guards: a thread may be in one.
  while (result == VIOMMU_E_BUSY)
    result = viommu_virtio_request(engine_.get(), &request, offsetof(Layout, tail), &reply, sizeof reply, &used);
  return result == VIOMMU_OK && used == sizeof reply && reply.status == Status::ok;
}

bool VirtioCalls::map(std::uint64_t first, std::uint64_t last, std::uint64_t gpa) {
  using namespace virtio_iommu;
  constexpr MapFlags flags = with(with(MapFlags{}, map_flags::read, true), map_flags::write, true);
  return ask(MapLayout{{RequestType::map, {}}, domain, first, last, gpa, flags, {}});
}

bool VirtioCalls::unmap(std::uint64_t first, std::uint64_t last) {
  return ask(virtio_iommu::UnmapLayout{{RequestType::unmap, {}}, domain, first, last, {}, {}});
}

VirtioCalls::Port::Port(VirtioCalls& calls, std::size_t /*thread*/) : reader_{create_reader(calls.engine_)} {}

}  // namespace viommu::bench
