// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What do the mappings of a virtio-iommu domain cost, by how many there are?
//
//   virtio_translate<T>/SHAPE/MAPPINGS[/threads:N]   a random mapped page; items are translations
//   virtio_map<T>/SHAPE/MAPPINGS                     a page that was free; items are requests
//   virtio_unmap<T>/SHAPE/MAPPINGS                   a random mapped page
//
// Shapes: dense, pages one after another; sparse, anywhere below 2^48, never twice at the same place. The domain was
// filled in random order. Viommu is the store inside a guard, and a drain after each 64 requests, as a queue has them:
// no decoding of requests, no cache in front, on either side. ViommuCalls is the whole device behind the C interface:
// requests as their bytes, each answered when its drain is over, and the translate call with its IOTLB and its checks;
// the peers are the same bare stores. Floor is one load from an array of 16 bytes a mapping.
// Lookups go on for 20 ms before they are timed: a side's mappings do not fit in the CPU's caches together with another
// side's, and what is asked is not how soon they come back after that one had its turn.
#include <benchmark/benchmark.h>

#include <exception>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "bench/peers/gtree_mutex.hpp"
#include "bench/peers/shared_mutex_intervals.hpp"
#include "bench/support/mapping_set.hpp"
#include "bench/support/question.hpp"
#include "bench/support/sections.hpp"
#include "bench/support/stopwatch.hpp"
#include "bench/support/virtio_calls.hpp"
#include "caches/epoch.hpp"
#include "engine/virtio_iommu/mappings.hpp"

namespace viommu::bench {
namespace {

constexpr std::uint64_t page_last = MappingSet::page_bytes - 1;

class Store {
 public:
  static constexpr const char* name = "Viommu";
  Store() {
    if (!epochs_.reset({}, {words_, {}}, caches::Drain::automatic)) throw std::bad_alloc{};
    epochs_.use(words_.back());
  }

  [[nodiscard]] bool map(std::uint64_t first, std::uint64_t last, std::uint64_t gpa) {
    const bool inserted = mappings_.insert({{{first}, {last}}, {gpa}, read_write, false}) == virtio_iommu::Inserted::ok;
    if (++requests_ % 64 == 0) settle();
    return inserted;
  }
  [[nodiscard]] bool unmap(std::uint64_t first, std::uint64_t last) {
    const bool removed =
        mappings_.remove({{first}, {last}}, 256, [](const virtio_iommu::Mapping&) {}) == virtio_iommu::Removed::all;
    if (++requests_ % 64 == 0) settle();
    return removed;
  }
  /// What is between two requests whose answers are shown.
  void settle() {
    const std::uint64_t ticket = epochs_.advance();
    nodes_.seal(ticket);
    static_cast<void>(epochs_.scan(ticket));
    static_cast<void>(nodes_.reclaim(epochs_.completed(), 1024));
  }
  [[nodiscard]] double bytes_per_mapping() const {
    return static_cast<double>(nodes_.bytes()) / static_cast<double>(mappings_.size());
  }

  class Port {
   public:
    Port(Store& store, std::size_t thread) : store_{store}, word_{store.words_[thread]} {}
    [[nodiscard]] std::uint64_t translate(std::uint64_t iova) {
      store_.epochs_.enter(word_);
      const auto found = store_.mappings_.find({iova});
      const std::uint64_t gpa = found ? found->gpa.value + (iova - found->range.first.value) : ~std::uint64_t{0};
      store_.epochs_.leave(word_);
      return gpa;
    }

   private:
    Store& store_;
    caches::GuardWord& word_;
  };

