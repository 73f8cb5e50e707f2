// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Which endpoint is in which domain, and what requests do to that.
//
//   ATTACH   endpoint -> domain, made by the first one; DETACH, removal: gone with the last one, and its mappings
//   MAP      domain range -> domain -> bypass -> upside down -> alignment -> input range, target -> overlap ->
//            reserved memory -> quota -> listener: the first that fails is the answer, and nothing has changed
//   UNMAP    the same as far as it has them; a mapping partly covered -> RANGE, and nothing has changed
//
// Length, type, features and flags have been looked at (request.hpp). Source: Virtio, "Device operations" of the IOMMU
// device.
// Threads: one at a time (the role that works the request queue), but for what Mappings lets readers do. Bounded: as
// many domains, endpoints and mappings as Limits says; more is NOMEM.
#pragma once

#include "engine/base/address.hpp"
#include "engine/base/atomic.hpp"
#include "engine/base/host_memory.hpp"
#include "engine/base/ids.hpp"
#include "engine/virtio_iommu/config_space.hpp"
#include "engine/virtio_iommu/id_table.hpp"
#include "engine/virtio_iommu/ids.hpp"
#include "engine/virtio_iommu/layouts.hpp"
#include "engine/virtio_iommu/mappings.hpp"
#include "engine/virtio_iommu/properties.hpp"
#include "engine/virtio_iommu/request.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace viommu::virtio_iommu {

struct SavedState;

class Domain {
 public:
  Domain(DomainId id, viommu::DomainId index, bool bypass, MappingNodes& nodes) noexcept
      : mappings{nodes}, id_{id}, index_{index}, bypass_{bypass} {}

  [[nodiscard]] DomainId id() const noexcept { return id_; }
  /// What caches and consumers know it by: nobody else's until a ticket has passed that was given out after its end.
  [[nodiscard]] viommu::DomainId index() const noexcept { return index_; }
  [[nodiscard]] bool bypass() const noexcept { return bypass_; }
  [[nodiscard]] std::uint32_t members() const noexcept { return members_; }

  Mappings mappings;

 private:
  friend class Domains;
  DomainId id_;
  viommu::DomainId index_;
  bool bypass_;
  std::uint32_t members_ = 0;
  std::uint32_t first_member_ = IdTable::nothing;
};

/// What an endpoint sees.
struct EndpointView {
  enum class Kind : std::uint8_t {
    unknown,   ///< there is no such endpoint: its accesses are blocked
    detached,  ///< in no domain, and blocked
    bypass,
    translated,
  } kind = Kind::unknown;
  const Domain* domain = nullptr;  ///< of `translated`

  friend bool operator==(const EndpointView&, const EndpointView&) = default;
};

/// What an endpoint is called: by the guest, and on its bus.
struct EndpointName {
  EndpointId id;
  SourceId source;
};

/// Who keeps something of his own equal to it: caches, consumers. Empty functions: nobody.
struct DomainListener {
  void* opaque = nullptr;
  /// The endpoint sees something else now. What it saw before goes when this returns; a domain without members has
  /// come to its end.
  void (*moved)(void* opaque, EndpointName endpoint, const EndpointView& before, const EndpointView& now) = nullptr;
  /// A mapping has come. @return false: somebody cannot take it, and nobody has; it goes again
  bool (*mapped)(void* opaque, const Domain& domain, const Mapping& mapping) = nullptr;
  /// Those of the range are to go. @return false: somebody cannot give them up, and all have them; they stay
  bool (*unmapping)(void* opaque, const Domain& domain, IovaRange range) = nullptr;
};

class Domains {
 public:
  static constexpr std::uint32_t most_domains = 32767;  ///< two numbers for each, of 16 bits
  struct Limits {
    std::uint32_t domains = 0;    ///< at most most_domains
    std::uint32_t endpoints = 0;  ///< those included that have gone and whose DETACH may still come
    MappingNodes::Limits mappings;
    bool gone_is_unknown = false;  ///< a DETACH that comes after the removal of its endpoint is NOENT at once
  };
  /// A request's answer, or `later`: nothing has been answered, and the same request is to be asked again when a ticket
  /// has passed (MAP, ATTACH) or at once (UNMAP goes on in slices).
  struct Outcome {
    Status status = Status::ok;
    bool later = false;

