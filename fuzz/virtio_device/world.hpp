// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// A device, its VMM, its driver and its model, which an input's records act on. A file a subject; world.cpp says which
// record is what.
#pragma once

#include <viommu/viommu_virtio.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "fuzz/models/consumer_view.hpp"
#include "fuzz/models/virtio_iommu_model.hpp"
#include "fuzz/support/driver_ring.hpp"
#include "fuzz/support/input.hpp"
#include "fuzz/support/state_bytes.hpp"
#include "fuzz/support/virtio_grammar.hpp"
#include "fuzz/support/virtio_side.hpp"
#include "fuzz/virtio_device/guest.hpp"
#include "fuzz/virtio_device/places.hpp"
#include "fuzz/virtio_device/setup.hpp"

namespace viommu::fuzz::virtio_device {

using Bytes = std::vector<std::uint8_t>;
using Model = VirtioIommuModel;
using View = Model::View;

/// What a request to translate is to be answered.
struct Answer {
  std::uint8_t kind = VIOMMU_FAULT;
  std::uint8_t reason = 0;
  std::uint8_t rights = 0;
  std::uint64_t gpa = 0;
  std::uint64_t last = 0;  ///< up to where it goes on so
};

class World {
 public:
  static constexpr std::size_t record_bytes = 40;

  World(Guest& guest, const Setup& setup);
  World(const World&) = delete;
  World& operator=(const World&) = delete;
  ~World() { release_all(); }

  void run(Input input);

 private:
  [[nodiscard]] std::unique_ptr<VirtioSide> make_side() const;

  // ---- The VMM (machine.cpp) ----
  void add_memory(const Memory& memory);
  void change_memory(std::uint8_t which, std::uint8_t how, std::uint64_t where);
  [[nodiscard]] std::vector<Model::Reserved> reserved_of(std::uint16_t requester) const;
  [[nodiscard]] static HostFacts facts_of(std::uint8_t which);
  [[nodiscard]] PluggedDevice* plugged(std::uint16_t source);
  [[nodiscard]] const PluggedDevice* behind(std::uint16_t requester) const;
  [[nodiscard]] bool bypasses(std::uint16_t source) const;
  /// @param how  of its reserved memory, and whether it has another endpoint's id
  void plug(std::size_t number, std::uint8_t how, std::uint8_t facts);
  void unplug(std::size_t number);
  [[nodiscard]] bool withdrawn(std::uint16_t source) const;
  void unset_facts(std::size_t number);
  void subscribe(std::uint8_t which, std::uint8_t declares, std::uint8_t how, std::uint64_t first, std::uint64_t last);
  /// @return false where memory that devices have reserved is missing
  bool get_ready();

  // ---- The driver's transport (transport.cpp) ----
  /// Nobody waits for those whose answers went without a request.
  void void_uses();
  void forget_rings();
  void reset(bool system);
  void negotiate(std::uint64_t features);
  void set_queue(std::uint32_t index);
  void drop_queue(std::uint32_t index);
  void start();
  void boot(std::uint64_t features);
  [[nodiscard]] bool serves() { return running_ && !broken_ && requests_.there(); }
  void notify(std::uint32_t index);
  /// A request that lies where there is no memory.
  void break_ring();
  void transport(std::uint8_t which, std::uint8_t how, std::uint64_t raw);
  void write_config(std::uint8_t how, std::uint64_t offset, std::uint64_t value);

  // ---- Requests (requests.cpp) ----
  struct Sent {
    VirtioRequest request;
    std::uint64_t at = 0;  ///< of its buffer
    std::uint32_t id = 0;  ///< in the ring
  };
  [[nodiscard]] static bool is_change_of_mappings(const VirtioRequest& request);
  /// Somebody will not follow the next MAP or UNMAP.
  [[nodiscard]] Keeper* arm(std::uint8_t how, std::uint8_t which);
  /// @return whether somebody has failed
  static bool disarm(Keeper* keeper);
  void request(unsigned operation, std::uint8_t endpoint, Input& record);
  void lay_out(const VirtioRequest& made, std::uint64_t at);
  void finish_burst();
  /// All that was put into the ring, at once.
  void send_burst(std::uint8_t how, std::uint8_t which, std::uint8_t source);
  /// Those that have come back, in their order.
  void collect(std::size_t& done, Keeper* keeper, const Model& before);
  /// By the model; then nobody may use any more what it has taken away.
  [[nodiscard]] Bytes serve(const VirtioRequest& request, Keeper* keeper, const Model& before);
  /// One that the VMM reads from the ring itself.
  void ask(const VirtioRequest& made, std::uint8_t how, std::uint8_t which, std::uint8_t source);
  /// What happens while a request waits. @return whether it is forgotten
  bool meanwhile(std::uint8_t how, std::uint8_t source);
  void forget_waiting();

