// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The words of the format.
#pragma once

#include <algorithm>
#include <cstddef>
#include <iterator>
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

inline constexpr std::string_view parts[] = {"discard", "populate", "private", "shared"};
inline constexpr std::string_view device_kinds[] = {"emulated", "host", "mediated", "virtio"};
inline constexpr std::string_view views[] = {"system", "translated", "blocked"};
inline constexpr std::string_view operations[] = {"map", "unmap"};
inline constexpr std::string_view state_actions[] = {"quiesce", "save", "load"};
inline constexpr std::string_view on_off[] = {"off", "on"};
inline constexpr std::string_view process_modes[] = {"manual", "auto"};
inline constexpr std::string_view bypass_word[] = {"bypass"};

// A RESULT of a plug line, beside these.
inline constexpr std::string_view bypassed_result = "bypassed";

// RESULT: `ok` or one of these. A field may stand behind a colon.
inline constexpr std::string_view error_names[] = {"CachingModeRequired",
                                                   "NotSupported",
                                                   "AlreadyExists",
                                                   "WidthTooSmall",
                                                   "IncompatibleHostType",
                                                   "NeedIommufd",
                                                   "FieldMismatch",
                                                   "GranuleFrozen",
                                                   "NestingUnsupported",
                                                   "PageSizesDisjoint",
                                                   "NarrowsHaw",
                                                   "AliasConflict",
                                                   "CannotTranslate",
                                                   "UnknownAbility",
                                                   "MigrationNotAllowed",
                                                   "Invalid",
                                                   "Vetoed",
                                                   "ConsumerError",
                                                   "Busy",
                                                   "BadState"};

[[nodiscard]] constexpr bool is_result(std::string_view text) noexcept {
  if (text == "ok") return true;
  const std::size_t colon = text.find(':');
  if (colon != std::string_view::npos && colon + 1 == text.size()) return false;
  return std::find(std::begin(error_names), std::end(error_names), text.substr(0, colon)) != std::end(error_names);
}

// Of those of scenarios a recording has these, where it says which endpoints there are (plugs=1).
inline constexpr std::string_view words_of_recordings[] = {"plug", "unplug", "renumber", "req"};
// Scenario words of a virtio-iommu alone.
inline constexpr std::string_view virtio_words[] = {"req", "eventbuf", "waiting"};

inline constexpr std::string_view recorded_letters[] = {"u", "U", "S", "O", "N", "P", "B", "Z"};

}  // namespace viommu::trace
