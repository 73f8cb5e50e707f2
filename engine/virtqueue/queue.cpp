// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/virtqueue/queue.hpp"

namespace viommu::virtqueue {

ConfigProblem Queue::load(const Config& config, const State& state) noexcept {
  if (const ConfigProblem problem = problem_of(config); problem != ConfigProblem::none) return problem;
  if (!possible(config, state)) return ConfigProblem::size;
  ring_ = {};
  ring_.config = config;
  ring_.state = state;
  ring_.announced = state.next_available;
  return ConfigProblem::none;
}

bool Queue::notification_due(const Memory& memory) noexcept {
  if (!usable() || ring_.state.unannounced == 0) return false;
  full_fence();  // the driver looks at what was put after it has told its wish: one of both sees the other
  const std::optional<bool> wanted = ring_.config.features.packed ? packed::wants_notification(ring_, memory)
                                                                  : split::wants_notification(ring_, memory);
  ring_.state.unannounced = 0;
  return wanted.value_or(false);
}

bool Queue::listen(const Memory& memory) noexcept {
  if (!usable()) return false;
  return ring_.config.features.packed ? packed::listen(ring_, memory) : split::listen(ring_, memory);
}

bool Queue::hush(const Memory& memory) noexcept {
  if (ring_.listening == Listening::no) return true;  // always, with an event index: the event lies behind
  return ring_.config.features.packed ? packed::hush(ring_, memory) : split::hush(ring_, memory);
}

}  // namespace viommu::virtqueue
