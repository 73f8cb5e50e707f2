// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The checks of one host-backed device, in the fixed order in which the first that fails is told:
//
//   backend and kind -> width -> guest-physical width -> fields -> page sizes, ranges -> alias -> migration
//
// Nothing is changed by them: what they come to is `facts` and `widths`, for Machine to put in force.
#pragma once

#include <cstdint>
#include <optional>

#include "engine/base/host_memory.hpp"
#include "engine/base/ids.hpp"
#include "engine/machine/device.hpp"
#include "engine/machine/front_end.hpp"
#include "engine/machine/refusal.hpp"
#include "engine/machine/registry.hpp"

namespace viommu::machine {

/// What becomes of a host that cannot do what we say.
struct Policy {
  bool sync = false;             ///< while building, we narrow to it
  bool narrow_haw = false;       ///< guest-physical addresses too
  bool migratable_only = false;  ///< what would block migration is refused
  CheckMode mode = CheckMode::second_stage;
  UnknownPolicy unknown = UnknownPolicy::closed;
};

/// A device that somebody wants to add.
struct Candidate {
  SourceId source{};
  std::optional<SourceId> alias;
  DeviceKind kind = DeviceKind::emulated;
  bool bypassed = false;  ///< its bus does not pass the unit
  bool is_virtio = false;
  bool offers_platform = false;      ///< VIRTIO_F_ACCESS_PLATFORM
  bool isolates = false;             ///< has ACS, or needs none
  std::optional<Ability> ability;    ///< nothing: of a virtual function that of `physical`, else able
  Wish wish = Wish::unset;           ///< the same
  std::optional<SourceId> physical;  ///< of a virtual function: whose it is
  const GpaRange* reserved_memory = nullptr;
  std::uint32_t reserved_count = 0;
  const FactFunctions* facts = nullptr;  ///< of a host device that does not bypass
  const void* described = nullptr;       ///< in the words of whoever adds it, for vetoes
};

enum class Admitted : std::uint8_t {
  yes,
  refused,
  no_memory,
  unplaced,  ///< the front end has no place for it
};

class Admission {
 public:
  /// @param frozen  what the front end says of itself stays as it is
  Admission(const FrontEnd& front_end, const Policy& policy, bool frozen, const Registry& registry,
            const HostAllocator& allocator) noexcept;

  /// @param why  `source` is filled in already
  [[nodiscard]] Admitted check(const Candidate& candidate, Refusal& why) noexcept;

  HostFacts facts;
  Widths widths;  ///< what the device leaves of those in force
  [[nodiscard]] bool narrows() const noexcept { return widths != own_; }
  std::uint64_t page_sizes = 0;  ///< that are left of those in force; 0: the front end has none

 private:
  using Step = Admitted (Admission::*)();
  [[nodiscard]] Admitted check_kind() noexcept;
  [[nodiscard]] Admitted check_width() noexcept;
  [[nodiscard]] Admitted check_host_address_width() noexcept;
  [[nodiscard]] Admitted check_fields() noexcept;
  [[nodiscard]] Admitted check_pages_and_ranges() noexcept;
  [[nodiscard]] Admitted check_page_sizes() noexcept;
  [[nodiscard]] Admitted check_alias() noexcept;
  [[nodiscard]] Admitted check_migration() noexcept;

  [[nodiscard]] Admitted ask_capabilities() noexcept;
  [[nodiscard]] Admitted ask_ranges() noexcept;
  Admitted refuse(RefusalCode code, std::string_view field, const char* words, std::uint64_t expected = 0,
                  std::uint64_t found = 0, bool decimal = true) noexcept;
  Admitted cannot_be_had(std::string_view fact, std::int32_t code) noexcept;
  [[nodiscard]] bool has_words() const noexcept { return !front_end_.fields.empty(); }
  /// Whether words of the host are needed, and not only looked at where they are there.
  [[nodiscard]] bool needs_words() const noexcept {
    if (!has_words()) return false;
    return policy_.mode == CheckMode::first_stage || (policy_.sync && facts.backend == Backend::iommufd);
  }

  const FrontEnd& front_end_;
  const Policy& policy_;
  const bool frozen_;
  const bool may_narrow_;  ///< widths
  const Registry& registry_;
  const HostAllocator& allocator_;
  const VendorWords own_words_;
  const Widths own_;
  const Candidate* candidate_ = nullptr;
  Refusal* why_ = nullptr;
};

}  // namespace viommu::machine
