// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What do walks of scalable mode cost in lanes, and what does each cost alone?
//
//   first_stage_walk<T>/LEAF_TABLES/IN_FLIGHT    accessed and dirty flags in all three, all of them set already
//   second_stage_walk<T>/LEAF_TABLES/IN_FLIGHT
//   nested_walk<T>/LEAF_TABLES/IN_FLIGHT         as many leaf tables in each stage: 16 lie in L1 or L2, 2,048 in L3,
//                                                131,072 (512 MiB twice) in memory
//   nested_run<T>/LEAF_TABLES/IN_FLIGHT          the same for pages in a row, which share their tables
//
// Four levels of 4 KiB pages, full leaf tables in shuffled order, random pages to write to. T is the kernel: Lanes is
// the one that this CPU is given, Scalar the walk by itself. Nothing is cached; no context, no counter is in the time.
#include <sys/mman.h>

#include <map>
#include <memory>
#include <new>
#include <optional>
#include <span>
#include <vector>

#include "bench/support/question.hpp"
#include "walkers/batch.hpp"
#include "walkers/simd/select.hpp"

namespace viommu::bench {
namespace {

constexpr unsigned levels = 4;
constexpr std::uint64_t entries = 512;
constexpr std::uint64_t page_bytes = 4096;

/// Guest tables of both stages over the same pages. The second stage maps a table where it is, and a page elsewhere.
class StageTables {
 public:
  explicit StageTables(std::uint64_t leaf_tables)
      : pages_{leaf_tables * entries}, ram_bytes_{(3 * leaf_tables + 4096) * page_bytes} {
    void* const memory =
        mmap(nullptr, ram_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc{};
    static_cast<void>(madvise(memory, ram_bytes_, MADV_HUGEPAGE));  // as VMMs ask for their guests
    span_ = {{0}, ram_bytes_ - 1, static_cast<std::byte*>(memory)};
    for (std::uint64_t page = 0; page < pages_; page += entries) {
      leaf_table(first_root, iova(shuffled(page)), first_entry);
      leaf_table(second_root, first_frame(shuffled(page)), second_entry);
    }
    for (std::uint64_t page = 0; page < pages_; ++page) {
      word(leaf_table(first_root, iova(page), first_entry) + iova(page) / page_bytes % entries * 8) =
          first_frame(page) | first_entry;
      const std::uint64_t frame = first_frame(page);
      word(leaf_table(second_root, frame, second_entry) + frame / page_bytes % entries * 8) =
          second_frame(frame) | second_entry;
    }
    // Tables of the second stage that map tables: the last ones cover themselves.
    for (std::uint64_t table = first_root; table < next_; table += page_bytes)
      word(leaf_table(second_root, table, second_entry) + table / page_bytes % entries * 8) = table | second_entry;
  }
  StageTables(const StageTables&) = delete;
  StageTables& operator=(const StageTables&) = delete;
  ~StageTables() { munmap(span_.host, ram_bytes_); }

  [[nodiscard]] std::uint64_t pages() const noexcept { return pages_; }
  [[nodiscard]] MemoryView view() const noexcept {
    MemoryView view;
    view.spans = {&span_, 1};
    view.any_u64 = [](const void*, Gpa) noexcept { return std::optional<std::uint64_t>{}; };
    view.any_line = [](const void*, Gpa, Line&) noexcept { return false; };
    return view;
  }
  [[nodiscard]] static std::uint64_t iova(std::uint64_t page) noexcept {
    return (std::uint64_t{1} << 32) + page * page_bytes;
  }
  /// No two neighbouring pages of the second stage are neighbours, of the first those of one leaf table are.
  [[nodiscard]] std::uint64_t first_frame(std::uint64_t page) const noexcept {
    return data + (shuffled(page) + page % entries) * page_bytes;
  }
  [[nodiscard]] static std::uint64_t second_frame(std::uint64_t address) noexcept {
    return (address ^ moved) & ~low_bits(12);
  }

  static constexpr std::uint64_t first_root = 0x1000;
  static constexpr std::uint64_t second_root = 0x2000;

 private:
  static constexpr std::uint64_t data = std::uint64_t{1} << 40;
  static constexpr std::uint64_t moved = (std::uint64_t{1} << 41) | 0x5000;
  static constexpr std::uint64_t first_entry = 0x67;    // P, R/W, U/S, A, D
  static constexpr std::uint64_t second_entry = 0x303;  // R, W, A, D

  /// The page whose leaf table comes in the place of this one's; a power of two of them.
  [[nodiscard]] std::uint64_t shuffled(std::uint64_t page) const noexcept {
    return (page / entries * 0x9E3779B1 & (pages_ / entries - 1)) * entries;
  }
  [[nodiscard]] std::uint64_t& word(std::uint64_t gpa) const noexcept {
    return *reinterpret_cast<std::uint64_t*>(span_.host + gpa);
  }
  std::uint64_t leaf_table(std::uint64_t root, std::uint64_t address, std::uint64_t bits) {
    std::uint64_t table = root;
    for (unsigned level = levels - 1; level != 0; --level) {
      std::uint64_t& entry = word(table + (address >> (12 + 9 * level)) % entries * 8);
      if (entry == 0) {
        if (next_ == ram_bytes_) throw std::bad_alloc{};
        entry = next_ | (bits & 0x127);
        next_ += page_bytes;
      }
      table = entry & ~low_bits(12);
    }
    return table;
  }

  std::uint64_t pages_;
  std::size_t ram_bytes_;
  MemorySpan span_;
  std::uint64_t next_ = 0x3000;
};

[[nodiscard]] const StageTables& tables_of(std::int64_t leaf_tables) {
  static std::map<std::int64_t, std::unique_ptr<StageTables>> all;
  std::unique_ptr<StageTables>& one = all[leaf_tables];
  if (!one) one = std::make_unique<StageTables>(static_cast<std::uint64_t>(leaf_tables));
  return *one;
}

struct Lanes {
  static constexpr const char* name = "Lanes";
  static const walkers::Kernels& kernels() { return *walkers::select_kernels(""); }
};
struct Scalar {
  static constexpr const char* name = "Scalar";
  static const walkers::Kernels& kernels() { return *walkers::select_kernels("scalar"); }
};

/// What is asked of a kernel, and what is right.
struct FirstStageQuestion {
  using Request = walkers::FirstStageRequest;
  using Answer = walkers::FirstStageAnswer;
  walkers::FirstStage format{{}, {}};