  // ---- Who uses answers (uses.cpp) ----
  struct Use {
    std::uint64_t handle = 0;  ///< of a hold; 0: of the guard
    viommu_request request{};
    Answer answer;
    bool counts = true;  ///< whether requests wait for it
  };
  void begin_guard(std::uint8_t how, std::uint8_t source);
  void end_guard();
  void end_uses();
  void release_all();
  [[nodiscard]] bool still_good(const Use& use) const;
  void check_uses() const;
  void hold(const viommu_request& asked);

  // ---- DMA (answers.cpp, dma.cpp) ----
  [[nodiscard]] static viommu_request dma(std::uint8_t source, std::uint64_t iova, std::uint8_t access,
                                          std::uint8_t flags);
  [[nodiscard]] Answer fault(std::uint8_t reason, std::uint64_t last) const;
  [[nodiscard]] Answer answer_of(const viommu_request& asked) const;
  void check(const viommu_request& asked, const viommu_translation& found, const Answer& right);
  /// The driver is told, or its VMM. @return VIOMMU_FAULT_*
  std::uint8_t report(const viommu_request& asked, std::uint8_t reason);
  void translate(std::uint8_t source, std::uint8_t access, std::uint8_t how, std::uint64_t iova, std::uint64_t length);
  /// Whoever asks on each miss has it until he is told.
  void keep(const viommu_request& asked, const viommu_translation& found);
  void translate_batch(const viommu_request& first, std::uint64_t stride);
  void translate_range(viommu_request asked, std::uint64_t length);
  void host_fault(std::uint8_t source, std::uint8_t access, std::uint8_t reason, std::uint64_t iova);

  // ---- Reports (reports.cpp) ----
  struct Posted {
    std::uint32_t id = 0;
    std::uint64_t at = 0;
    std::uint32_t length = 0;
    bool fits = false;
    Bytes report;
  };
  void post(std::uint8_t cuts, std::uint8_t length);
  /// In order: those that are full, and those that nothing fits into.
  void compare_reports();

  // ---- Migration (migration.cpp) ----
  void move(std::uint8_t how, std::uint16_t where, std::uint64_t value);
  /// A machine like this one, whose guest has not begun.
  [[nodiscard]] std::unique_ptr<VirtioSide> make_twin();
  /// A state that somebody has changed is refused whole, or is one.
  void attack(VirtioSide& there, State& state, std::uint8_t how, std::uint16_t where, std::uint64_t value);

  // ---- One record ----
  void step(Input record);
  void other(unsigned operation, std::uint8_t endpoint, Input& record);
  void dump();

  // ---- What is to be seen (comparison.cpp) ----
  void compare();
  void compare_device();
  void compare_view(std::uint16_t source);
  void compare_keeper(const Keeper& keeper);
  struct Range {
    std::uint64_t first = 0;
    std::uint64_t last = 0;
  };

  Guest& guest_;
  const Setup setup_;
  Model model_;
  std::unique_ptr<VirtioSide> side_;

  // The machine.
  GuestParts parts_;
  std::vector<PluggedDevice> plugged_;
  std::vector<std::uint16_t> withdrawn_;  ///< whose host facts were
  std::uint64_t page_sizes_;
  bool ready_ = false;

  // The transport.
  std::uint64_t features_ = 0;
  bool running_ = false;
  bool broken_ = false;
  DriverRing requests_{guest_.requests};
  DriverRing reports_{guest_.reports};
  std::vector<Sent> burst_;
  std::uint64_t notified_ = 0;
  std::uint64_t reports_notified_ = 0;
  std::deque<Posted> posted_;
  std::uint64_t next_report_ = 0;
  unsigned event_room_ = 0;
  std::vector<Bytes> told_;

  std::vector<Use> uses_;
  bool in_guard_ = false;
  Range near_;
};

}  // namespace viommu::fuzz::virtio_device
