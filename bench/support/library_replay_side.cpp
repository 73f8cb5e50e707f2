// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "bench/support/library_replay_side.hpp"

#include <stdexcept>
#include <string>
#include <utility>

namespace viommu::bench {
namespace {

constexpr std::uint64_t caching_mode = 1 << 7;

void demand(viommu_result result, const char* what) {
  if (result != VIOMMU_OK) throw std::runtime_error{std::string{what} + ": " + viommu_result_text(result)};
}

[[nodiscard]] Engine create(const viommu_vtd_options& options) {
  viommu_host host{};
  host.size = sizeof host;
  host.memory_read = [](void*, std::uint64_t, void*, std::uint64_t) -> std::int32_t { return -1; };
  auto engine = Engine::create_vtd(options, host);
  if (!engine) throw std::runtime_error{"the engine was refused: " + engine.error().text};
  return *std::move(engine);
}

/// The default unit, which says that consumers hear of new mappings too.
[[nodiscard]] Engine create_engine(const ReplayGuest& guest) {
  viommu_vtd_options options{};
  options.size = sizeof options;
  options.capability = create(options).mmio_read(reg::capability, 8) | caching_mode;
  Engine engine = create(options);
  demand(engine.add_region(0, guest.ram()), "the RAM");
  // Of pages that nobody accesses, no memory is needed.
  const viommu_region frames{ReplayGuest::first_frame, ReplayGuest::frame_bytes, nullptr, VIOMMU_REGION_UNMAPPED};
  demand(viommu_region_add(engine.get(), &frames), "the frames");
  return engine;
}

}  // namespace

LibraryReplaySide::LibraryReplaySide(const ReplayGuest& guest)
    : guest_{guest}, engine_{create_engine(guest)}, queue_{guest, *this} {}

std::uint32_t LibraryReplaySide::pages() const noexcept { return guest_.tables() * ReplayGuest::table_pages; }

void LibraryReplaySide::begin() {
  viommu_consumer consumer{};
  consumer.size = sizeof consumer;
  consumer.opaque = this;
  consumer.notify = VIOMMU_EVENT_MAP | VIOMMU_EVENT_UNMAP;
  consumer.last = ~std::uint64_t{0};
  consumer.events = [](void* opaque, viommu_event* events, std::uint32_t count) {
    static_cast<LibraryReplaySide*>(opaque)->receive({events, count});
  };
  demand(viommu_subscribe(engine_.get(), ReplayGuest::source, &consumer, nullptr, &subscription_), "the consumer");
  demand(viommu_replay(engine_.get(), subscription_), "the replay");
  while (engine_.process().state == VIOMMU_PROCESS_MORE) {  // ends: the tables do
  }
}

void LibraryReplaySide::end() { demand(viommu_unsubscribe(engine_.get(), subscription_), "the end"); }

void LibraryReplaySide::drop_domain() {
  queue_.drop_domain(ReplayGuest::id_of(domain_));
  finish();
}

void LibraryReplaySide::attach(std::uint32_t domain) {
  guest_.attach(domain);
  queue_.drop_context(ReplayGuest::id_of(domain_), ReplayGuest::source);
  queue_.drop_domain(ReplayGuest::id_of(domain_));
  domain_ = domain;
  finish();
}

void LibraryReplaySide::finish() {
  queue_.wait();
  queue_.ring();
  queue_.finish();
}

void LibraryReplaySide::receive(std::span<viommu_event> events) noexcept {
  told_ += events.size();
  if (mirror_ == nullptr) return;
  for (const viommu_event& event : events) {
    if (event.kind == VIOMMU_EVENT_MAP)
      mirror_->map(event.iova, event.last, event.gpa, event.rights);
    else
      mirror_->unmap(event.iova, event.last);
  }
}

}  // namespace viommu::bench
