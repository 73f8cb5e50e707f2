// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Many threads translate while one guest changes tables and invalidates through the queue.
//
// Every page's address names its owner (domain and page) and the change that put it there (generation), so whatever is
// wrong is visible in the answer. For each page two words are kept beside the tables:
//   newest   raised before the table is written: no answer may be newer
//   settled  raised after the guest has seen the wait descriptor's status: no answer asked for later may be older
// and for the drain rule: an answer got inside a guard, or kept by a hold, may not become older than `settled` before
// that guard or hold ends, because the completion must wait for it.
#include <algorithm>
#include <array>
#include <atomic>
#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <sstream>
#include <string>
#include <thread>
#include <vector>
#include <viommu/viommu.hpp>

#include "tests/support/guarded_region.hpp"
#include "tests/support/guest_tables.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/random.hpp"
#include "tests/support/vtd_driver.hpp"

namespace viommu::test {
namespace {

constexpr unsigned haw = 52;
constexpr std::size_t domains = 4;
constexpr std::size_t pages = 24;
constexpr std::size_t large_from = 20;      // pages from here on are 2 MiB, those before are neighbours of 4 KiB
constexpr std::uint16_t wanderer = 0x0200;  // the device that moves from domain to domain
constexpr std::uint64_t region_bytes = 0x100000;

[[nodiscard]] std::uint16_t source_of(std::size_t domain) { return static_cast<std::uint16_t>(domain << 8 | 0x10); }
[[nodiscard]] std::uint16_t id_of(std::size_t domain) { return static_cast<std::uint16_t>(domain + 1); }
[[nodiscard]] bool is_large(std::size_t page) { return page >= large_from; }
[[nodiscard]] std::uint64_t iova_of(std::size_t page) {
  return is_large(page) ? 0x80000000 + page * 0x200000 : 0x40000000 + page * 0x1000;
}

/// Half of what happens concerns a few pages of one domain, so that walks and changes of one page do meet.
[[nodiscard]] std::size_t some_domain(Random& random) { return random.chance(1, 2) ? 0 : random.below(domains); }
[[nodiscard]] std::size_t some_page(Random& random) {
  return random.chance(1, 2) ? large_from - 1 + random.below(2) : random.below(pages);
}

/// What an address says about itself: [51:48] domain + 1, [47:42] the large page or the block of small ones, below that
/// the generation, and of a small page its place in the block. Neighbours of one generation go on alike, so they may be
/// cached together.
struct Label {
  std::size_t domain;
  std::size_t page;
  std::uint64_t generation;
};
[[nodiscard]] std::uint64_t address_of(const Label& label) {
  const std::uint64_t owner = label.domain + 1;
  const std::uint64_t page = label.page;
  if (is_large(page)) return owner << 48 | page << 42 | label.generation << 21;
  return owner << 48 | page / 8 << 42 | label.generation << 15 | page % 8 << 12;
}
[[nodiscard]] Label label_of(std::uint64_t gpa) {
  const std::size_t owned = gpa >> 42 & 0x3F;
  const std::uint64_t low = gpa & ((std::uint64_t{1} << 42) - 1);
  if (is_large(owned)) return {(gpa >> 48) - 1, owned, low >> 21};
  return {(gpa >> 48) - 1, owned * 8 + (gpa >> 12 & 7), low >> 15};
}

/// Every fourth generation of a page is "not mapped".
[[nodiscard]] bool mapped_in(std::uint64_t generation) { return generation % 4 != 3; }

/// The life of one page, or of the wandering device's context entry.
struct History {
  std::atomic<std::uint64_t> newest{0};
  std::atomic<std::uint64_t> settled{0};
};

/// A fault says only "not mapped": some generation the answer may have come from must be of that kind.
[[nodiscard]] bool gap_between(std::uint64_t first, std::uint64_t last) {
  for (std::uint64_t generation = first; generation <= last && generation < first + 4; ++generation) {
    if (!mapped_in(generation)) return true;
  }
  return false;
}

/// The wanderer is in domain (n / 2) % domains in even generations n, and nowhere in odd ones.
[[nodiscard]] std::size_t wanderer_domain(std::uint64_t generation) { return generation / 2 % domains; }

struct Shape {
  bool mapped = true;  // guest memory mapped into the process; else behind callbacks that dawdle after each load
  bool tiny = false;   // caches so small that everything is evicted all the time
  std::uint32_t drain = VIOMMU_DRAIN_DEFAULT;
  std::uint32_t fill = VIOMMU_FILL_DEFAULT;
};

class Machine {
 public:
  explicit Machine(const Shape& shape) : engine_{create(shape)} {
    if (shape.mapped) {
      REQUIRE(engine_.add_region(region_.gpa(), {region_.data(), region_.length()}) == VIOMMU_OK);
    }
    for (std::size_t domain = 0; domain < domains; ++domain) {
      trees_[domain] = tables_.create_tree(3 + static_cast<unsigned>(domain % 3));
      for (std::size_t page = 0; page < pages; ++page) write_page(domain, page, 0);
      ContextFields fields;
      fields.domain_id = id_of(domain);
      tables_.attach(source_of(domain), trees_[domain], fields);
    }
    write_wanderer(0);
    driver_.set_root_table(tables_.root_table());
    driver_.enable_queue();
    driver_.enable_translation(true);
  }

