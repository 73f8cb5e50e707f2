// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The fields behind the word of a scenario's line.
#pragma once

#include "engine/trace/line_out.hpp"
#include "engine/trace/scenario_words.hpp"

namespace viommu::trace {

void write_fields(LineOut& out, const RamAdded& e) noexcept;
void write_fields(LineOut& out, const RamRemoved& e) noexcept;
void write_fields(LineOut& out, const MemoryCheck& e) noexcept;
void write_fields(LineOut& out, const PartChanged& e) noexcept;
void write_fields(LineOut& out, const RegionGone& e) noexcept;
void write_fields(LineOut& out, const Ready& e) noexcept;
void write_fields(LineOut& out, const MachineReset& e) noexcept;
void write_fields(LineOut& out, const RoutesChanged& e) noexcept;
void write_fields(LineOut& out, const BusBypassed& e) noexcept;
void write_fields(LineOut& out, const Plug& e) noexcept;
void write_fields(LineOut& out, const FactsUnset& e) noexcept;
void write_fields(LineOut& out, const Unplug& e) noexcept;
void write_fields(LineOut& out, const BusRenumbered& e) noexcept;
void write_fields(LineOut& out, const Subscribe& e) noexcept;
void write_fields(LineOut& out, const Unsubscribe& e) noexcept;
void write_fields(LineOut& out, const FailNext& e) noexcept;
void write_fields(LineOut& out, const ShadowCheck& e) noexcept;
void write_fields(LineOut& out, const ShadowExtent& e) noexcept;
void write_fields(LineOut& out, const DeltaCheck& e) noexcept;
void write_fields(LineOut& out, const CountCheck& e) noexcept;
void write_fields(LineOut& out, const ErrorsCheck& e) noexcept;
void write_fields(LineOut& out, const PinsCheck& e) noexcept;
void write_fields(LineOut& out, const ViewCheck& e) noexcept;
void write_fields(LineOut& out, const CapabilitiesCheck& e) noexcept;
void write_fields(LineOut& out, const WidthCheck& e) noexcept;
void write_fields(LineOut& out, const BlockersCheck& e) noexcept;
void write_fields(LineOut& out, const HoldOpened& e) noexcept;
void write_fields(LineOut& out, const HoldReleased& e) noexcept;
void write_fields(LineOut& out, const StateStep& e) noexcept;
void write_fields(LineOut& out, const DirtySwitch& e) noexcept;
void write_fields(LineOut& out, const BitmapCheck& e) noexcept;
void write_fields(LineOut& out, const DirtyRun& e) noexcept;
void write_fields(LineOut& out, const Process& e) noexcept;
void write_fields(LineOut& out, const ClockForward& e) noexcept;
void write_fields(LineOut& out, const PageRequested& e) noexcept;
void write_fields(LineOut& out, const HostFaulted& e) noexcept;
void write_fields(LineOut& out, const PageAnswered& e) noexcept;
void write_fields(LineOut& out, const DriverChoice& e) noexcept;
void write_fields(LineOut& out, const IsolatableCheck& e) noexcept;
void write_fields(LineOut& out, const ScopeCheck& e) noexcept;
void write_fields(LineOut& out, const SizedRequest& e) noexcept;
void write_fields(LineOut& out, const EventBuffers& e) noexcept;
void write_fields(LineOut& out, const WaitingCheck& e) noexcept;

}  // namespace viommu::trace
