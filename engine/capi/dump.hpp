// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The sections of viommu_dump(). Each copies a slice of what it shows, under the lock or the guard that it needs, and
// writes it when it holds neither: the sink may take its time.
#pragma once

#include <viommu/viommu.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "caches/address_spaces.hpp"
#include "caches/context_entry.hpp"
#include "engine/base/access.hpp"
#include "engine/base/bits.hpp"
#include "engine/capi/engine.hpp"
#include "engine/capi/json_writer.hpp"
#include "engine/core/reader.hpp"

namespace viommu::capi {

/// What the sections need to know.
struct Dump {
  viommu_engine& engine;
  JsonWriter& json;
  core::Reader& reader;  ///< for guards
  std::uint32_t most;    ///< lines of a list
};

void dump_registers(const Dump& dump) noexcept;
/// The same of a virtio-iommu: features, configuration, domains and who is in them.
void dump_device(const Dump& dump) noexcept;
void dump_contexts(const Dump& dump) noexcept;
/// What is cached for the source of a request, or its PASID.
void dump_cache(const Dump& dump, const viommu_request& request) noexcept;
/// Commands, waits, the queue, removed regions.
void dump_work(const Dump& dump) noexcept;
void dump_holders(const Dump& dump) noexcept;
void dump_explanation(const Dump& dump, const viommu_request& request) noexcept;
/// The same of a virtio-iommu.
void dump_path(const Dump& dump, const viommu_request& request) noexcept;

// What several of them write.
/// The cells of a word that say something; with the bits that must be zero and are not.
void write_fields(JsonWriter& json, std::string_view key, std::uint64_t raw, std::span<const Row> rows,
                  std::uint64_t wrong = 0) noexcept;
void write_source(JsonWriter& json, std::uint16_t source) noexcept;
void write_rights(JsonWriter& json, Rights rights) noexcept;
/// An address space, into the object that is open.
void write_space(JsonWriter& json, const caches::AddressSpaceKey& key) noexcept;

}  // namespace viommu::capi