 private:
  // Of each thread that reads, and of who changes.
  std::vector<caches::GuardWord> words_{std::size_t{core_count()} + 2};
  caches::Epochs epochs_;
  virtio_iommu::MappingNodes nodes_{{}, {std::uint64_t{1} << 32, std::uint64_t{1} << 34}};
  virtio_iommu::Mappings mappings_{nodes_};
  std::uint64_t requests_ = 0;
};

/// A domain that has been filled, and each answer of it seen to be right.
template <class Translator>
class Domain {
 public:
  explicit Domain(const MappingSet& set) : set_{set}, lives_(set.count()) {
    for (std::uint64_t turn = 0; turn < set.count(); ++turn)
      if (!map(set.slot(turn))) wrong_ = "a MAP is refused";
    translator_.settle();
    typename Translator::Port port{translator_, 0};
    for (std::uint64_t slot = 0; slot < set.count(); ++slot) {
      const std::uint64_t iova = set.iova(slot, 0);
      if (port.translate(iova) != MappingSet::gpa(iova) ||
          port.translate(iova + page_last) != MappingSet::gpa(iova) + page_last) {
        wrong_ = "wrong answers are not timed";
      }
    }
    for (std::uint64_t turn = 0; turn < 64; ++turn) {
      const std::uint64_t slot = set.slot(turn);
      const std::uint64_t iova = set.iova(slot, 0);
      if (!unmap(slot) || ~port.translate(iova) != 0) wrong_ = "an UNMAP is not done";
      --lives_[slot];
      if (!map(slot)) wrong_ = "a MAP is refused";
    }
  }

  [[nodiscard]] const std::string& wrong() const noexcept { return wrong_; }
  [[nodiscard]] const MappingSet& set() const noexcept { return set_; }
  [[nodiscard]] Translator& translator() noexcept { return translator_; }
  [[nodiscard]] std::uint64_t iova(std::uint64_t slot) const noexcept { return set_.iova(slot, lives_[slot]); }
  void moves(std::uint64_t slot) noexcept { ++lives_[slot]; }

 private:
  [[nodiscard]] bool map(std::uint64_t slot) {
    const std::uint64_t first = iova(slot);
    return translator_.map(first, first + page_last, MappingSet::gpa(first));
  }
  [[nodiscard]] bool unmap(std::uint64_t slot) {
    const std::uint64_t first = iova(slot);
    moves(slot);
    return translator_.unmap(first, first + page_last);
  }

