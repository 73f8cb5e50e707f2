// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/trace/event.hpp"

#include <cstddef>

#include "engine/trace/vocabulary.hpp"

namespace viommu::trace {

std::string_view spelling(Source source) noexcept { return sources[static_cast<std::size_t>(source)]; }
std::string_view spelling(Status status) noexcept { return statuses[static_cast<std::size_t>(status)]; }
std::string_view spelling(NotifyKind kind) noexcept { return notify_kinds[static_cast<std::size_t>(kind)]; }

std::string_view spelling(Perm perm) noexcept {
  if (perm.read) return perm.write ? "rw" : "r";
  return perm.write ? "w" : "-";
}

namespace {

struct FirstField {
  std::string_view operator()(const Nothing&) const noexcept { return {}; }
  std::string_view operator()(const Configuration&) const noexcept { return "cfg"; }
  std::string_view operator()(const ReservedRegion&) const noexcept { return "cfg"; }
  std::string_view operator()(const GuestWord&) const noexcept { return "m"; }
  std::string_view operator()(const FailedRead&) const noexcept { return "u"; }
  std::string_view operator()(const MemoryWrite&) const noexcept { return "w"; }
  std::string_view operator()(const FailedWrite&) const noexcept { return "U"; }
  std::string_view operator()(const RegisterWrite&) const noexcept { return "W"; }
  std::string_view operator()(const RegisterRead&) const noexcept { return "R"; }
  std::string_view operator()(const Translate&) const noexcept { return "T"; }
  std::string_view operator()(const Message&) const noexcept { return "I"; }
  std::string_view operator()(const ViewSwitch&) const noexcept { return "S"; }
  std::string_view operator()(const CachesDropped&) const noexcept { return "O"; }
  std::string_view operator()(const Reset&) const noexcept { return "Z"; }
  std::string_view operator()(const Notify&) const noexcept { return "N"; }
  std::string_view operator()(const ReplayAsked&) const noexcept { return "P"; }
  std::string_view operator()(const Interrupt&) const noexcept { return "V"; }
  std::string_view operator()(const Marker&) const noexcept { return "X"; }
  std::string_view operator()(const DriverReady&) const noexcept { return "C"; }
  std::string_view operator()(const BypassChanged&) const noexcept { return "B"; }
  std::string_view operator()(const Request&) const noexcept { return "Q"; }
  std::string_view operator()(const FaultReported&) const noexcept { return "E"; }
  std::string_view operator()(const DriverChoice&) const noexcept { return "driver"; }
  std::string_view operator()(const IsolatableCheck&) const noexcept { return "isolatable"; }
  std::string_view operator()(const ScopeCheck&) const noexcept { return "inscope"; }
  std::string_view operator()(const SizedRequest&) const noexcept { return "req"; }
  std::string_view operator()(const EventBuffers&) const noexcept { return "eventbuf"; }
  std::string_view operator()(const WaitingCheck&) const noexcept { return "waiting"; }
  std::string_view operator()(const RamAdded&) const noexcept { return "ram"; }
  std::string_view operator()(const RamRemoved&) const noexcept { return "noram"; }
  std::string_view operator()(const MemoryCheck&) const noexcept { return "mem"; }
  std::string_view operator()(const Ready&) const noexcept { return "ready"; }
  std::string_view operator()(const MachineReset&) const noexcept { return "reset"; }
  std::string_view operator()(const RoutesChanged&) const noexcept { return "irte"; }
  std::string_view operator()(const RegionGone&) const noexcept { return "gone"; }
  std::string_view operator()(const BusBypassed&) const noexcept { return "bus"; }
  std::string_view operator()(const Plug&) const noexcept { return "plug"; }
  std::string_view operator()(const FactsUnset&) const noexcept { return "unset"; }
  std::string_view operator()(const Unplug&) const noexcept { return "unplug"; }
  std::string_view operator()(const BusRenumbered&) const noexcept { return "renumber"; }
  std::string_view operator()(const ViewCheck&) const noexcept { return "view"; }
  std::string_view operator()(const CapabilitiesCheck&) const noexcept { return "caps"; }
  std::string_view operator()(const WidthCheck&) const noexcept { return "dmar"; }
  std::string_view operator()(const BlockersCheck&) const noexcept { return "blockers"; }
  std::string_view operator()(const Subscribe&) const noexcept { return "subscribe"; }
  std::string_view operator()(const Unsubscribe&) const noexcept { return "unsubscribe"; }
  std::string_view operator()(const FailNext&) const noexcept { return "failnext"; }
  std::string_view operator()(const ShadowCheck&) const noexcept { return "shadow"; }
  std::string_view operator()(const ShadowExtent&) const noexcept { return "x"; }
  std::string_view operator()(const DeltaCheck&) const noexcept { return "delta"; }
  std::string_view operator()(const CountCheck&) const noexcept { return "count"; }
  std::string_view operator()(const ErrorsCheck&) const noexcept { return "errors"; }
  std::string_view operator()(const PinsCheck&) const noexcept { return "pins"; }
  std::string_view operator()(const HoldOpened&) const noexcept { return "hold"; }
  std::string_view operator()(const HoldReleased&) const noexcept { return "release"; }
  std::string_view operator()(const DirtySwitch&) const noexcept { return "dirty"; }
  std::string_view operator()(const BitmapCheck&) const noexcept { return "bitmap"; }
  std::string_view operator()(const DirtyRun&) const noexcept { return "g"; }
  std::string_view operator()(const Process&) const noexcept { return "process"; }
  std::string_view operator()(const ClockForward&) const noexcept { return "clock"; }
  std::string_view operator()(const PageRequested&) const noexcept { return "hostpage"; }
  std::string_view operator()(const HostFaulted&) const noexcept { return "hostfault"; }
  std::string_view operator()(const PageAnswered&) const noexcept { return "reply"; }
  std::string_view operator()(const PartChanged& e) const noexcept { return parts[static_cast<std::size_t>(e.part)]; }
  std::string_view operator()(const StateStep& e) const noexcept {
    return state_actions[static_cast<std::size_t>(e.action)];
  }
  std::string_view operator()(const Unknown& line) const noexcept { return line.word; }
};

}  // namespace

// NOLINTNEXTLINE(bugprone-exception-escape): an event of trivial alternatives is never without a value
std::string_view first_field(const Event& event) noexcept { return std::visit(FirstField{}, event); }

}  // namespace viommu::trace