  static Request request(const StageTables&, std::uint64_t page) noexcept {
    return {{StageTables::first_root}, {StageTables::iova(page)}, read_write, walkers::Privilege::user, false};
  }
  void walk(const walkers::Kernels& kernels, const MemoryView& memory, std::span<const Request> requests,
            Answer* answers) const noexcept {
    kernels.walk_first_stage(format, memory, requests.data(), answers, requests.size());
  }
  static bool right(const StageTables& tables, std::uint64_t page, const Answer& answer) noexcept {
    return answer.end == walkers::FirstStageEnd::leaf && answer.frame.value == tables.first_frame(page);
  }
};

struct SecondStageQuestion {
  using Request = walkers::SecondStageRequest;
  using Answer = walkers::SecondStageAnswer;
  walkers::SecondStage format{walkers::SecondStageRules{}};
  walkers::SecondStageControls controls{.flags = true};

  static Request request(const StageTables& tables, std::uint64_t page) noexcept {
    return {{StageTables::second_root}, {tables.first_frame(page)}, read_write, levels - 1};
  }
  void walk(const walkers::Kernels& kernels, const MemoryView& memory, std::span<const Request> requests,
            Answer* answers) const noexcept {
    kernels.walk_second_stage(format, controls, memory, requests.data(), answers, requests.size());
  }
  static bool right(const StageTables& tables, std::uint64_t page, const Answer& answer) noexcept {
    return answer.end == walkers::SecondStageEnd::leaf &&
           answer.frame.value == StageTables::second_frame(tables.first_frame(page));
  }
};

struct NestedQuestion {
  using Request = walkers::FirstStageRequest;
  using Answer = walkers::NestedAnswer;
  walkers::NestedStages stages{FirstStageQuestion{}.format,
                               SecondStageQuestion{}.format,
                               {.flags = true},
                               {StageTables::second_root},
                               levels - 1,
                               48};