  [[nodiscard]] Engine& engine() { return engine_; }
  [[nodiscard]] VtdDriver& driver() { return driver_; }

  void write_page(std::size_t domain, std::size_t page, std::uint64_t generation) {
    const unsigned level = is_large(page) ? 2 : 1;
    if (mapped_in(generation)) {
      tables_.map(trees_[domain], iova_of(page), address_of({domain, page, generation}), entry_read_write, level);
    } else {
      tables_.unmap(trees_[domain], iova_of(page), level);
    }
  }
  void write_wanderer(std::uint64_t generation) {
    if (generation % 2 != 0) return tables_.detach(wanderer);
    ContextFields fields;
    fields.domain_id = id_of(wanderer_domain(generation));
    tables_.attach(wanderer, trees_[wanderer_domain(generation)], fields);
  }

  std::array<std::array<History, pages>, domains> histories;
  History wanderer_history;
  std::atomic<bool> stop{false};
  std::atomic<std::uint64_t> answers{0};
  std::atomic<std::uint64_t> stale_seen{0};
  std::atomic<std::uint64_t> side_by_side{0};  ///< runs of invalidations that were handed to the executor

  /// What has been added to the queue, and the wait behind it.
  void submit_and_wait() {
    const std::uint32_t ticket = driver_.submit();
    submissions_.fetch_add(1);
    driver_.wait_for(ticket);
  }

  /// Until the other threads have got that many more answers; they may not get a turn otherwise.
  void wait_for_answers(std::uint64_t count) const {
    const std::uint64_t until = answers.load() + count;
    while (answers.load() < until && !stop) std::this_thread::yield();
  }

  /// The first thing found wrong; Catch2's own checks are for one thread only.
  void complain(const std::string& text) {
    if (!complained_.exchange(true)) complaint_ = text;
    stop = true;
  }
  /// For use when the threads are gone.
  [[nodiscard]] const std::string& complaint() const { return complaint_; }

 private:
  Engine create(const Shape& shape) {
    viommu_vtd_options options{};
    options.size = sizeof options;
    options.capability = 6 | 0xE00 | std::uint64_t{56} << 16 | std::uint64_t{0x22} << 24 | std::uint64_t{3} << 34 |
                         std::uint64_t{1} << 39 | std::uint64_t{18} << 48 | std::uint64_t{3} << 54;
    options.extended_capability = 0x43 | std::uint64_t{0xF} << 8;
    options.host_address_width = haw;
    options.tag_bits = 4;  // tags are used again and again
    options.iotlb_pages = shape.tiny ? 16 : 0;
    options.context_entries = shape.tiny ? 2 : 0;
    options.address_spaces = shape.tiny ? 2 : 0;
    options.structures = shape.tiny ? 1 : 0;
    options.shards = shape.tiny ? 0 : 4;
    options.drain = shape.drain;
    options.fill = shape.fill;
    viommu_host host{};
    host.size = sizeof host;
    host.opaque = this;
    host.memory_read = [](void* self, std::uint64_t gpa, void* data, std::uint64_t size) {
      return static_cast<Machine*>(self)->read(gpa, data, size);
    };
    host.execute = [](void* self, std::uint32_t count, void (*task)(void* context, std::uint32_t index),
                      void* context) {
      if (count > 1 && count <= domains) static_cast<Machine*>(self)->side_by_side.fetch_add(1);  // sweeps have more
      std::thread other{[&] {
        for (std::uint32_t i = 0; i < count; i += 2) task(context, i);
      }};
      for (std::uint32_t i = 1; i < count; i += 2) task(context, i);
      other.join();
    };
    host.memory_write = [](void* self, std::uint64_t gpa, const void* data, std::uint64_t size) {
      return static_cast<Machine*>(self)->write(gpa, data, size);
    };
    Expected<Engine> created = Engine::create_vtd(options, host);
    INFO(created.error().text);
    REQUIRE(created);
    return *std::move(created);
  }

