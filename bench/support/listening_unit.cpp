// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "bench/support/listening_unit.hpp"

#include <benchmark/benchmark.h>
#include <unistd.h>
#include <viommu/viommu_tbb.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <limits>
#include <stdexcept>
#include <thread>

#include "bench/support/stopwatch.hpp"
#include "engine/vtd/register_map.hpp"

namespace viommu::bench {
namespace {

constexpr std::uint64_t status_word = 0x1000;
constexpr std::uint64_t queue = 0x2000;  // two pages
constexpr std::uint64_t root = 0x4000;   // one tree for all domains: what is in it does not matter here
constexpr std::uint64_t middle = 0x5000;
constexpr std::uint64_t leaves = 0x6000;  // two tables
constexpr std::uint64_t ram_bytes = 0x8000;

/// Each step waits for the one before, so that its time is that of the arithmetic, whatever else the core does.
[[nodiscard]] std::uint64_t steps(std::uint64_t count) noexcept {
  std::uint64_t value = count;
  for (std::uint64_t i = 0; i < count; ++i) {
    value = value * 0x9E3779B97F4A7C15 + 1;
    benchmark::DoNotOptimize(value);
  }
  return value;
}

[[nodiscard]] double steps_per_ns() {
  static const double rate = [] {
    constexpr std::uint64_t count = 200'000;
    double best_ns = std::numeric_limits<double>::max();
    for (int round = 0; round < 50; ++round) {
      const std::uint64_t before = monotonic_ns();
      benchmark::DoNotOptimize(steps(count));
      best_ns = std::min(best_ns, static_cast<double>(monotonic_ns() - before));
    }
    return static_cast<double>(count) / best_ns;
  }();
  return rate;
}

}  // namespace

void work_for(std::uint32_t ns) noexcept {
  benchmark::DoNotOptimize(steps(static_cast<std::uint64_t>(steps_per_ns() * ns)));
}

struct ListeningUnit::Ram {
  alignas(4096) std::array<std::uint64_t, ram_bytes / 8> words{};
};

struct ListeningUnit::Executor {
  explicit Executor(std::uint32_t width) : threads{width} {
    if (viommu_tbb_create(threads, &executor) != VIOMMU_OK) throw std::runtime_error{"the executor was refused"};
    other = meet();
  }
  Executor(const Executor&) = delete;
  Executor& operator=(const Executor&) = delete;
  ~Executor() { viommu_tbb_destroy(executor); }
  /// Returns when each of its threads has run: the one that is not the caller's. That one is kept on a core of its own,
  /// because on a busy machine it is woken on the core of its waker, which has its thread pinned there and goes on.
  [[nodiscard]] pid_t meet() const {
    struct Meeting {
      std::thread::id caller = std::this_thread::get_id();
      std::uint32_t expected;
      pid_t other = 0;
      std::atomic<std::uint32_t> there{0};
    } meeting{.expected = std::min(threads, core_count())};
    viommu_tbb_execute(
        executor, meeting.expected,
        [](void* opaque, std::uint32_t) {
          auto& all = *static_cast<Meeting*>(opaque);
          if (std::this_thread::get_id() != all.caller) {
            pin_this_thread(1);
            all.other = gettid();
          }
          all.there.fetch_add(1);
          while (all.there.load() < all.expected) {  // ends: so many run at a time
          }
        },
        &meeting);
    return meeting.other;
  }
  /// One of each width, to the end of the process: made before any thread is kept on a core.
  [[nodiscard]] static Executor& of(std::uint32_t threads) {
    static Executor one{1};
    static Executor two{2};
    return threads == 1 ? one : two;
  }
  std::uint32_t threads;
  viommu_tbb* executor = nullptr;
  pid_t other = 0;
};

pid_t ListeningUnit::other_thread() { return Executor::of(2).meet(); }
void ListeningUnit::start_threads() { static_cast<void>(Executor::of(2)); }

ListeningUnit::ListeningUnit(const ListenerSetup& setup)
    : setup_{setup},
      told_(std::size_t{setup.domains} * 8),  // a line each
      ram_{std::make_unique<Ram>()},
      executor_{setup.threads == 0 ? nullptr : &Executor::of(setup.threads)},
      host_{functions()},
      waist_{options(), host_},
      unit_{vtd::Capabilities::decode(0x10, 0x80D2'008C'222F'0606, 0xF0'0F42, 48), {}, waist_, host_, {}} {
  work_for(1);
  if (!waist_.reset()) throw std::runtime_error{"no memory"};
  reader_ = waist_.take_reader();
  const GpaRange range{{0}, {ram_bytes - 1}};
  if (waist_.add_region({range, reinterpret_cast<std::byte*>(ram_->words.data()), false}) != core::RegionResult::ok)
    throw std::runtime_error{"the RAM was refused"};
  constexpr std::uint64_t read_write = 3;
  auto& words = ram_->words;
  words[root / 8] = middle | read_write;
  words[middle / 8] = leaves | read_write;
  words[middle / 8 + 1] = (leaves + 0x1000) | read_write;
  // Frames that are no neighbours: each page is cached alone.
  for (std::uint64_t page = 0; page < 1024; ++page) words[leaves / 8 + page] = (page * 2 + 2) << 24 | read_write;
  constexpr std::uint32_t two_pages = 1;
  constexpr std::uint32_t root_pointer = 1U << 30;
  constexpr std::uint32_t queue_enable = 1U << 26;
  unit_.write(vtd::offset::global_command, 4, root_pointer);
  unit_.write(vtd::offset::queue_address, 8, queue | two_pages);
  unit_.write(vtd::offset::global_command, 4, queue_enable);
}

ListeningUnit::~ListeningUnit() { waist_.put_reader(*reader_); }

core::HostFunctions ListeningUnit::functions() noexcept {
  core::HostFunctions made;
  made.opaque = this;
  if (executor_ == nullptr) return made;
  made.execute = [](void* self, std::uint32_t count, void (*task)(void* context, std::uint32_t index), void* context) {
    viommu_tbb_execute(static_cast<ListeningUnit*>(self)->executor_->executor, count, task, context);
  };
  return made;
}

core::WaistOptions ListeningUnit::options() const noexcept {
  core::WaistOptions made{.rules = {.host_address_width = 48},
                          .hash_seed = 77,
                          .iotlb_pages = 16384,
                          .structures = 256,
                          .shards = executor_ == nullptr ? 1U : 16U,
                          .context_entries = 512,
                          .address_spaces = 512,
                          .tag_bits = 12,
                          .readers = 4,
                          .holds = 4,
                          .regions = 4,
                          .fill = core::FillMode::exact};
  if (setup_.work_ns == 0) return made;
  // NOLINTNEXTLINE(cppcoreguidelines-pro-type-const-cast): called when this is no longer const
  made.listener.opaque = const_cast<ListeningUnit*>(this);
  made.listener.range_ns = &range_ns_;
  made.listener.pages = [](void* opaque, std::span<const caches::PageScope> scopes) {
    auto& self = *static_cast<ListeningUnit*>(opaque);
    self.told_[(scopes.front().domain.value - self.setup_.first_id) * std::size_t{8}] += scopes.size();
    for (std::size_t i = 0; i < scopes.size(); ++i) work_for(self.setup_.work_ns);
  };
  made.listener.other = [](void*, const caches::Scope&) {};
  return made;
}

std::uint64_t ListeningUnit::iova(std::uint32_t number) const noexcept {
  return std::uint64_t{number / setup_.domains} * 2 << page_shift;
}

caches::ContextEntry ListeningUnit::context(std::uint32_t domain) noexcept {
  const SourceId source{static_cast<std::uint16_t>(domain)};
  if (const caches::ContextEntry found = waist_.find_context(source)) return found;
  const caches::AddressSpaceKey key{{static_cast<std::uint16_t>(setup_.first_id + domain)},
                                    caches::Interpretation::second_stage,
                                    2,
                                    {root},
                                    {low_bits(39)}};
  return waist_.insert_context(waist_.context_version(), source, key, {});
}

void ListeningUnit::fill(std::uint32_t descriptors) noexcept {
  waist_.enter(*reader_);
  for (std::uint32_t i = 0; i < descriptors; ++i)
    benchmark::DoNotOptimize(
        waist_.translate(*reader_, context(i % setup_.domains).space(), {iova(i)}, read_only).gpa.value);
  waist_.leave(*reader_);
}

void ListeningUnit::put(std::uint32_t descriptors) noexcept {
  auto& words = ram_->words;
  const auto add = [&](std::uint64_t low, std::uint64_t high) {
    words[queue / 8 + tail_ * std::size_t{2}] = low;
    words[queue / 8 + tail_ * std::size_t{2} + 1] = high;
    tail_ = (tail_ + 1) % queue_entries;
  };
  constexpr std::uint64_t tables_unchanged = 1U << 6;
  for (std::uint32_t i = 0; i < descriptors; ++i)
    add(0x32 | std::uint64_t{setup_.first_id + i % setup_.domains} << 16, iova(i) | tables_unchanged);
  add(0x25 | std::uint64_t{++status_} << 32, status_word);
}

void ListeningUnit::run() noexcept {
  unit_.write(vtd::offset::queue_tail, 8, std::uint64_t{tail_} << 4);
  auto* const word = reinterpret_cast<std::uint32_t*>(&ram_->words[status_word / 8]);
  while (std::atomic_ref{*word}.load(std::memory_order_acquire) != status_) unit_.process(0);
}

std::string ListeningUnit::wrong() {
  constexpr std::uint32_t descriptors = 256;
  constexpr std::uint32_t some = 100;
  const auto walks = [&] { return waist_.count(core::Count::walks); };
  fill(descriptors);
  const std::uint64_t before = walks();
  fill(descriptors);
  if (walks() != before) return "what was asked for is not cached";
  std::ranges::fill(told_, 0);
  put(some);
  run();
  fill(descriptors);
  if (walks() != before + some) return "not what was named was dropped";
  std::uint64_t told = 0;
  for (const std::uint64_t ranges : told_) told += ranges;
  if (setup_.work_ns != 0 && told != some) return "not all that was dropped was told";
  return {};
}

}  // namespace viommu::bench
