// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What is cached. A guard is enough to look at it: entries are words that are whole, and an address space that one of
// them leads to stays what it is until the guard ends.
#include <array>
#include <optional>

#include "engine/capi/call_guard.hpp"
#include "engine/capi/dump.hpp"
#include "engine/capi/requests.hpp"

namespace viommu::capi {
namespace {

/// One context, copied out of its guard.
struct ContextLine {
  std::uint16_t source = 0;
  std::optional<Pasid> pasid;
  bool privileged = false;  ///< of the requests
  bool fault_disable = false;
  bool device_tlb = false;
  caches::AddressSpaceKey key{};

  void take(caches::ContextEntry entry) noexcept {
    fault_disable = entry.fault_disable();
    device_tlb = entry.device_tlb();
    key = entry.space().key;
  }
};

void write_line(JsonWriter& json, const ContextLine& line) noexcept {
  json.open_object();
  write_source(json, line.source);
  json.hex("id", line.source);
  if (line.pasid) json.hex("pasid", line.pasid->value);
  if (line.pasid) json.boolean("privileged", line.privileged);
  write_space(json, line.key);
  json.boolean("faults_recorded", !line.fault_disable);
  json.boolean("device_tlb", line.device_tlb);
  json.close_object();
}

/// An array of the lines that `look(i, line)` has something for, i in [0, count), some of them in one guard.
template <class Look>
void write_list(const Dump& dump, std::string_view name, std::size_t count, const Look& look) noexcept {
  constexpr std::size_t most_looks = 4096;  // in one guard
  std::array<ContextLine, 32> lines;
  std::uint32_t left = dump.most;
  bool truncated = false;
  dump.json.open_array(name);
  for (std::size_t i = 0; i < count && !truncated;) {
    std::size_t found = 0;
    {
      const CallGuard guard{dump.engine.waist, dump.reader};
      const std::size_t end = std::min(count, i + most_looks);
      for (; i < end && found != lines.size(); ++i)
        if (look(i, lines[found])) ++found;
    }
    for (std::size_t at = 0; at < found && !truncated; ++at) {
      truncated = left == 0;
      if (truncated) break;
      write_line(dump.json, lines[at]);
      --left;
    }
  }
  dump.json.close_array();
  dump.json.boolean("truncated", truncated);
}

/// One page of the IOTLB, or pages that go on alike.
struct PageLine {
  Iova first;
  Gpa gpa;
  std::uint64_t bytes = 0;
  Rights rights;
};

/// Pages of one address space, group by group, each in its guard.
class PageLines {
 public:
  PageLines(const Dump& dump, const vtd::DmaRequest& request) noexcept : dump_{dump}, request_{request} {}

  void write() noexcept {
    JsonWriter& json = dump_.json;
    json.open_array("pages");
    std::size_t groups = 1;
    for (std::size_t group = 0; group < groups && !truncated_;) {
      std::size_t count = 0;
      {
        const CallGuard guard{dump_.engine.waist, dump_.reader};
        const caches::ContextEntry context = dump_.engine.front.cached_context(dump_.engine.waist, request_);
        if (!context) break;  // it was dropped meanwhile
        const caches::AddressSpace& space = context.space();
        groups = dump_.engine.waist.peek_groups(space);
        // Groups are small beside a guard, and mostly empty.
        constexpr std::size_t in_one_guard = 64;
        const std::size_t end = std::min(groups, group + in_one_guard);
        for (; group < end && count == 0; ++group) count = dump_.engine.waist.peek_group(space, group, entries_);
        key_ = space.key;
      }
      for (std::size_t i = 0; i < count && !truncated_; ++i) write_entry(entries_[i]);
    }
    json.close_array();
    json.boolean("truncated", truncated_);
  }

 private:
  void write_entry(const caches::CachedEntry& entry) noexcept {
    for (unsigned page = 0; page < caches::pages_per_block;) {
      const caches::CachedEntry::Run run = entry.run_from(page);
      if (run.bytes == 0) return;
      write_line({{unfolded(run.first.value)}, run.gpa, run.bytes, entry.page.rights});
      if (truncated_) return;
      page = static_cast<unsigned>((run.first.value + run.bytes - entry.first.value) >> page_shift);
      if (entry.page.size != caches::PageSize::kib32) return;
    }
  }
  void write_line(const PageLine& line) noexcept {
    truncated_ = written_ == dump_.most;
    if (truncated_) return;
    ++written_;
    JsonWriter& json = dump_.json;
    json.open_object();
    json.hex("iova", line.first.value);
    json.hex("gpa", line.gpa.value);
    json.hex("size", line.bytes);
    write_rights(json, line.rights);
    json.close_object();
  }
  /// The upper half of canonical addresses is cached without the copies of its highest bit.
  [[nodiscard]] std::uint64_t unfolded(std::uint64_t address) const noexcept {
    return key_.has_first_stage() && address > key_.last.value ? address | ~key_.last.value : address;
  }

  const Dump& dump_;
  const vtd::DmaRequest& request_;
  core::Waist::GroupEntries entries_{};
  caches::AddressSpaceKey key_{};
  std::uint32_t written_ = 0;
  bool truncated_ = false;
};

}  // namespace

void dump_contexts(const Dump& dump) noexcept {
  const core::Waist& waist = dump.engine.waist;
  constexpr std::size_t sources = 65536;
  dump.json.open_object("contexts");
  write_list(dump, "by_source", sources, [&](std::size_t i, ContextLine& line) {
    const auto source = static_cast<std::uint16_t>(i);
    const caches::ContextEntry entry = waist.find_context(SourceId{source});
    if (!entry) return false;
    line = {};
    line.source = source;
    line.take(entry);
    return true;
  });
  dump.json.open_object("pasids");
  write_list(dump, "list", waist.cached_pasids().places(), [&](std::size_t i, ContextLine& line) {
    const auto held = waist.cached_pasids().held_at(i);
    if (!held) return false;
    line = {};
    line.source = held->key.source.value;
    line.pasid = held->key.pasid;
    line.privileged = held->key.privileged;
    line.take(held->entry);
    return true;
  });
  dump.json.close_object();
  dump.json.close_object();
}

void dump_cache(const Dump& dump, const viommu_request& request) noexcept {
  const vtd::DmaRequest asked = dma_request(request);
  ContextLine line;
  bool is_cached = false;
  {
    const CallGuard guard{dump.engine.waist, dump.reader};
    if (const caches::ContextEntry entry = dump.engine.front.cached_context(dump.engine.waist, asked); entry) {
      is_cached = true;
      line.source = request.source;
      if (asked.has_pasid) line.pasid = asked.pasid;
      line.privileged = asked.privileged;
      line.take(entry);
    }
  }
  JsonWriter& json = dump.json;
  json.open_object("cache");
  json.open_array("context");
  if (is_cached) write_line(json, line);
  json.close_array();
  PageLines{dump, asked}.write();
  json.close_object();
}

}  // namespace viommu::capi