  /// The thread that has just read a word goes on with it late, when the guest may have moved on. 16 bytes are of one
  /// instant, as far as their first word tells: a context entry that is detached meanwhile must not look half set up.
  std::int32_t read(std::uint64_t gpa, void* data, std::uint64_t size) {
    bool whole = false;
    while (!whole) {
      for (std::uint64_t offset = 0; offset < size; offset += 8) {
        const auto word = region_.load_u64(gpa + offset);
        if (!word) return -1;
        std::memcpy(static_cast<std::byte*>(data) + offset, &*word, sizeof *word);
      }
      const auto again = region_.load_u64(gpa);
      whole = size == 8 || (again && std::memcmp(data, &*again, sizeof *again) == 0);
    }
    if (reads_.fetch_add(1, std::memory_order_relaxed) % 8 != 0) return 0;
    const std::uint64_t before = submissions_.load();
    for (unsigned turn = 0; turn < 100 && submissions_.load() == before; ++turn) std::this_thread::yield();
    return 0;
  }
  /// Status words only: 4 bytes in the low half of a word.
  std::int32_t write(std::uint64_t gpa, const void* data, std::uint64_t size) {
    std::uint32_t status = 0;
    if (size != sizeof status) return -1;
    std::memcpy(&status, data, sizeof status);
    return region_.store_u64(gpa, status) ? 0 : -1;
  }

  GuardedRegion region_{0x100000, region_bytes};
  std::atomic<std::uint64_t> reads_{0};
  std::atomic<std::uint64_t> submissions_{0};
  GuestTables tables_{words_of(region_), 0x102000};
  std::array<Tree, domains> trees_{};
  Engine engine_;
  VtdDriver driver_{engine_, words_of(region_), 0x100000, 0x101000};
  std::atomic<bool> complained_{false};
  std::string complaint_;
};

[[nodiscard]] viommu_request request_for(std::uint16_t source, std::size_t page, std::uint64_t offset) {
  viommu_request request{};
  request.iova = iova_of(page) + offset;
  request.source = source;
  request.access = VIOMMU_READ;
  request.flags = VIOMMU_NO_REPORT;
  return request;
}

/// One question: what was settled before it was asked, and whether the answer may stand.
class Question {
 public:
  Question(Machine& machine, std::uint16_t source, std::size_t domain, std::size_t page)
      : machine_{&machine},
        source_{source},
        page_{page},
        domain_{domain},
        wanderer_settled_{machine.wanderer_history.settled.load()} {
    for (std::size_t each = 0; each < domains; ++each) settled_[each] = machine.histories[each][page].settled.load();
  }

  void check(const viommu_translation& answer, std::uint64_t offset) {
    machine_->answers.fetch_add(1, std::memory_order_relaxed);
    if (answer.kind == VIOMMU_FAULT) return check_fault(answer);
    if (answer.kind != VIOMMU_TRANSLATED) return complain("not translated at all", answer);
    label_ = label_of(answer.gpa - offset);
    if (label_.page != page_) return complain("another page's address", answer);
    if (label_.domain >= domains) return complain("no address of ours", answer);
    if (source_ == wanderer) {
      const std::uint64_t newest = machine_->wanderer_history.newest.load();
      bool possible = false;
      for (std::uint64_t at = wanderer_settled_; at <= newest; ++at) {
        if (at % 2 != 0 || wanderer_domain(at) != label_.domain) continue;
        possible = true;
        wanderer_generation_ = at;  // the latest one: the check below must not be too strict
      }
      if (!possible) return complain("a domain the device has left", answer);
    } else if (label_.domain != domain_) {
      return complain("another domain's address", answer);
    }
    if (label_.generation < settled_[label_.domain]) return complain("older than the last invalidation", answer);
    const std::uint64_t newest = machine_->histories[label_.domain][page_].newest.load();
    if (label_.generation > newest) return complain("newer than the tables", answer);
    if (label_.generation < newest) machine_->stale_seen.fetch_add(1, std::memory_order_relaxed);
    translated_ = true;
  }

  /// Called before the guard or hold that keeps the answer ends: its removal must not have been completed.
  void check_still_usable(const char* kept_by) {
    if (!translated_) return;
    if (machine_->histories[label_.domain][page_].settled.load() > label_.generation) {
      machine_->complain(std::string{"an invalidation was completed over a "} + kept_by);
    }
    if (source_ == wanderer && machine_->wanderer_history.settled.load() > wanderer_generation_) {
      machine_->complain(std::string{"a device was moved over a "} + kept_by);
    }
  }

