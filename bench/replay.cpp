// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What does it cost to keep a consumer's mappings equal to the guest's tables?
//
//   replay_first<T>/SHAPE/TABLES           a consumer comes, and is told of all that is mapped
//   replay_unchanged<T>/SHAPE/TABLES       the guest drops the domain; nothing has changed
//   replay_one_changed<T>/SHAPE/TABLES     the same, and one page has moved
//   replay_domain_moved<T>/SHAPE/TABLES    the device changes to a domain that maps all its pages elsewhere
//
// Items are entries of leaf tables, mapped or not: 16,384 tables are 64 MiB and map 32 GiB. Timed is from what the
// guest, or the consumer, does until it sees that it is done. The consumer counts its events, and has no host to tell.
// Floor reads all the tables once, prefetched, and adds their words up. QemuShape is given the first 1 Mi entries.
#include <benchmark/benchmark.h>

#include <exception>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "bench/support/library_replay_side.hpp"
#include "bench/support/qemu_replay_side.hpp"
#include "bench/support/question.hpp"
#include "bench/support/replay_guest.hpp"
#include "bench/support/stopwatch.hpp"

namespace viommu::bench {
namespace {

using Key = std::pair<Shape, std::int64_t>;

[[nodiscard]] ReplayGuest& guest_of(const Key& key) {
  static std::map<Key, std::unique_ptr<ReplayGuest>> guests;
  std::unique_ptr<ReplayGuest>& guest = guests[key];
  if (!guest) guest = std::make_unique<ReplayGuest>(key.first, static_cast<std::uint32_t>(key.second));
  return *guest;
}

/// A side with a consumer, seen to tell it what the tables say; each guest's page that moves goes back and forth.
template <class Side>
class Bed {
 public:
  explicit Bed(ReplayGuest& guest) : guest_{guest} {
    try {
      side_ = std::make_unique<Side>(guest);
      wrong_ = check();
    } catch (const std::exception& problem) {
      wrong_ = problem.what();
    }
  }
  Bed(const Bed&) = delete;
  Bed& operator=(const Bed&) = delete;

  [[nodiscard]] const std::string& wrong() const noexcept { return wrong_; }
  [[nodiscard]] Side& side() noexcept { return *side_; }

  void begin() {
    if (!begun_) side_->begin();
    begun_ = true;
  }
  void end() {
    if (begun_) side_->end();
    begun_ = false;
  }
  void attach_other() {
    domain_ ^= 1;
    side_->attach(domain_);
  }
  /// A mapped page, another one each time.
  void move_page() {
    constexpr std::uint64_t elsewhere = std::uint64_t{1} << 38;  // in the same half of the frames
    std::uint64_t slot = 0;
    do {  // ends: one page in 64 is mapped, whatever the shape
      slot = guest_.slot(domain_, static_cast<std::uint32_t>(mixed(moves_++)) & (side_->pages() - 1));
    } while (guest_.load(slot) == 0);
    guest_.store(slot, guest_.load(slot) ^ elsewhere);
  }

 private:
  [[nodiscard]] std::string check() {
    Mirror mirror{side_->pages()};
    side_->mirror_to(&mirror);
    std::uint64_t told = 0;
    std::string wrong;
    const auto compare = [&](const char* when, std::uint64_t least, std::uint64_t most) {
      if (!wrong.empty()) return;
      wrong = mirror.compare(guest_, domain_, told);
      if (wrong.empty() && (told < least || told > most)) wrong = std::to_string(told) + " events";
      if (!wrong.empty()) wrong += std::string{" "} + when;
    };
    constexpr std::uint64_t any = ~std::uint64_t{0};
    begin();
    compare("of a first replay", 1, any);
    side_->drop_domain();
    compare("where nothing changed", 0, 0);
    move_page();
    side_->drop_domain();
    compare("where a page moved", 2, 5);  // its unit in up to three pieces
    attach_other();
    compare("in another domain", 2, any);
    attach_other();
    compare("back again", 2, any);
    end();
    side_->mirror_to(nullptr);
    return wrong;
  }