  MappingSet set_;
  std::vector<std::uint32_t> lives_;
  Translator translator_;
  std::string wrong_;
};

/// Those that only translate keep the addresses they began with.
enum class Use : std::uint8_t { translate, change };

template <class Translator>
[[nodiscard]] Domain<Translator>& domain_of(Use use, MapShape shape, std::int64_t count) {
  static std::map<std::pair<Use, std::pair<MapShape, std::int64_t>>, std::unique_ptr<Domain<Translator>>> domains;
  std::unique_ptr<Domain<Translator>>& domain = domains[{use, {shape, count}}];
  if (!domain) domain = std::make_unique<Domain<Translator>>(MappingSet{shape, static_cast<std::uint64_t>(count)});
  return *domain;
}

/// As long for each side: see above.
template <class Ask>
void settle_caches(const Ask& ask) {
  constexpr double settled_ns = 20e6;
  for (const Stopwatch stopwatch; stopwatch.stop().ns < settled_ns;) ask(256);
}

template <class Translator>
void translate(benchmark::State& state, Together& together, MapShape shape) {
  Domain<Translator>* domain = nullptr;
  static std::mutex building;
  {
    const std::lock_guard lock{building};
    domain = &domain_of<Translator>(Use::translate, shape, state.range(0));
  }
  if (!domain->wrong().empty()) return state.SkipWithError(domain->wrong().c_str());
  const MappingSet& set = domain->set();
  const auto thread = static_cast<std::size_t>(state.thread_index());
  typename Translator::Port port{domain->translator(), thread};
  std::uint64_t asked = thread << 40;
  const auto ask = [&](std::uint64_t count) {
    std::uint64_t sum = 0;
    for (const std::uint64_t end = asked + count; asked != end; ++asked)
      sum += port.translate(set.iova(mixed(asked) & (set.count() - 1), 0) + 64);
    benchmark::DoNotOptimize(sum);
  };
  settle_caches(ask);
  measure(state, together, 256, ask);
  if constexpr (requires { domain->translator().bytes_per_mapping(); })
    state.counters["bytes_per_entry"] =
        benchmark::Counter{domain->translator().bytes_per_mapping(), benchmark::Counter::kAvgThreads};
}

void one_load(benchmark::State& state, Together& together, MapShape /*shape*/) {
  struct alignas(16) Word {
    std::uint64_t value;
  };
  const std::vector<Word> words(static_cast<std::size_t>(state.range(0)), Word{1});
  const std::uint64_t mask = words.size() - 1;
  std::uint64_t asked = 0;
  const auto ask = [&](std::uint64_t count) {
    std::uint64_t sum = 0;
    for (const std::uint64_t end = asked + count; asked != end; ++asked) sum += words[mixed(asked) & mask].value;
    benchmark::DoNotOptimize(sum);
  };
  settle_caches(ask);
  measure(state, together, 256, ask);
}

/// 256 random mappings go and others come. @param maps  whether the latter is what is timed
template <class Translator>
void change(benchmark::State& state, MapShape shape, bool maps) {
  Domain<Translator>& domain = domain_of<Translator>(Use::change, shape, state.range(0));
  if (!domain.wrong().empty()) return state.SkipWithError(domain.wrong().c_str());
  constexpr std::size_t length = 256;
  std::vector<std::uint64_t> gone(length);
  std::vector<std::uint64_t> come(length);
  std::uint64_t turn = 0;
  std::size_t refused = 0;
  measure_sections(state, length, [&](Sections& sections) {
    for (std::size_t i = 0; i < length; ++i) {
      const std::uint64_t slot = domain.set().slot(turn++);
      gone[i] = domain.iova(slot);
      domain.moves(slot);
      come[length - 1 - i] = domain.iova(slot);
    }
    const auto unmap_all = [&] {
      for (const std::uint64_t first : gone)
        if (!domain.translator().unmap(first, first + page_last)) ++refused;
    };
    const auto map_all = [&] {
      for (const std::uint64_t first : come)
        if (!domain.translator().map(first, first + page_last, MappingSet::gpa(first))) ++refused;
    };
    if (maps) {
      unmap_all();
      sections.time(map_all);
    } else {
      sections.time(unmap_all);
      map_all();
    }
  });
  if (refused != 0) state.SkipWithError("wrong answers are not timed");
}

const std::vector<Arguments> sizes{{1024}, {65536}, {1 << 20}};

[[nodiscard]] std::string name_of(const char* question, const char* translator, MapShape shape) {
  return std::string{question} + '<' + translator + ">/" + (shape == MapShape::dense ? "dense" : "sparse");
}

template <class Run>
void add_lookups(const char* translator, MapShape shape, Run run) {
  for (const int threads : thread_counts()) {
    const auto together = std::make_shared<Together>(static_cast<unsigned>(threads));
    const std::string name = name_of("virtio_translate", translator, shape);
    auto* const registered = benchmark::RegisterBenchmark(
        name.c_str(), [run, shape, together](benchmark::State& state) { run(state, *together, shape); });
    registered->UseManualTime();
    if (threads > 1) registered->Threads(threads);
    for (const Arguments& size : sizes) registered->Args(size);
  }
}

template <class Translator>
void add_changes(const char* question, MapShape shape, bool maps) {
  constexpr int chunks = 5;
  const std::string name = name_of(question, Translator::name, shape);
  auto* const registered = benchmark::RegisterBenchmark(
      name.c_str(), [shape, maps](benchmark::State& state) { change<Translator>(state, shape, maps); });
  registered->UseManualTime()->Iterations(chunks);
  for (const Arguments& size : sizes) registered->Args(size);
}

template <class Translator>
void add_side() {
  for (const MapShape shape : {MapShape::dense, MapShape::sparse}) {
    add_lookups(Translator::name, shape, &translate<Translator>);
    add_changes<Translator>("virtio_map", shape, true);
    add_changes<Translator>("virtio_unmap", shape, false);
  }
}

void add_all() {
  add_side<Store>();
  add_side<VirtioCalls>();
  add_side<GTreeMutex>();
  add_side<SharedMutexIntervals>();
  for (const MapShape shape : {MapShape::dense, MapShape::sparse}) add_lookups("Floor", shape, &one_load);
}

}  // namespace
}  // namespace viommu::bench

int main(int count, char** words) { return viommu::bench::run_question(count, words, &viommu::bench::add_all); }