 private:
  void check_fault(const viommu_translation& answer) {
    if (source_ == wanderer && answer.reason == 0x2) {
      const std::uint64_t newest = machine_->wanderer_history.newest.load();
      if (newest > wanderer_settled_ || wanderer_settled_ % 2 != 0) return;
      return complain("blocked while attached", answer);
    }
    if (answer.reason != 0x6) return complain("an unexpected fault", answer);
    const std::size_t first = source_ == wanderer ? 0 : domain_;
    const std::size_t last = source_ == wanderer ? domains - 1 : domain_;
    for (std::size_t domain = first; domain <= last; ++domain) {
      if (gap_between(settled_[domain], machine_->histories[domain][page_].newest.load())) return;
    }
    complain("blocked while mapped", answer);
  }

  void complain(const char* what, const viommu_translation& answer) {
    std::ostringstream text;
    text << what << ": source " << std::hex << source_ << " page " << page_ << " gpa " << answer.gpa << " kind "
         << +answer.kind << " reason " << +answer.reason << "; settled";
    for (const std::uint64_t each : settled_) text << ' ' << each;
    text << ", wanderer " << wanderer_settled_;
    machine_->complain(text.str());
  }

  Machine* machine_;
  std::uint16_t source_;
  std::size_t page_;
  std::size_t domain_;
  std::uint64_t wanderer_settled_;
  std::uint64_t wanderer_generation_ = 0;
  std::array<std::uint64_t, domains> settled_{};
  Label label_{};
  bool translated_ = false;
};

void translate_for_ever(Machine& machine, Reader reader, std::uint64_t seed) {
  Random random{seed};
  while (!machine.stop.load(std::memory_order_relaxed)) {
    std::vector<Question> questions;
    const Guard guard = reader.guard();
    const std::uint64_t count = 1 + random.below(8);
    const bool together = random.chance(1, 3);
    std::vector<viommu_request> requests;
    std::vector<std::uint64_t> offsets;
    for (std::uint64_t i = 0; i < count; ++i) {
      const std::size_t domain = some_domain(random);
      const std::size_t page = some_page(random);
      const std::uint16_t source = random.chance(1, 4) ? wanderer : source_of(domain);
      const std::uint64_t offset = random.below(is_large(page) ? 0x200000 : 0x1000);
      questions.emplace_back(machine, source, domain, page);
      requests.push_back(request_for(source, page, offset));
      offsets.push_back(offset);
      if (!together) questions.back().check(reader.translate(requests.back()), offset);
    }
    if (together) {
      std::vector<viommu_translation> answers(count);
      if (reader.translate_batch(requests, answers) != VIOMMU_OK) machine.complain("a batch was refused");
      for (std::size_t i = 0; i < count; ++i) questions[i].check(answers[i], offsets[i]);
    }
    if (random.chance(1, 16)) std::this_thread::yield();  // now and then a guard lasts
    for (Question& question : questions) question.check_still_usable("guard");
  }
}

void hold_for_ever(Machine& machine, Reader reader, std::uint64_t seed) {
  Random random{seed};
  while (!machine.stop.load(std::memory_order_relaxed)) {
    const std::size_t domain = some_domain(random);
    const std::size_t page = some_page(random);
    Question question{machine, source_of(domain), domain, page};
    viommu_translation answer{};
    const Hold hold = reader.hold(request_for(source_of(domain), page, 0), 1, answer);
    if (answer.kind == VIOMMU_TRANSLATED && !hold) continue;  // no hold was left
    question.check(answer, 0);
    for (std::uint64_t turns = random.below(20); turns > 0; --turns) std::this_thread::yield();
    if (hold) question.check_still_usable("hold");
  }
}

/// Wide invalidations of all domains, enough of them to be handed out; with those that matter among them, because no
/// wait is in between.
void add_many(VtdDriver& driver, Random& random) {
  for (std::uint64_t i = 0; i < 72; ++i)
    driver.add_page(id_of(i % domains), 0x60000000 + i * 0x200000, 9, random.chance(1, 2));
}

/// The guest: changes some pages, invalidates them in one of the ways there are, waits for the status word.
void change_and_invalidate(Machine& machine, Random& random) {
  VtdDriver& driver = machine.driver();
  const std::size_t domain = some_domain(random);
  const std::uint64_t how = random.below(8);
  std::array<std::uint64_t, pages> generations{};
  std::vector<std::size_t> changed;
  if (random.chance(1, 3)) {  // a block of neighbours, all to the same generation
    const std::size_t block = some_page(random) / 8;
    for (std::size_t page = block * 8; page < block * 8 + 8 && !is_large(page); ++page) changed.push_back(page);
    std::uint64_t generation = 0;
    for (const std::size_t page : changed)
      generation = std::max(generation, machine.histories[domain][page].newest.load() + 1);
    for (const std::size_t page : changed) {
      generations[page] = generation;
      machine.histories[domain][page].newest.store(generation);
      machine.write_page(domain, page, generation);
    }
    if (how < 5) driver.add_page(id_of(domain), iova_of(block * 8), 3, random.chance(1, 2));
  }
  const std::uint64_t count = changed.empty() ? 1 + random.below(4) : 0;
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::size_t page = some_page(random);
    generations[page] = machine.histories[domain][page].newest.load() + 1;
    machine.histories[domain][page].newest.store(generations[page]);
    machine.write_page(domain, page, generations[page]);
    changed.push_back(page);
    if (how < 5) driver.add_page(id_of(domain), iova_of(page), is_large(page) ? 9 : 0, random.chance(1, 2));
  }
  if (how >= 5 && how < 7) driver.add_domain(id_of(domain));
  if (how == 6) {  // many renamings before anybody waits
    for (std::uint64_t i = 0; i < 40; ++i) driver.add_domain(id_of(random.below(domains)));
  }
  if (how == 7) driver.add_global();
  if (how < 6 && random.chance(1, 4)) add_many(driver, random);
  machine.submit_and_wait();
  for (const std::size_t page : changed) machine.histories[domain][page].settled.store(generations[page]);
}

/// The wanderer leaves its domain, or goes to the next one; both are told to the unit as a driver must.
void move_wanderer(Machine& machine) {
  History& history = machine.wanderer_history;
  const std::uint64_t before = history.newest.load();
  const std::uint64_t after = before + 1;
  history.newest.store(after);
  machine.write_wanderer(after);
  if (after % 2 != 0) {
    const std::uint16_t old_id = id_of(wanderer_domain(before));
    machine.driver().add_context_device(old_id, wanderer);
    machine.driver().add_domain(old_id);
  } else {
    machine.driver().add_context_device(0, wanderer);
  }
  machine.submit_and_wait();
  history.settled.store(after);
}

/// The threads of one test; they end with it, however it ends.
class Crew {
 public:
  explicit Crew(Machine& machine) : machine_{&machine} {}
  Crew(const Crew&) = delete;
  Crew& operator=(const Crew&) = delete;
  ~Crew() { dismiss(); }
  template <class Work>
  void add(const Work& work, std::uint64_t seed) {
    threads_.emplace_back(work, std::ref(*machine_), *machine_->engine().reader(), seed);
  }
  void dismiss() {
    machine_->stop = true;
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
  }