    friend bool operator==(const Outcome&, const Outcome&) = default;
  };
  enum class Added : std::uint8_t { ok, exists, limit, no_memory };

  Domains(const HostAllocator& allocator, const ConfigSpace& config, const Limits& limits,
          const DomainListener& listener) noexcept
      : allocator_{allocator},
        config_{config},
        limits_{limits},
        listener_{listener},
        nodes_{allocator, limits.mappings} {}
  Domains(const Domains&) = delete;
  Domains& operator=(const Domains&) = delete;
  ~Domains();
  /// @return false when the host has no memory
  [[nodiscard]] bool reset(std::uint64_t seed) noexcept;

  // ---- Endpoints, as the VMM tells of them ----
  /// @param reserved  memory that it must not map, ascending, none overlaps another
  [[nodiscard]] Added add_endpoint(EndpointName name, std::span<const ReservedRegion> reserved) noexcept;
  /// It has other reserved memory from now on; what is mapped there stays. @return as add_endpoint()
  [[nodiscard]] Added set_reserved(EndpointId id, std::span<const ReservedRegion> reserved) noexcept;
  /// It is called something else, and stays where it is. There is no endpoint `to`. @return whether there was one
  bool rename_endpoint(EndpointId id, EndpointName to) noexcept;
  /// As if the guest had sent DETACH. @return whether there was one
  bool remove_endpoint(EndpointId id) noexcept;
  [[nodiscard]] bool knows(EndpointId id) const noexcept { return live(id) != nullptr; }
  [[nodiscard]] EndpointView view(EndpointId id) const noexcept;
  /// Of PROBE. Nothing: NOENT.
  [[nodiscard]] std::optional<std::span<const ReservedRegion>> reserved_of(EndpointId id) const noexcept;
  /// Whether its domain maps some of its reserved memory, as it may where that came after the mapping.
  [[nodiscard]] bool covers_reserved(EndpointId id) const noexcept;

  // ---- Requests ----
  [[nodiscard]] Outcome attach(const Attach& request) noexcept;
  [[nodiscard]] Outcome detach(const Detach& request) noexcept;
  [[nodiscard]] Outcome map(const Map& request) noexcept;
  /// @param most  mappings that go in one call, about
  [[nodiscard]] Outcome unmap(const Unmap& request, std::size_t most) noexcept;
  /// An UNMAP whose answer is `later` will not be asked for again.
  void forget_unmap() noexcept { going_on_.reset(); }

  // ---- The rest ----
  /// `bypass` has another value: endpoints in no domain see something else.
  void bypass_changed() noexcept;
  /// Nobody is attached any more.
  void detach_all() noexcept;
  [[nodiscard]] const Domain* find(DomainId id) const noexcept;
  /// The domain with this number. Threads: any, inside the guard in which the number was learned.
  [[nodiscard]] const Domain& at(viommu::DomainId index) const noexcept { return *slots_[index.value].domain; }
  /// The number of the domain that the guest knows by this id. Threads: any; it may have gone by then.
  [[nodiscard]] std::optional<viommu::DomainId> number_of(DomainId id) const noexcept;
  [[nodiscard]] std::uint32_t domains() const noexcept { return domain_count_; }
  /// Calls `see(name, view)` for each endpoint that the VMM has.
  template <class See>
  void for_each_known(const See& see) const noexcept {
    for (const Endpoint& endpoint : endpoints_)
      if (endpoint.known) see(EndpointName{endpoint.id, endpoint.source}, view(endpoint));
  }

  // ---- Migration (domains_state.cpp) ----
  /// Domains and who is, or was last, in which; mappings are counted. @return false when the host has no memory
  [[nodiscard]] bool save(SavedState& state) const noexcept;
  /// An endpoint that is attached in the state, and that the VMM does not have.
  [[nodiscard]] std::optional<EndpointId> missing(const SavedState& state) const noexcept;
  /// Makes what the state says, which read_state() has taken and misses nobody, where nobody is attached. No listener
  /// is told, and no view was published yet. @return false when there is no memory; then there is nothing of it
  [[nodiscard]] bool restore(const SavedState& state) noexcept;