  static Request request(const StageTables& tables, std::uint64_t page) noexcept {
    return FirstStageQuestion::request(tables, page);
  }
  void walk(const walkers::Kernels& kernels, const MemoryView& memory, std::span<const Request> requests,
            Answer* answers) const noexcept {
    kernels.walk_nested(stages, memory, requests.data(), answers, requests.size());
  }
  static bool right(const StageTables& tables, std::uint64_t page, const Answer& answer) noexcept {
    return answer.end == walkers::NestedEnd::leaf && answer.dirty &&
           answer.frame.value == StageTables::second_frame(tables.first_frame(page));
  }
};

/// Pages at random, or in a row from a random one on.
enum class Order : std::uint8_t { random, row };

template <class Question, class Kernel>
void walks(benchmark::State& state, Together& together, Order order) {
  const StageTables& tables = tables_of(state.range(0));
  const auto width = static_cast<std::size_t>(state.range(1));
  const Question question;
  const MemoryView memory = tables.view();
  std::vector<typename Question::Request> requests(width);
  std::vector<typename Question::Answer> answers(width);
  const auto page_at = [&](std::uint64_t count) {
    const std::uint64_t page = order == Order::row ? mixed(count / width) + count % width : mixed(count);
    return page & (tables.pages() - 1);
  };
  const auto ask = [&](std::uint64_t first) {
    for (std::size_t i = 0; i < width; ++i) requests[i] = Question::request(tables, page_at(first + i));
    question.walk(Kernel::kernels(), memory, requests, answers.data());
  };
  for (std::uint64_t first = 0; first < width * 1024; first += width) {
    ask(first);
    for (std::size_t i = 0; i < width; ++i)
      if (!Question::right(tables, page_at(first + i), answers[i]))
        return state.SkipWithError("wrong answers are not timed");
  }
  std::uint64_t asked = 0;
  measure(state, together, width, [&](std::uint64_t count) {
    for (std::uint64_t done = 0; done < count; done += width) {
      ask(asked);
      benchmark::DoNotOptimize(answers.data());
      benchmark::ClobberMemory();
      asked += width;
    }
  });
}

template <class Question, class Kernel>
void add_walks(const std::string& name, const std::vector<Arguments>& arguments, Order order = Order::random) {
  add<Kernel>(name, arguments, [order](benchmark::State& state, Together& together) {
    walks<Question, Kernel>(state, together, order);
  });
}

template <class Kernel>
void add_kernel() {
  std::vector<Arguments> all;
  for (const std::int64_t leaf_tables : {16, 2048, 131072})
    for (const std::int64_t in_flight : {1, 8, 20, 64}) all.push_back({leaf_tables, in_flight});
  add_walks<FirstStageQuestion, Kernel>("first_stage_walk", all);
  add_walks<SecondStageQuestion, Kernel>("second_stage_walk", all);
  add_walks<NestedQuestion, Kernel>("nested_walk", all);
  add_walks<NestedQuestion, Kernel>("nested_run", {{16, 64}, {2048, 64}, {131072, 64}}, Order::row);
}

void add_all() {
  add_kernel<Lanes>();
  add_kernel<Scalar>();
}

}  // namespace
}  // namespace viommu::bench

int main(int count, char** words) { return viommu::bench::run_question(count, words, &viommu::bench::add_all); }
