// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The words of scenarios, as event.hpp has the letters. A RESULT is `ok` or the name of an error, with `:FIELD` where
// the field is part of the answer.
#pragma once

#include <cstdint>
#include <string_view>

#include "engine/trace/access.hpp"

namespace viommu::trace {

// ---- The machine ----

/// `ram GPA LEN [mmio]`; `last` is inclusive because LEN may be 2^64.
struct RamAdded {
  std::uint64_t first = 0;
  std::uint64_t last = 0;
  bool mmio = false;
  friend constexpr bool operator==(const RamAdded&, const RamAdded&) = default;
};

/// `noram GPA LEN`.
struct RamRemoved {
  std::uint64_t first = 0;
  std::uint64_t last = 0;
  friend constexpr bool operator==(const RamRemoved&, const RamRemoved&) = default;
};

/// What became of a part of a region.
enum class Part : std::uint8_t { discarded, populated, made_private, made_shared };

/// `discard`, `populate`, `private` or `shared`, and `GPA LEN`.
struct PartChanged {
  std::uint64_t first = 0;
  std::uint64_t last = 0;
  Part part = Part::discarded;
  friend constexpr bool operator==(const PartChanged&, const PartChanged&) = default;
};

/// `gone GPA LEN 0|1`: whether the host was told that nothing reaches it any more.
struct RegionGone {
  std::uint64_t first = 0;
  std::uint64_t last = 0;
  bool gone = false;
  friend constexpr bool operator==(const RegionGone&, const RegionGone&) = default;
};

/// `mem GPA VALUE`: the 8-byte word at GPA must be VALUE.
struct MemoryCheck {
  std::uint64_t gpa = 0;
  std::uint64_t value = 0;
  friend constexpr bool operator==(const MemoryCheck&, const MemoryCheck&) = default;
};

/// `ready RESULT...`: `ok`, or SID:Error for each failing device.
struct Ready {
  std::string_view results;
  friend constexpr bool operator==(const Ready&, const Ready&) = default;
};

/// `reset system` or `reset device`.
struct MachineReset {
  bool device = false;
  friend constexpr bool operator==(MachineReset, MachineReset) = default;
};

/// `irte FIRST COUNT`: the host was told that these interrupt table entries may have changed.
struct RoutesChanged {
  std::uint32_t first = 0;
  std::uint32_t count = 0;
  friend constexpr bool operator==(const RoutesChanged&, const RoutesChanged&) = default;
};

// ---- Devices ----

/// `bus BUS bypass`.
struct BusBypassed {
  std::uint8_t bus = 0;
  friend constexpr bool operator==(const BusBypassed&, const BusBypassed&) = default;
};

enum class DeviceKind : std::uint8_t { emulated, host, mediated, virtio };

/// `plug SID KIND k=v... RESULT`; the pairs are read by parse_plug_options().
struct Plug {
  std::uint32_t source_id = 0;
  DeviceKind kind = DeviceKind::emulated;
  std::string_view options;  // empty: none
  std::string_view result;
  friend constexpr bool operator==(const Plug&, const Plug&) = default;
};

/// `unset SID`: the host facts are withdrawn.
struct FactsUnset {
  std::uint32_t source_id = 0;
  friend constexpr bool operator==(const FactsUnset&, const FactsUnset&) = default;
};

/// `unplug SID`.
struct Unplug {
  std::uint32_t source_id = 0;
  friend constexpr bool operator==(const Unplug&, const Unplug&) = default;
};

/// `renumber OLDBUS NEWBUS`.
struct BusRenumbered {
  std::uint8_t from = 0;
  std::uint8_t to = 0;
  friend constexpr bool operator==(const BusRenumbered&, const BusRenumbered&) = default;
};

enum class View : std::uint8_t { system, translated, blocked };

/// `view SID system|translated|blocked`.
struct ViewCheck {
  std::uint32_t source_id = 0;
  View view = View::system;
  friend constexpr bool operator==(const ViewCheck&, const ViewCheck&) = default;
};

/// `caps CAP ECAP`.
struct CapabilitiesCheck {
  std::uint64_t capability = 0;
  std::uint64_t extended_capability = 0;
  friend constexpr bool operator==(const CapabilitiesCheck&, const CapabilitiesCheck&) = default;
};

/// `dmar WIDTH`: the host address width as the DMAR table has it, one less than the width.
struct WidthCheck {
  std::uint8_t width = 0;
  friend constexpr bool operator==(const WidthCheck&, const WidthCheck&) = default;
};

/// `blockers N`: reasons against a migration.
struct BlockersCheck {
  std::uint64_t count = 0;
  friend constexpr bool operator==(const BlockersCheck&, const BlockersCheck&) = default;
};

// ---- Consumers ----

/// FLAGS of a subscribe line.
struct ConsumerFlags {
  bool map = false;           // m
  bool unmap = false;         // u
  bool device_unmap = false;  // d
  bool pow2 = false;
  bool split = false;
  bool leaf = false;
  bool no_blink = false;  // noblink
  bool snoop = false;
  bool mmio = false;
  bool private_memory = false;  // private
  bool log = false;
  friend constexpr bool operator==(const ConsumerFlags&, const ConsumerFlags&) = default;
};

/// `subscribe ID SID FLAGS FIRST LAST RESULT`.
struct Subscribe {
  std::uint64_t first = 0;
  std::uint64_t last = 0;
  std::string_view id;
  std::string_view result;
  std::uint32_t source_id = 0;
  ConsumerFlags flags{};
  friend constexpr bool operator==(const Subscribe&, const Subscribe&) = default;
};

/// `unsubscribe ID`.
struct Unsubscribe {
  std::string_view id;
  friend constexpr bool operator==(const Unsubscribe&, const Unsubscribe&) = default;
};

/// `failnext ID map|unmap N`: the N-th next operation of that kind fails.
struct FailNext {
  std::string_view id;
  std::uint64_t nth = 0;
  bool unmap = false;
  friend constexpr bool operator==(const FailNext&, const FailNext&) = default;
};

/// `shadow ID K`: the next K lines are `x` lines.
struct ShadowCheck {
  std::string_view id;
  std::uint64_t count = 0;
  friend constexpr bool operator==(const ShadowCheck&, const ShadowCheck&) = default;
};

/// `x IOVA LEN GPA PERM [mmio]`.
struct ShadowExtent {
  std::uint64_t first = 0;
  std::uint64_t last = 0;
  std::uint64_t gpa = 0;
  Perm perm{};
  bool mmio = false;
  friend constexpr bool operator==(const ShadowExtent&, const ShadowExtent&) = default;
};

/// A number of bytes, which may be 2^64 and more.
struct Bytes {
  std::uint64_t low = 0;
  std::uint8_t carry = 0;  // times 2^64, at most 15
  friend constexpr bool operator==(Bytes, Bytes) = default;
  constexpr void add(std::uint64_t first, std::uint64_t last) noexcept {
    const std::uint64_t most = last - first;  // one less than the length
    const std::uint64_t before = low;
    low += most + 1;
    if (low <= before) ++carry;  // a length is never 0, so the sum is equal only after 2^64 of them
  }
};

/// `delta ID MAPPED UNMAPPED`: bytes since the last one.
struct DeltaCheck {
  std::string_view id;
  Bytes mapped{};
  Bytes unmapped{};
  friend constexpr bool operator==(const DeltaCheck&, const DeltaCheck&) = default;
};

/// `count ID MAPS UNMAPS`: events since the last one.
struct CountCheck {
  std::string_view id;
  std::uint64_t maps = 0;
  std::uint64_t unmaps = 0;
  friend constexpr bool operator==(const CountCheck&, const CountCheck&) = default;
};

/// `errors ID N`: reports since the last one.
struct ErrorsCheck {
  std::string_view id;
  std::uint64_t count = 0;
  friend constexpr bool operator==(const ErrorsCheck&, const ErrorsCheck&) = default;
};

/// `pins N`: pages of 4 KiB.
struct PinsCheck {
  std::uint64_t pages = 0;
  friend constexpr bool operator==(const PinsCheck&, const PinsCheck&) = default;
};

// ---- DMA in flight, saved state, dirty pages, time ----

/// `hold H SID PASID IOVA LEN ACC ok` or `hold H SID PASID IOVA LEN ACC fault REASON`.
struct HoldOpened {
  std::uint64_t iova = 0;
  std::uint64_t length = 0;
  std::string_view id;
  std::uint32_t source_id = 0;
  std::uint32_t pasid = no_pasid;
  Access access{};
  bool ok = false;
  std::uint8_t reason = 0;  // fault
  friend constexpr bool operator==(const HoldOpened&, const HoldOpened&) = default;
};

/// `release H`.
struct HoldReleased {
  std::string_view id;
  friend constexpr bool operator==(const HoldReleased&, const HoldReleased&) = default;
};

enum class StateAction : std::uint8_t { quiesce, save, load };

/// `quiesce RESULT`, `save RESULT` or `load RESULT`.
struct StateStep {
  StateAction action = StateAction::quiesce;
  std::string_view result;
  friend constexpr bool operator==(const StateStep&, const StateStep&) = default;
};

/// `dirty on|off`.
struct DirtySwitch {
  bool on = false;
  friend constexpr bool operator==(const DirtySwitch&, const DirtySwitch&) = default;
};

/// `bitmap K`: the next K lines are `g` lines.
struct BitmapCheck {
  std::uint64_t count = 0;
  friend constexpr bool operator==(const BitmapCheck&, const BitmapCheck&) = default;
};

/// `g GPA LEN`: a run of dirty pages.
struct DirtyRun {
  std::uint64_t first = 0;
  std::uint64_t last = 0;
  friend constexpr bool operator==(const DirtyRun&, const DirtyRun&) = default;
};

enum class ProcessMode : std::uint8_t { once, manual, automatic };

/// `process`, `process manual` or `process auto`.
struct Process {
  ProcessMode mode = ProcessMode::once;
  friend constexpr bool operator==(const Process&, const Process&) = default;
};

/// `clock N`: the host clock goes on by N milliseconds.
struct ClockForward {
  std::uint64_t milliseconds = 0;
  friend constexpr bool operator==(const ClockForward&, const ClockForward&) = default;
};

/// `hostpage SID PASID IOVA ACC GROUP LAST`.
struct PageRequested {
  std::uint64_t iova = 0;
  std::uint32_t source_id = 0;
  std::uint32_t pasid = no_pasid;
  Access access{};
  std::uint16_t group = 0;
  bool last = false;
  friend constexpr bool operator==(const PageRequested&, const PageRequested&) = default;
};

/// `hostfault SID PASID IOVA ACC REASON`.
struct HostFaulted {
  std::uint64_t iova = 0;
  std::uint32_t source_id = 0;
  std::uint32_t pasid = no_pasid;
  Access access{};
  std::uint8_t reason = 0;
  friend constexpr bool operator==(const HostFaulted&, const HostFaulted&) = default;
};

/// `driver SID 0|1 RESULT`: FEATURES_OK of a virtio device without or with ACCESS_PLATFORM.
struct DriverChoice {
  std::uint32_t source_id = 0;
  bool accepted = false;
  std::string_view result;
  friend constexpr bool operator==(const DriverChoice&, const DriverChoice&) = default;
};

/// `isolatable SID 0|1`.
struct IsolatableCheck {
  std::uint32_t source_id = 0;
  bool isolatable = false;
  friend constexpr bool operator==(const IsolatableCheck&, const IsolatableCheck&) = default;
};

/// `inscope SID 0|1`.
struct ScopeCheck {
  std::uint32_t source_id = 0;
  bool in_scope = false;
  friend constexpr bool operator==(const ScopeCheck&, const ScopeCheck&) = default;
};

/// `req WSIZE REQ TAIL`: a request with WSIZE writable bytes.
struct SizedRequest {
  std::uint32_t writable_bytes = 0;
  std::string_view readable;
  std::string_view written;
  friend constexpr bool operator==(const SizedRequest&, const SizedRequest&) = default;
};

/// `waiting N`: so many requests have no answer yet, for one of them has to wait. The answer of each is in its own line
/// and is compared when it comes; this says when that is.
struct WaitingCheck {
  std::uint64_t count = 0;
  friend constexpr bool operator==(const WaitingCheck&, const WaitingCheck&) = default;
};

/// `eventbuf N`: so many event buffers are left.
struct EventBuffers {
  std::uint64_t count = 0;
  friend constexpr bool operator==(const EventBuffers&, const EventBuffers&) = default;
};

/// `reply SID PASID GROUP CODE`.
struct PageAnswered {
  std::uint32_t source_id = 0;
  std::uint32_t pasid = no_pasid;
  std::uint16_t group = 0;
  std::uint8_t code = 0;
  friend constexpr bool operator==(const PageAnswered&, const PageAnswered&) = default;
};

}  // namespace viommu::trace
