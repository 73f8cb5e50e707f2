// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Why one request is translated or blocked, in words and with the words of the tables.
#include "engine/capi/call_guard.hpp"
#include "engine/capi/dump.hpp"
#include "engine/capi/requests.hpp"
#include "engine/vtd/explanation.hpp"
#include "engine/vtd/fault_texts.hpp"

namespace viommu::capi {
namespace {

using vtd::DmaExplanation;

void write_raw(JsonWriter& json, Gpa at, const std::optional<std::uint64_t>& raw) noexcept {
  json.hex("at", at.value);
  if (raw)
    json.hex("value", *raw);
  else
    json.null("value");
}

void write_verdict(JsonWriter& json, FaultReason reason) noexcept {
  json.hex("reason", static_cast<std::uint64_t>(reason));
  if (reason != FaultReason::none) json.text("text", vtd::text_of(reason));
}

void write_page(JsonWriter& json, Gpa gpa, std::uint64_t mask, Rights rights) noexcept {
  json.hex("gpa", gpa.value);
  json.hex("mask", mask);
  write_rights(json, rights);
}

void write_word(JsonWriter& json, const vtd::WordSeen& word) noexcept {
  json.open_object();
  json.text("entry", vtd::name_of(word.table));
  write_raw(json, word.at, word.raw);
  if (word.raw) write_fields(json, "fields", *word.raw, rows_of(word), word.wrong);
  json.close_object();
}

void write_entry(JsonWriter& json, const core::EntrySeen& entry) noexcept {
  json.open_object();
  json.text("entry", core::name_of_level(entry.level));
  json.text("stage", entry.stage == core::Stage::first ? "first" : "second");
  if (entry.for_table) json.boolean("for_table", true);
  write_raw(json, entry.at, entry.raw);
  if (entry.raw) {
    write_fields(json, "fields", *entry.raw, rows_of(entry), entry.wrong);
    switch (entry.kind) {
      case walkers::EntryKind::absent:    json.text("kind", "absent"); break;
      case walkers::EntryKind::malformed: json.text("kind", "malformed"); break;
      case walkers::EntryKind::table:     json.text("kind", "table"); break;
      case walkers::EntryKind::leaf:      json.text("kind", "page"); break;
    }
  }
  if (entry.sets != 0) json.hex("would_set", entry.sets);
  json.close_object();
}

void write_path(JsonWriter& json, std::string_view key, const core::PathSeen& path) noexcept {
  json.open_array(key);
  for (const core::EntrySeen& entry : path.seen()) write_entry(json, entry);
  json.close_array();
}

void write_mode(JsonWriter& json, const DmaExplanation& why) noexcept {
  json.open_object("mode");
  json.boolean("translating", why.translating);
  json.boolean("protected_regions", why.protecting);
  switch (why.mode) {
    case vtd::TableMode::legacy:    json.text("tables", "legacy"); break;
    case vtd::TableMode::scalable:  json.text("tables", "scalable"); break;
    case vtd::TableMode::abort_dma: json.text("tables", "abort-DMA"); break;
    case vtd::TableMode::reserved:  json.text("tables", "none: the root table address is invalid"); break;
  }
  json.hex("root_table", why.root.value);
  json.close_object();
}

struct CachedContext {
  bool is_there = false;
  bool fault_disable = false;
  caches::AddressSpaceKey key{};
};

void write_cache(JsonWriter& json, const DmaExplanation& why, const CachedContext& context) noexcept {
  json.open_object("cache");
  if (context.is_there) {
    json.open_object("context");
    write_space(json, context.key);
    json.boolean("faults_recorded", !context.fault_disable);
    json.close_object();
  } else {
    json.null("context");
  }
  if (why.page) {
    json.open_object("page");
    write_page(json, why.page->gpa, why.page->mask, why.page->rights);
    json.close_object();
  } else {
    json.null("page");
  }
  if (why.table) {
    json.open_object("table");
    json.text("of", core::name_of_level(why.table->level));
    json.hex("at", why.table->table.value);
    write_rights(json, why.table->rights);
    json.close_object();
  } else {
    json.null("table");
  }
  if (why.walked_from_cache) write_path(json, "path", why.path_from_cache);
  json.close_object();
}

void write_tables(JsonWriter& json, const DmaExplanation& why) noexcept {
  json.open_object("tables");
  json.open_array("context");
  for (const vtd::WordSeen& word : why.contexts.seen()) write_word(json, word);
  json.close_array();
  if (why.contexts.fault == FaultReason::none) {
    json.open_object("space");
    write_space(json, why.contexts.key);
    json.close_object();
    write_path(json, "path", why.path);
  }
  json.boolean("faults_recorded", !why.contexts.fault_disable);
  write_verdict(json, why.reason);
  if (why.reason == FaultReason::none) write_page(json, why.path.found.gpa, why.path.found.mask, why.path.found.rights);
  json.close_object();
}

void write_answer(JsonWriter& json, const DmaExplanation& why) noexcept {
  json.open_object("answer");
  switch (why.by) {
    case vtd::AnsweredBy::way:            json.text("by", "way"); break;
    case vtd::AnsweredBy::mode:           json.text("by", "mode"); break;
    case vtd::AnsweredBy::iotlb:          json.text("by", "IOTLB"); break;
    case vtd::AnsweredBy::cached_table:   json.text("by", "cached table"); break;
    case vtd::AnsweredBy::cached_context: json.text("by", "cached context"); break;
    case vtd::AnsweredBy::tables:         json.text("by", "tables"); break;
  }
  switch (why.answer.kind) {
    case vtd::DmaKind::fault:      json.text("kind", "fault"); break;
    case vtd::DmaKind::translated: json.text("kind", "translated"); break;
    case vtd::DmaKind::identity:   json.text("kind", "identity"); break;
    case vtd::DmaKind::interrupt:  json.text("kind", "interrupt"); break;
  }
  if (why.answer.kind != vtd::DmaKind::fault) {
    write_page(json, why.answer.gpa, why.answer.mask, why.answer.rights);
  } else if (why.by == vtd::AnsweredBy::way) {
    json.text("text", "the device must not make requests");
  } else if (why.protected_region) {
    json.text("text", "in a protected memory region");
  } else {
    write_verdict(json, why.answer.reason);
  }
  // Whether the tables say now what a device is answered.
  if (why.walked && !why.protected_region) {
    const bool same =
        why.reason == why.answer.reason && (why.reason != FaultReason::none || why.answer.gpa == why.path.found.gpa);
    json.boolean("as_tables_say", same);
  }
  json.close_object();
}

void write_request(JsonWriter& json, const viommu_request& request) noexcept {
  json.open_object("request");
  write_source(json, request.source);
  if ((request.flags & VIOMMU_HAS_PASID) != 0) json.hex("pasid", request.pasid);
  json.hex("iova", request.iova);
  write_rights(json, Rights::in(request.access));
  json.boolean("privileged", (request.flags & VIOMMU_PRIVILEGED) != 0);
  json.boolean("execute", (request.flags & VIOMMU_EXECUTE) != 0);
  json.boolean("zero_length", (request.flags & VIOMMU_ZERO_LENGTH) != 0);
  json.close_object();
}

}  // namespace

void dump_explanation(const Dump& dump, const viommu_request& request) noexcept {
  DmaExplanation why;
  CachedContext context;
  {
    // A recorder hears of the words that are read.
    const RecordedCall call{dump.engine.recorder.get()};
    const CallGuard guard{dump.engine.waist, dump.reader};
    dump.engine.front.vtd()->dma().explain(dma_request(request), why);
    if (why.context) context = {true, why.context.fault_disable(), why.context.space().key};
  }
  JsonWriter& json = dump.json;
  json.open_object("explanation");
  write_request(json, request);
  write_mode(json, why);
  write_cache(json, why, context);
  if (why.walked) write_tables(json, why);
  write_answer(json, why);
  json.close_object();
}

}  // namespace viommu::capi