  /// `ticket` was given out after all that was asked of it so far.
  void seal(std::uint64_t ticket) noexcept;
  /// @return whether there is more to be taken back by now
  bool reclaim(std::uint64_t completed, std::size_t most) noexcept;
  [[nodiscard]] bool waiting() const noexcept { return retired_ != 0 || nodes_.waiting(); }
  [[nodiscard]] const MappingNodes& nodes() const noexcept { return nodes_; }

 private:
  static constexpr std::uint32_t nothing = IdTable::nothing;
  struct Endpoint {
    EndpointId id{};
    SourceId source{};
    bool known = false;                  ///< the VMM has it
    std::optional<DomainId> gone_from;   ///< of one that has gone: a DETACH that names it is answered once
    HostArray<ReservedRegion> reserved;  ///< as many as there are
    std::size_t reserved_count = 0;
    std::uint32_t domain = nothing;
    std::uint32_t next = nothing;  ///< member of its domain
    std::uint32_t before = nothing;
    std::uint64_t gone_at = 0;

    Endpoint() = default;
    [[nodiscard]] bool free() const noexcept { return !known && !gone_from; }
    [[nodiscard]] std::span<const ReservedRegion> regions() const noexcept {
      return {reserved.begin(), reserved_count};
    }
  };
  struct Slot {
    Domain* domain = nullptr;  ///< null in a free one
    std::optional<Domain> room;
    /// One more than the id that the guest knows it by; 0: it has gone. Relaxed: nothing is read by way of it.
    Atomic<std::uint64_t> named{0};
    std::uint64_t ticket = 0;  ///< of one that has gone: it is free when this has passed; 0: not sealed

    Slot() = default;
    [[nodiscard]] bool live() const noexcept { return named.load(std::memory_order_relaxed) != 0; }
  };

  [[nodiscard]] const Endpoint* live(EndpointId id) const noexcept;
  [[nodiscard]] Endpoint* live(EndpointId id) noexcept;
  [[nodiscard]] std::uint32_t index_of(const Endpoint& endpoint) const noexcept {
    return static_cast<std::uint32_t>(&endpoint - endpoints_.begin());
  }
  [[nodiscard]] EndpointView view(const Endpoint& endpoint) const noexcept;
  [[nodiscard]] bool keep_reserved(Endpoint& endpoint, std::span<const ReservedRegion> reserved) const noexcept;
  [[nodiscard]] std::uint32_t free_slot(std::uint32_t from = 0) const noexcept;
  /// A domain without members in a slot that is free.
  Domain& make(std::uint32_t slot, DomainId id, bool bypass) noexcept;
  [[nodiscard]] bool restore_domains(const SavedState& state) noexcept;
  /// An endpoint that may be taken for a new one, that of a removed one if there is no other.
  [[nodiscard]] Endpoint* free_endpoint() noexcept;
  /// The domain that a MAP or UNMAP may change, or why not.
  [[nodiscard]] Status domain_for(DomainId id, Domain*& domain) noexcept;
  [[nodiscard]] bool any_reserved(const Domain& domain, IovaRange range) const noexcept;
  [[nodiscard]] static bool covers_reserved(const Domain& domain, const Endpoint& endpoint) noexcept;
  void enter(Endpoint& endpoint, std::uint32_t slot) noexcept;
  /// @return the slot of a domain that nobody is in any more
  [[nodiscard]] std::uint32_t leave(Endpoint& endpoint) noexcept;
  void destroy(std::uint32_t slot) noexcept;
  void tell_moved(const Endpoint& endpoint, const EndpointView& before) noexcept;

  HostAllocator allocator_;
  const ConfigSpace& config_;
  const Limits limits_;
  const DomainListener listener_;
  MappingNodes nodes_;
  HostArray<Slot> slots_;
  HostArray<Endpoint> endpoints_;
  IdTable domain_ids_;
  IdTable endpoint_ids_;
  std::uint32_t domain_count_ = 0;
  std::uint32_t retired_ = 0;
  std::uint64_t removals_ = 0;
  std::optional<Unmap> going_on_;  ///< everybody has agreed to it
};

}  // namespace viommu::virtio_iommu
