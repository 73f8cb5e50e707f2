// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The steps from options to an engine, whatever its front end.
#pragma once

#include <viommu/viommu.h>

#include <cstddef>
#include <cstdio>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>

#include "engine/capi/engine.hpp"
#include "engine/capi/recorder.hpp"

namespace viommu::capi {

struct ErrorText {
  char* text = nullptr;
  std::size_t size = 0;
};

/// @param read        viommu_result(const viommu_host&, const HostAllocator&, Settings&): fills them in
/// @param options_of  what of them the front end is made with
/// @param set_up      bool(viommu_engine&, const Settings&): false when the host has no memory
template <class Read, class OptionsOf, class SetUp>
[[nodiscard]] viommu_result create(const ErrorText& error, const viommu_host* host, viommu_engine** engine,
                                   const Read& read, const OptionsOf& options_of, const SetUp& set_up) noexcept {
  if (error.text != nullptr && error.size != 0) error.text[0] = '\0';
  if (host == nullptr || engine == nullptr) return VIOMMU_E_ARGUMENT;
  *engine = nullptr;
  viommu_host known;
  if (const viommu_result taken = read_host(*host, known, error.text, error.size); taken != VIOMMU_OK) return taken;
  core::HostFunctions functions = functions_of(known);
  if ((functions.allocator.allocate == nullptr) != (functions.allocator.deallocate == nullptr))
    return VIOMMU_E_ARGUMENT;
  Settings settings;
  if (const viommu_result done = read(known, functions.allocator, settings); done != VIOMMU_OK) return done;
  if (settings.fault_limit != 0 && known.now_ns == nullptr) {
    if (error.text != nullptr && error.size != 0)
      std::snprintf(error.text, error.size, "options.fault_limit: needs host.now_ns");
    return VIOMMU_E_ARGUMENT;
  }
  std::unique_ptr<Recorder> recorder;
  if (known.record != nullptr) {
    recorder.reset(new (std::nothrow) Recorder{known.record, known.opaque});
    if (recorder == nullptr) return VIOMMU_E_MEMORY;
    // What a virtio-iommu reads and writes are its queues, and a trace has what is in them.
    if constexpr (std::is_same_v<decltype(options_of(settings)), const VtdSettings&>) recorder->attach(functions);
  }
  void* const memory = functions.allocator.get(sizeof(viommu_engine), alignof(viommu_engine));
  if (memory == nullptr) return VIOMMU_E_MEMORY;
  auto* const created = new (memory) viommu_engine{settings, options_of(settings), functions, std::move(recorder)};
  if (!created->waist.reset() || !set_up(*created, settings)) {
    created->~viommu_engine();
    functions.allocator.put(memory, sizeof(viommu_engine), alignof(viommu_engine));
    return VIOMMU_E_MEMORY;
  }
  *engine = created;
  return VIOMMU_OK;
}

}  // namespace viommu::capi
