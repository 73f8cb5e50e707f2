// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/trace/format_words.hpp"

#include <cstddef>
#include <string_view>

#include "engine/trace/vocabulary.hpp"

namespace viommu::trace {

void write_fields(LineOut& out, const RamAdded& e) noexcept {
  out.hex(e.first).length(e.first, e.last);
  if (e.mmio) out.word("mmio");
}
void write_fields(LineOut& out, const RamRemoved& e) noexcept { out.hex(e.first).length(e.first, e.last); }
void write_fields(LineOut& out, const MemoryCheck& e) noexcept { out.hex(e.gpa).hex(e.value); }
void write_fields(LineOut& out, const PartChanged& e) noexcept { out.hex(e.first).length(e.first, e.last); }
void write_fields(LineOut& out, const RegionGone& e) noexcept {
  out.hex(e.first).length(e.first, e.last).word(switches[e.gone ? 1 : 0]);
}
void write_fields(LineOut& out, const Ready& e) noexcept { out.word(e.results); }
void write_fields(LineOut& out, const MachineReset& e) noexcept { out.word(resets[e.device ? 1 : 0]); }
void write_fields(LineOut& out, const RoutesChanged& e) noexcept { out.hex(e.first).hex(e.count); }
void write_fields(LineOut& out, const BusBypassed& e) noexcept { out.hex(e.bus).word("bypass"); }
void write_fields(LineOut& out, const Plug& e) noexcept {
  out.hex(e.source_id).word(device_kinds[static_cast<std::size_t>(e.kind)]);
  if (!e.options.empty()) out.word(e.options);
  out.word(e.result);
}
void write_fields(LineOut& out, const FactsUnset& e) noexcept { out.hex(e.source_id); }
void write_fields(LineOut& out, const Unplug& e) noexcept { out.hex(e.source_id); }
void write_fields(LineOut& out, const BusRenumbered& e) noexcept { out.hex(e.from).hex(e.to); }
void write_fields(LineOut& out, const Subscribe& e) noexcept {
  out.word(e.id).hex(e.source_id).word({});
  const auto flag = [&out](bool set, std::string_view text) {
    if (set) out.append(text);
  };
  flag(e.flags.map, "m");
  flag(e.flags.unmap, "u");
  flag(e.flags.device_unmap, "d");
  flag(e.flags.pow2, "+pow2");
  flag(e.flags.split, "+split");
  flag(e.flags.leaf, "+leaf");
  flag(e.flags.no_blink, "+noblink");
  flag(e.flags.snoop, "+snoop");
  flag(e.flags.mmio, "+mmio");
  flag(e.flags.private_memory, "+private");
  flag(e.flags.log, "+log");
  out.hex(e.first).hex(e.last).word(e.result);
}
void write_fields(LineOut& out, const Unsubscribe& e) noexcept { out.word(e.id); }
void write_fields(LineOut& out, const FailNext& e) noexcept {
  out.word(e.id).word(operations[e.unmap ? 1 : 0]).decimal(e.nth);
}
void write_fields(LineOut& out, const ShadowCheck& e) noexcept { out.word(e.id).decimal(e.count); }
void write_fields(LineOut& out, const ShadowExtent& e) noexcept {
  out.hex(e.first).length(e.first, e.last).hex(e.gpa).word(spelling(e.perm));
  if (e.mmio) out.word("mmio");
}
void write_fields(LineOut& out, const DeltaCheck& e) noexcept { out.word(e.id).bytes(e.mapped).bytes(e.unmapped); }
void write_fields(LineOut& out, const CountCheck& e) noexcept { out.word(e.id).hex(e.maps).hex(e.unmaps); }
void write_fields(LineOut& out, const ErrorsCheck& e) noexcept { out.word(e.id).decimal(e.count); }
void write_fields(LineOut& out, const PinsCheck& e) noexcept { out.decimal(e.pages); }
void write_fields(LineOut& out, const ViewCheck& e) noexcept {
  out.hex(e.source_id).word(views[static_cast<std::size_t>(e.view)]);
}
void write_fields(LineOut& out, const CapabilitiesCheck& e) noexcept {
  out.hex(e.capability).hex(e.extended_capability);
}
void write_fields(LineOut& out, const WidthCheck& e) noexcept { out.hex(e.width); }
void write_fields(LineOut& out, const BlockersCheck& e) noexcept { out.decimal(e.count); }
void write_fields(LineOut& out, const HoldOpened& e) noexcept {
  out.word(e.id).hex(e.source_id).pasid(e.pasid).hex(e.iova).hex(e.length).access(e.access);
  out.word(outcomes[e.ok ? 0 : 1]);
  if (!e.ok) out.hex(e.reason);
}
void write_fields(LineOut& out, const HoldReleased& e) noexcept { out.word(e.id); }
void write_fields(LineOut& out, const StateStep& e) noexcept { out.word(e.result); }
void write_fields(LineOut& out, const DirtySwitch& e) noexcept { out.word(on_off[e.on ? 1 : 0]); }
void write_fields(LineOut& out, const BitmapCheck& e) noexcept { out.decimal(e.count); }
void write_fields(LineOut& out, const DirtyRun& e) noexcept { out.hex(e.first).length(e.first, e.last); }
void write_fields(LineOut& out, const Process& e) noexcept {
  if (e.mode != ProcessMode::once) out.word(process_modes[e.mode == ProcessMode::manual ? 0 : 1]);
}
void write_fields(LineOut& out, const ClockForward& e) noexcept { out.decimal(e.milliseconds); }
void write_fields(LineOut& out, const PageRequested& e) noexcept {
  out.hex(e.source_id).pasid(e.pasid).hex(e.iova).access(e.access).hex(e.group).word(switches[e.last ? 1 : 0]);
}
void write_fields(LineOut& out, const HostFaulted& e) noexcept {
  out.hex(e.source_id).pasid(e.pasid).hex(e.iova).access(e.access).hex(e.reason);
}
void write_fields(LineOut& out, const PageAnswered& e) noexcept {
  out.hex(e.source_id).pasid(e.pasid).hex(e.group).hex(e.code);
}
void write_fields(LineOut& out, const DriverChoice& e) noexcept {
  out.hex(e.source_id).word(switches[e.accepted ? 1 : 0]).word(e.result);
}
void write_fields(LineOut& out, const IsolatableCheck& e) noexcept {
  out.hex(e.source_id).word(switches[e.isolatable ? 1 : 0]);
}
void write_fields(LineOut& out, const ScopeCheck& e) noexcept {
  out.hex(e.source_id).word(switches[e.in_scope ? 1 : 0]);
}
void write_fields(LineOut& out, const SizedRequest& e) noexcept {
  out.hex(e.writable_bytes).byte_string(e.readable).byte_string(e.written);
}
void write_fields(LineOut& out, const EventBuffers& e) noexcept { out.decimal(e.count); }
void write_fields(LineOut& out, const WaitingCheck& e) noexcept { out.decimal(e.count); }

}  // namespace viommu::trace
