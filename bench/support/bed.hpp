// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// A translator brought up for a guest, with every page of it asked for once and every answer compared.
#pragma once

#include <algorithm>
#include <cstdint>
#include <exception>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "bench/support/guest_queue.hpp"
#include "bench/support/setup.hpp"
#include "bench/support/synthetic_guest.hpp"
#include "bench/support/translators.hpp"

namespace viommu::bench {

[[nodiscard]] inline bool right(const SyntheticGuest& guest, const viommu_request& request,
                                const viommu_translation& answer) noexcept {
  return answer.kind == VIOMMU_TRANSLATED && answer.gpa == guest.gpa(request);
}

template <class Translator>
class Bed {
 public:
  using Port = typename Translator::Port;

  Bed(const Layout& layout, const Setup& setup) : guest_{guest_of(layout)} {
    try {
      translator_ = std::make_unique<Translator>(*guest_, setup);
      queue_ = std::make_unique<GuestQueue<Translator>>(*guest_, *translator_);
      Port port{*translator_};
      fill(port);
      check(port);
    } catch (const std::exception& problem) {
      wrong_ = problem.what();
    }
  }

  /// Why nothing may be timed; empty when every answer was right.
  [[nodiscard]] const std::string& wrong() const noexcept { return wrong_; }
  [[nodiscard]] const SyntheticGuest& guest() const noexcept { return *guest_; }
  [[nodiscard]] Translator& translator() noexcept { return *translator_; }
  [[nodiscard]] GuestQueue<Translator>& queue() noexcept { return *queue_; }

  void fill(Port& port) {
    // In an order of its own: neighbours that are filled along count as filled, and lists do not lie in memory as
    // sorted.
    for (std::uint32_t count = 0; count < pages(); ++count) {
      static_cast<void>(port.translate(guest_->ask_each(count)));
    }
  }

  /// Drops a page that has moved, and sees whether the answer moves as well.
  void check_drop() {
    if (!wrong_.empty()) return;
    Port port{*translator_};
    const viommu_request request = guest_->ask(0, 1);
    const std::uint64_t slot = guest_->leaf_slot(0, 1);
    const std::uint64_t before = guest_->load(slot);
    const std::uint64_t moved = before ^ (std::uint64_t{1} << 39);
    const auto answers = [&](std::uint64_t entry) {
      guest_->store(slot, entry);
      queue_->drop_page(guest_->domain(0), request.iova);
      queue_->wait();
      queue_->ring();
      queue_->finish();
      return port.translate(request).gpa == (entry & ~std::uint64_t{0xfff});
    };
    const bool follows = answers(moved);
    if (!answers(before) || !follows) wrong_ = "a dropped page is still served";
  }

 private:
  [[nodiscard]] std::uint32_t pages() const noexcept {
    // More than are ever cached need not all be asked for.
    constexpr std::uint32_t most = 1u << 19;
    return std::min(guest_->layout().pages, most);
  }

  void check(Port& port) {
    std::vector<viommu_request> requests(64);
    std::vector<viommu_translation> answers(requests.size());
    for (std::uint32_t count = 0; count < pages(); ++count) {
      const viommu_request request = guest_->ask_each(count);
      if (!right(*guest_, request, port.translate(request))) wrong_ = "wrong answers are not timed";
      if (count % requests.size() != 0) continue;
      guest_->ask_batch(count, requests);
      port.translate_batch(requests, answers);
      for (std::size_t index = 0; index < requests.size(); ++index) {
        if (!right(*guest_, requests[index], answers[index])) wrong_ = "wrong answers of a batch are not timed";
      }
    }
  }

  std::shared_ptr<SyntheticGuest> guest_;
  std::unique_ptr<Translator> translator_;
  std::unique_ptr<GuestQueue<Translator>> queue_;
  std::string wrong_;
};

/// One for each layout and setup, made when first asked for, kept to the end: repetitions measure, they do not build.
template <class Translator>
[[nodiscard]] Bed<Translator>& bed_of(const Layout& layout, const Setup& setup) {
  static std::mutex mutex;
  static std::map<std::pair<Layout, Setup>, std::unique_ptr<Bed<Translator>>> beds;
  const std::lock_guard lock{mutex};
  std::unique_ptr<Bed<Translator>>& bed = beds[{layout, setup}];
  if (!bed) bed = std::make_unique<Bed<Translator>>(layout, setup);
  return *bed;
}

/// The default cache, or one that is laid out for the pages where they are more.
[[nodiscard]] constexpr Setup holding(const Layout& layout) noexcept {
  constexpr std::uint32_t default_pages = 65536;
  return {.iotlb_pages = layout.pages > default_pages ? layout.pages : 0};
}

}  // namespace viommu::bench