 private:
  Machine* machine_;
  std::vector<std::thread> threads_;
};

}  // namespace

TEST_CASE("no answer outlives the invalidation that removed it",
          "[stress][SEC-10][SEC-11][PR-1][PR-2][PR-4][PR-6][B10]") {
  const unsigned rounds = run_whole() ? 300'000 : 400;
  for (const Shape& shape :
       {Shape{true, false}, Shape{true, true}, Shape{false, false}, Shape{false, true},
        Shape{true, false, VIOMMU_DRAIN_FENCE, VIOMMU_FILL_LINE}, Shape{true, false, VIOMMU_DRAIN_BARRIER},
        Shape{true, true, VIOMMU_DRAIN_BARRIER, VIOMMU_FILL_LINE}, Shape{true, false, 0, VIOMMU_FILL_EXACT}}) {
    CAPTURE(shape.mapped, shape.tiny, shape.drain, shape.fill);
    Machine machine{shape};
    Crew crew{machine};
    for (std::uint64_t seed = 1; seed <= 2; ++seed) crew.add(translate_for_ever, seed);
    crew.add(hold_for_ever, 3);
    Random random{4};
    for (unsigned round = 0; round < rounds && !machine.stop; ++round) {
      machine.wait_for_answers(random.below(20));
      if (random.chance(1, shape.mapped ? 8 : 3)) {
        move_wanderer(machine);
      } else {
        change_and_invalidate(machine, random);
      }
    }
    crew.dismiss();
    CHECK(machine.complaint() == "");
    CHECK(machine.answers.load() > rounds);
    if (!shape.tiny) CHECK(machine.side_by_side.load() > rounds / 16);
  }
}

}  // namespace viommu::test
