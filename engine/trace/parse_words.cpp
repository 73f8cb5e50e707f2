// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/trace/parse_words.hpp"

#include <algorithm>
#include <array>
#include <cstdint>

#include "engine/trace/plug.hpp"
#include "engine/trace/vocabulary.hpp"

namespace viommu::trace {
namespace {

// The types of fields, which every line has in the same way.
std::uint32_t source_id(Fields& fields) noexcept { return static_cast<std::uint32_t>(fields.hex("SID", 16)); }
std::uint32_t pasid(Fields& fields) noexcept {
  return static_cast<std::uint32_t>(fields.hex_or_dash("PASID", 20, no_pasid));
}
std::uint16_t group(Fields& fields) noexcept { return static_cast<std::uint16_t>(fields.hex("GROUP", 12)); }
std::uint64_t count(Fields& fields, std::string_view name, std::uint64_t smallest = 0) noexcept {
  return fields.decimal(name, ~std::uint64_t{0}, smallest);
}
bool is_mmio(Fields& fields) noexcept { return fields.more() && fields.choice("mmio", mmio_word) == 0; }

template <class Choice, std::size_t N>
Choice choose(Fields& fields, std::string_view name, const std::string_view (&words)[N]) noexcept {
  return static_cast<Choice>(fields.choice(name, words));
}

// ---- The machine ----

/// A line of a GPA and a LEN alone.
template <class E>
ParseError parse_range(Fields& fields, Event& event) noexcept {
  E range;
  range.first = fields.hex("GPA", 64);
  range.last = fields.last_of(range.first);
  return finish(fields, range, event);
}

ParseError parse_ram(Fields& fields, Event& event) noexcept {
  RamAdded ram;
  ram.first = fields.hex("GPA", 64);
  ram.last = fields.last_of(ram.first);
  ram.mmio = is_mmio(fields);
  return finish(fields, ram, event);
}

template <Part part>
ParseError parse_part(Fields& fields, Event& event) noexcept {
  PartChanged changed;
  changed.first = fields.hex("GPA", 64);
  changed.last = fields.last_of(changed.first);
  changed.part = part;
  return finish(fields, changed, event);
}

ParseError parse_gone(Fields& fields, Event& event) noexcept {
  RegionGone gone;
  gone.first = fields.hex("GPA", 64);
  gone.last = fields.last_of(gone.first);
  gone.gone = fields.choice("0|1", switches) == 1;
  return finish(fields, gone, event);
}

ParseError parse_mem(Fields& fields, Event& event) noexcept {
  MemoryCheck mem;
  mem.gpa = fields.hex("GPA", 64);
  mem.value = fields.hex("VALUE", 64);
  return finish(fields, mem, event);
}

ParseError parse_ready(Fields& fields, Event& event) noexcept {
  return finish(fields, Ready{fields.take_rest("RESULT")}, event);
}

ParseError parse_reset(Fields& fields, Event& event) noexcept {
  return finish(fields, MachineReset{fields.choice("system|device", resets) == 1}, event);
}

ParseError parse_irte(Fields& fields, Event& event) noexcept {
  RoutesChanged routes;
  routes.first = static_cast<std::uint32_t>(fields.hex("FIRST", 16));
  routes.count = static_cast<std::uint32_t>(fields.hex("COUNT", 20));
  return finish(fields, routes, event);
}

// ---- Devices ----

ParseError parse_bus(Fields& fields, Event& event) noexcept {
  const auto bus = static_cast<std::uint8_t>(fields.hex("BUS", 8));
  static_cast<void>(fields.choice("bypass", bypass_word));
  return finish(fields, BusBypassed{bus}, event);
}

ParseError parse_plug(Fields& fields, Event& event) noexcept {
  constexpr unsigned first_pair = 3;  // behind `plug SID KIND`
  Plug plug;
  plug.source_id = source_id(fields);
  plug.kind = choose<DeviceKind>(fields, "KIND", device_kinds);
  const std::string_view rest = fields.take_rest("RESULT");
  if (fields.error()) return fields.error();
  const std::size_t space = rest.rfind(' ');
  plug.result = space == std::string_view::npos ? rest : rest.substr(space + 1);
  if (space != std::string_view::npos) plug.options = rest.substr(0, space);
  PlugOptions options;
  ParseError error = parse_plug_options(plug.options, options);
  error.field += first_pair;
  if (error) return error;
  // `bypassed` says more than `ok`: that the device does not pass the unit.
  if (plug.result != bypassed_result && !is_result(plug.result))
    return {Problem::bad_choice, first_pair, "RESULT", plug.result};
  event = plug;
  return {};
}

template <class E>
ParseError parse_source(Fields& fields, Event& event) noexcept {
  return finish(fields, E{source_id(fields)}, event);
}

ParseError parse_renumber(Fields& fields, Event& event) noexcept {
  BusRenumbered renumbered;
  renumbered.from = static_cast<std::uint8_t>(fields.hex("OLDBUS", 8));
  renumbered.to = static_cast<std::uint8_t>(fields.hex("NEWBUS", 8));
  return finish(fields, renumbered, event);
}

ParseError parse_view(Fields& fields, Event& event) noexcept {
  ViewCheck check;
  check.source_id = source_id(fields);
  check.view = choose<View>(fields, "system|translated|blocked", views);
  return finish(fields, check, event);
}

ParseError parse_caps(Fields& fields, Event& event) noexcept {
  CapabilitiesCheck check;
  check.capability = fields.hex("CAP", 64);
  check.extended_capability = fields.hex("ECAP", 64);
  return finish(fields, check, event);
}

ParseError parse_dmar(Fields& fields, Event& event) noexcept {
  return finish(fields, WidthCheck{static_cast<std::uint8_t>(fields.hex("WIDTH", 8))}, event);
}

/// A line of one decimal count.
template <class E>
ParseError parse_count_of(Fields& fields, Event& event) noexcept {
  return finish(fields, E{count(fields, "N")}, event);
}

// ---- Consumers ----

/// `mud`, each letter at most once, and words behind a `+` each.
ConsumerFlags consumer_flags(Fields& fields) noexcept {
  const std::string_view field = fields.take("FLAGS");
  ConsumerFlags flags;
  if (fields.error()) return flags;
  struct Word {
    std::string_view text;
    bool* flag;
  };
  const std::array<Word, 8> words{{{"pow2", &flags.pow2},
                                   {"split", &flags.split},
                                   {"leaf", &flags.leaf},
                                   {"noblink", &flags.no_blink},
                                   {"snoop", &flags.snoop},
                                   {"mmio", &flags.mmio},
                                   {"private", &flags.private_memory},
                                   {"log", &flags.log}}};
  std::size_t plus = field.find('+');
  const std::string_view letters = field.substr(0, plus);
  bool right = !letters.empty();
  const auto set = [&right](bool* flag) {
    if (flag == nullptr || *flag)
      right = false;
    else
      *flag = true;
  };
  for (const char letter : letters)
    set(letter == 'm' ? &flags.map : letter == 'u' ? &flags.unmap : letter == 'd' ? &flags.device_unmap : nullptr);
  for (std::string_view rest = field; plus != std::string_view::npos;) {
    rest.remove_prefix(plus + 1);
    plus = rest.find('+');
    const std::string_view text = rest.substr(0, plus);
    const auto* const word = std::find_if(words.begin(), words.end(), [&](const Word& w) { return w.text == text; });
    set(word == words.end() ? nullptr : word->flag);
  }
  if (!right) fields.fail(Problem::bad_choice, "FLAGS", field);
  return flags;
}

ParseError parse_subscribe(Fields& fields, Event& event) noexcept {
  Subscribe subscribe;
  subscribe.id = fields.take("ID");
  subscribe.source_id = source_id(fields);
  subscribe.flags = consumer_flags(fields);
  subscribe.first = fields.hex("FIRST", 64);
  subscribe.last = fields.hex("LAST", 64);
  subscribe.result = fields.result("RESULT");
  return finish(fields, subscribe, event);
}

template <class E>
ParseError parse_id(Fields& fields, Event& event) noexcept {
  return finish(fields, E{fields.take("ID")}, event);
}

/// A line of an ID and a decimal count.
template <class E>
ParseError parse_id_and_count(Fields& fields, Event& event) noexcept {
  E check;
  check.id = fields.take("ID");
  check.count = count(fields, "N");
  return finish(fields, check, event);
}

ParseError parse_failnext(Fields& fields, Event& event) noexcept {
  FailNext fail;
  fail.id = fields.take("ID");
  fail.unmap = fields.choice("map|unmap", operations) == 1;
  fail.nth = count(fields, "N", 1);
  return finish(fields, fail, event);
}

ParseError parse_extent(Fields& fields, Event& event) noexcept {
  ShadowExtent extent;
  extent.first = fields.hex("IOVA", 64);
  extent.last = fields.last_of(extent.first);
  extent.gpa = fields.hex("GPA", 64);
  extent.perm = fields.perm("PERM");
  extent.mmio = is_mmio(fields);
  return finish(fields, extent, event);
}

ParseError parse_delta(Fields& fields, Event& event) noexcept {
  DeltaCheck check;
  check.id = fields.take("ID");
  check.mapped = fields.bytes("MAPPED");
  check.unmapped = fields.bytes("UNMAPPED");
  return finish(fields, check, event);
}

ParseError parse_count(Fields& fields, Event& event) noexcept {
  CountCheck check;
  check.id = fields.take("ID");
  check.maps = fields.hex("MAPS", 64);
  check.unmaps = fields.hex("UNMAPS", 64);
  return finish(fields, check, event);
}

// ---- DMA in flight, saved state, dirty pages, time ----

ParseError parse_hold(Fields& fields, Event& event) noexcept {
  HoldOpened hold;
  hold.id = fields.take("H");
  hold.source_id = source_id(fields);
  hold.pasid = pasid(fields);
  hold.iova = fields.hex("IOVA", 64);
  hold.length = fields.length(hold.iova);
  hold.access = fields.access("ACC");
  hold.ok = fields.choice("ok|fault", outcomes) == 0;
  if (!hold.ok) hold.reason = static_cast<std::uint8_t>(fields.hex("REASON", 8));
  return finish(fields, hold, event);
}

template <StateAction action>
ParseError parse_state(Fields& fields, Event& event) noexcept {
  return finish(fields, StateStep{action, fields.result("RESULT")}, event);
}

ParseError parse_dirty(Fields& fields, Event& event) noexcept {
  return finish(fields, DirtySwitch{fields.choice("on|off", on_off) == 1}, event);
}

ParseError parse_process(Fields& fields, Event& event) noexcept {
  if (!fields.more()) return finish(fields, Process{}, event);
  const bool manual = fields.choice("manual|auto", process_modes) == 0;
  return finish(fields, Process{manual ? ProcessMode::manual : ProcessMode::automatic}, event);
}

ParseError parse_hostpage(Fields& fields, Event& event) noexcept {
  PageRequested page;
  page.source_id = source_id(fields);
  page.pasid = pasid(fields);
  page.iova = fields.hex("IOVA", 64);
  page.access = fields.access("ACC");
  page.group = group(fields);
  page.last = fields.choice("LAST", switches) == 1;
  return finish(fields, page, event);
}

ParseError parse_hostfault(Fields& fields, Event& event) noexcept {
  HostFaulted fault;
  fault.source_id = source_id(fields);
  fault.pasid = pasid(fields);
  fault.iova = fields.hex("IOVA", 64);
  fault.access = fields.access("ACC");
  fault.reason = static_cast<std::uint8_t>(fields.hex("REASON", 8));
  return finish(fields, fault, event);
}

ParseError parse_reply(Fields& fields, Event& event) noexcept {
  PageAnswered reply;
  reply.source_id = source_id(fields);
  reply.pasid = pasid(fields);
  reply.group = group(fields);
  reply.code = static_cast<std::uint8_t>(fields.hex("CODE", 4));
  return finish(fields, reply, event);
}

// ---- Virtio devices, and a virtio-iommu ----

ParseError parse_driver(Fields& fields, Event& event) noexcept {
  DriverChoice choice;
  choice.source_id = source_id(fields);
  choice.accepted = fields.choice("0|1", switches) == 1;
  choice.result = fields.result("RESULT");
  return finish(fields, choice, event);
}

/// A line of a SID and an answer.
template <class E>
ParseError parse_answer_of(Fields& fields, Event& event) noexcept {
  const std::uint32_t source = source_id(fields);
  return finish(fields, E{source, fields.choice("0|1", switches) == 1}, event);
}

ParseError parse_req(Fields& fields, Event& event) noexcept {
  SizedRequest request;
  request.writable_bytes = static_cast<std::uint32_t>(fields.hex("WSIZE", 32));
  request.readable = fields.byte_string("REQ");
  request.written = fields.byte_string("TAIL");
  return finish(fields, request, event);
}

struct Row {
  std::string_view word;
  ParseError (*parse)(Fields&, Event&) noexcept;
};

constexpr Row rows[] = {
    {"ram", parse_ram},
    {"noram", parse_range<RamRemoved>},
    {"discard", parse_part<Part::discarded>},
    {"populate", parse_part<Part::populated>},
    {"private", parse_part<Part::made_private>},
    {"shared", parse_part<Part::made_shared>},
    {"gone", parse_gone},
    {"mem", parse_mem},
    {"ready", parse_ready},
    {"reset", parse_reset},
    {"irte", parse_irte},
    {"bus", parse_bus},
    {"plug", parse_plug},
    {"unset", parse_source<FactsUnset>},
    {"unplug", parse_source<Unplug>},
    {"renumber", parse_renumber},
    {"view", parse_view},
    {"caps", parse_caps},
    {"dmar", parse_dmar},
    {"blockers", parse_count_of<BlockersCheck>},
    {"pins", parse_count_of<PinsCheck>},
    {"subscribe", parse_subscribe},
    {"unsubscribe", parse_id<Unsubscribe>},
    {"failnext", parse_failnext},
    {"shadow", parse_id_and_count<ShadowCheck>},
    {"x", parse_extent},
    {"delta", parse_delta},
    {"count", parse_count},
    {"errors", parse_id_and_count<ErrorsCheck>},
    {"hold", parse_hold},
    {"release", parse_id<HoldReleased>},
    {"quiesce", parse_state<StateAction::quiesce>},
    {"save", parse_state<StateAction::save>},
    {"load", parse_state<StateAction::load>},
    {"dirty", parse_dirty},
    {"bitmap", parse_count_of<BitmapCheck>},
    {"g", parse_range<DirtyRun>},
    {"process", parse_process},
    {"clock", parse_count_of<ClockForward>},
    {"hostpage", parse_hostpage},
    {"hostfault", parse_hostfault},
    {"reply", parse_reply},
    {"driver", parse_driver},
    {"isolatable", parse_answer_of<IsolatableCheck>},
    {"inscope", parse_answer_of<ScopeCheck>},
    {"req", parse_req},
    {"eventbuf", parse_count_of<EventBuffers>},
    {"waiting", parse_count_of<WaitingCheck>},
};

}  // namespace

std::optional<ParseError> parse_word(std::string_view word, Fields fields, Event& event) noexcept {
  const Row* const row = std::find_if(std::begin(rows), std::end(rows), [&](const Row& r) { return r.word == word; });
  if (row == std::end(rows)) return std::nullopt;
  return row->parse(fields, event);
}

}  // namespace viommu::trace