  ReplayGuest& guest_;
  std::unique_ptr<Side> side_;
  std::string wrong_;
  std::uint64_t moves_ = 0;
  std::uint32_t domain_ = 0;
  bool begun_ = false;
};

template <class Side>
[[nodiscard]] Bed<Side>& bed_of(const Key& key) {
  static std::map<Key, std::unique_ptr<Bed<Side>>> beds;
  std::unique_ptr<Bed<Side>>& bed = beds[key];
  if (!bed) bed = std::make_unique<Bed<Side>>(guest_of(key));
  return *bed;
}

/// Times what `turn()` gives back, a part of it, of `items`: the quietest of some turns each time.
template <class Turn>
void measure_turns(benchmark::State& state, std::int64_t items, Turn turn) {
  pin_this_thread();
  static_cast<void>(turn());
  Disturbance disturbance;
  for (auto _ : state) {
    const Elapsed elapsed = quietest(turn);
    state.SetIterationTime(elapsed.ns * 1e-9);
    disturbance.add(elapsed.waited_part);
  }
  state.SetItemsProcessed(state.iterations() * items);
  disturbance.tell(state);
}

/// Times `act(bed)` after `prepare(bed)`.
template <class Side, class Prepare, class Act>
void measure_bed(benchmark::State& state, Shape shape, Prepare prepare, Act act) {
  Bed<Side>& bed = bed_of<Side>({shape, state.range(0)});
  if (!bed.wrong().empty()) return state.SkipWithError(bed.wrong().c_str());
  std::uint64_t events = 0;
  measure_turns(state, bed.side().pages(), [&] {
    prepare(bed);
    const std::uint64_t before = bed.side().told();
    const Stopwatch stopwatch;
    act(bed);
    const Elapsed elapsed = stopwatch.stop();
    events = bed.side().told() - before;
    return elapsed;
  });
  state.counters["events"] = static_cast<double>(events);
}

template <class Side>
void first(benchmark::State& state, Shape shape) {
  measure_bed<Side>(state, shape, [](Bed<Side>& bed) { bed.end(); }, [](Bed<Side>& bed) { bed.begin(); });
}

template <class Side>
void unchanged(benchmark::State& state, Shape shape) {
  measure_bed<Side>(
      state, shape, [](Bed<Side>& bed) { bed.begin(); }, [](Bed<Side>& bed) { bed.side().drop_domain(); });
}

template <class Side>
void one_changed(benchmark::State& state, Shape shape) {
  const auto move = [](Bed<Side>& bed) {
    bed.begin();
    bed.move_page();
  };
  measure_bed<Side>(state, shape, move, [](Bed<Side>& bed) { bed.side().drop_domain(); });
}

template <class Side>
void domain_moved(benchmark::State& state, Shape shape) {
  measure_bed<Side>(state, shape, [](Bed<Side>& bed) { bed.begin(); }, [](Bed<Side>& bed) { bed.attach_other(); });
}

struct Floor {
  static constexpr const char* name = "Floor";
};

void read_all(benchmark::State& state, Shape shape) {
  const ReplayGuest& guest = guest_of({shape, state.range(0)});
  std::uint64_t sum = 0;
  measure_turns(state, std::int64_t{guest.tables()} * ReplayGuest::table_pages, [&] {
    const Stopwatch stopwatch;
    for (std::uint32_t number = 0; number < guest.tables(); ++number) {
      constexpr std::uint32_t ahead = 2;
      const auto* const words = reinterpret_cast<const std::uint64_t*>(guest.host_table(0, number));
      const std::byte* const later = guest.host_table(0, (number + ahead) & (guest.tables() - 1));
      constexpr std::size_t line = 8;
      for (std::size_t at = 0; at < ReplayGuest::table_pages; at += line) {
        __builtin_prefetch(later + at * sizeof(std::uint64_t));
        for (std::size_t i = 0; i < line; ++i) sum += words[at + i];
      }
    }
    return stopwatch.stop();
  });
  benchmark::DoNotOptimize(sum);
}

using Run = void (*)(benchmark::State&, Shape);

template <class Translator>
void add_question(const std::string& question, Run run) {
  constexpr int chunks = 5;
  for (const Shape shape : all_shapes) {
    const std::string name = question + '<' + Translator::name + ">/" + name_of(shape);
    benchmark::RegisterBenchmark(name.c_str(), [run, shape](benchmark::State& state) { run(state, shape); })
        ->UseManualTime()
        ->Iterations(chunks)
        ->Arg(256)
        ->Arg(16384);
  }
}

template <class Side>
void add_side() {
  add_question<Side>("replay_first", &first<Side>);
  add_question<Side>("replay_unchanged", &unchanged<Side>);
  add_question<Side>("replay_one_changed", &one_changed<Side>);
  add_question<Side>("replay_domain_moved", &domain_moved<Side>);
}

void add_all() {
  add_side<LibraryReplaySide>();
  add_side<QemuReplaySide>();
  for (const char* const question : {"replay_first", "replay_unchanged", "replay_one_changed", "replay_domain_moved"})
    add_question<Floor>(question, &read_all);
}

}  // namespace
}  // namespace viommu::bench

int main(int count, char** words) { return viommu::bench::run_question(count, words, &viommu::bench::add_all); }
