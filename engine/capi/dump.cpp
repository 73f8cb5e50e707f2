// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// viommu_dump(): its options, and what its sections share.
#include "engine/capi/dump.hpp"

#include <array>
#include <cstddef>

#include "engine/base/atomic.hpp"
#include "engine/capi/call_guard.hpp"
#include "engine/capi/requests.hpp"
#include "engine/capi/sized.hpp"

namespace viommu::capi {

void write_fields(JsonWriter& json, std::string_view key, std::uint64_t raw, std::span<const Row> rows,
                  std::uint64_t wrong) noexcept {
  json.open_object(key);
  for (const Row& row : rows) {
    const std::uint64_t value = row.value_in(raw);
    const bool is_wrong = (raw & row.mask() & wrong) != 0;
    if (!is_wrong && (row.rule == Rule::ignored || row.rule == Rule::reserved)) continue;
    if (row.rule != Rule::reserved) json.hex(row.name, value);
  }
  json.close_object();
  if (wrong != 0) json.hex("must_be_zero", wrong);
}

void write_source(JsonWriter& json, std::uint16_t source) noexcept {
  const auto digit = [=](unsigned shift, unsigned mask) { return "0123456789abcdef"[source >> shift & mask]; };
  const std::array text{digit(12, 15), digit(8, 15), ':', digit(7, 1), digit(3, 15), '.', digit(0, 7)};
  json.text("source", {text.data(), text.size()});
}

void write_rights(JsonWriter& json, Rights rights) noexcept {
  json.text("rights", rights.read() ? (rights.write() ? "rw" : "r-") : (rights.write() ? "-w" : "--"));
}

void write_space(JsonWriter& json, const caches::AddressSpaceKey& key) noexcept {
  using caches::Interpretation;
  json.hex("domain", key.domain.value);
  switch (key.interpretation) {
    case Interpretation::second_stage: json.text("interpretation", "second stage"); break;
    case Interpretation::pass_through: json.text("interpretation", "pass-through"); break;
    case Interpretation::first_stage:  json.text("interpretation", "first stage"); break;
    case Interpretation::nested:       json.text("interpretation", "nested"); break;
    case Interpretation::mappings:     json.text("interpretation", "mappings"); break;
  }
  json.hex("last", key.last.value);
  if (key.interpretation != Interpretation::pass_through) {
    json.hex("root", key.root.value);
    json.number("levels", key.top_level + std::uint64_t{1});
  }
  if (key.interpretation == Interpretation::nested) {
    json.hex("second_root", key.second_root.value);
    json.number("second_levels", key.second_top_level + std::uint64_t{1});
    json.number("second_width", key.second_width);
  }
  if (!key.pasid) return;
  json.hex("entry_pasid", key.pasid->value);
  json.open_array("flags");
  if (key.flags.privileged) json.text({}, "privileged");
  if (key.flags.write_protect) json.text({}, "WPE");
  if (key.flags.extended_accessed) json.text({}, "EAFE");
  if (key.flags.second_flags) json.text({}, "SSADE");
  if (!key.flags.snooped) json.text({}, "walks not snooped");
  json.close_array();
}

namespace {

constexpr std::uint32_t without_request =
    VIOMMU_DUMP_REGISTERS | VIOMMU_DUMP_CONTEXTS | VIOMMU_DUMP_WORK | VIOMMU_DUMP_HOLDERS;
constexpr std::uint32_t with_request = VIOMMU_DUMP_CACHE | VIOMMU_DUMP_EXPLAIN;
constexpr std::uint32_t default_lines = 1024;
constexpr std::uint32_t most_lines = 65536;
constexpr std::size_t least_size = offsetof(viommu_dump_options, write) + sizeof(viommu_dump_options::write);

void write_document(const Dump& dump, std::uint32_t sections, const viommu_request& request) noexcept {
  JsonWriter& json = dump.json;
  json.open_object();
  json.text("viommu", viommu_version());
  const bool is_unit = dump.engine.front.vtd() != nullptr;
  if ((sections & VIOMMU_DUMP_REGISTERS) != 0) is_unit ? dump_registers(dump) : dump_device(dump);
  if ((sections & VIOMMU_DUMP_CONTEXTS) != 0) dump_contexts(dump);
  if ((sections & VIOMMU_DUMP_CACHE) != 0) dump_cache(dump, request);
  if ((sections & VIOMMU_DUMP_WORK) != 0 && is_unit) dump_work(dump);
  if ((sections & VIOMMU_DUMP_HOLDERS) != 0) dump_holders(dump);
  if ((sections & VIOMMU_DUMP_EXPLAIN) != 0) is_unit ? dump_explanation(dump, request) : dump_path(dump, request);
  json.close_object();
  json.flush();
}

}  // namespace
}  // namespace viommu::capi

extern "C" {

viommu_result viommu_dump(viommu_engine* engine, const viommu_dump_options* options) {
  using namespace viommu::capi;
  viommu_dump_options known;
  if (engine == nullptr || options == nullptr || take_over(*options, known, least_size) != Taken::ok ||
      known.write == nullptr)
    return VIOMMU_E_ARGUMENT;
  const std::uint32_t sections = known.sections != 0 ? known.sections : without_request;
  if ((sections & ~(without_request | with_request)) != 0 || known.most > most_lines) return VIOMMU_E_ARGUMENT;
  if ((sections & with_request) != 0 && !makes_sense(known.request)) return VIOMMU_E_ARGUMENT;
  if (engine->host.calling()) return VIOMMU_E_BUSY;
  viommu::core::Reader* const reader = engine->waist.take_transient_reader();
  if (reader == nullptr) return VIOMMU_E_BUSY;
  {
    JsonWriter json{known.write, known.opaque};
    write_document({*engine, json, *reader, known.most != 0 ? known.most : default_lines}, sections, known.request);
  }
  engine->waist.put_reader(*reader);
  return VIOMMU_OK;
}

}  // extern "C"
