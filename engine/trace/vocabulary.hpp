// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The words of the format.
#pragma once

#include <string_view>

namespace viommu::trace {

// In the order of the enumerations.
inline constexpr std::string_view outcomes[] = {"ok", "fault"};
inline constexpr std::string_view sources[] = {"h", "w", "p", "d", "t", "b", "i"};
inline constexpr std::string_view statuses[] = {"rec", "coll", "pfo", "ovf", "fpd", "none", "nobuf"};
inline constexpr std::string_view notify_kinds[] = {"map", "unmap", "devunmap"};
inline constexpr std::string_view askers[] = {"w", "q"};
inline constexpr std::string_view switches[] = {"0", "1"};
inline constexpr std::string_view resets[] = {"system", "device"};
inline constexpr std::string_view mmio_word[] = {"mmio"};

// Scenario lines of the format that bring devices, consumers, interrupts, queues and saved state.
inline constexpr std::string_view later_words[] = {
    "C",    "Q",        "E",     "discard",   "populate", "private",   "shared",      "gone",     "bus",
    "plug", "driver",   "unset", "unplug",    "renumber", "subscribe", "unsubscribe", "failnext", "shadow",
    "x",    "delta",    "count", "errors",    "pins",     "view",      "isolatable",  "inscope",  "caps",
    "dmar", "blockers", "hold",  "release",   "quiesce",  "save",      "load",        "dirty",    "bitmap",
    "g",    "process",  "clock", "hostfault", "hostpage", "reply",     "req",         "eventbuf"};

inline constexpr std::string_view recorded_letters[] = {"u", "U", "S", "O", "N", "P", "B", "Z"};

}  // namespace viommu::trace
