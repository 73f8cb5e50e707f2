// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What does a vhost back end behind a virtual IOMMU pay for its translations?
//
//   vhost_feed<T>/LEAF_KIB             a mapping of 1 GiB made of such leaves, read page by page by a back end that has
//                                      nothing of it yet; items are pages of 4 KiB. Counters: misses and messages
//   vhost_translate<T>/RANGES[/threads:N]   a buffer of 2 KiB anywhere in so many ranges of 64 KiB; items are buffers
//
// PageAtATime answers each miss with the leaf that has it, as QEMU does; the engine, the bytes of the messages and what
// the back end keeps are the same on both sides. The ranges follow each other and lead to different places, so one
// buffer in 32 is of two pieces. Viommu is a viommu_iotlb in its guard.
#include <benchmark/benchmark.h>
#include <sys/mman.h>
#include <viommu/viommu_vhost.h>

#include <array>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <span>
#include <stdexcept>
#include <string>

#include "bench/peers/message_iotlbs.hpp"
#include "bench/support/question.hpp"
#include "bench/support/sections.hpp"
#include "bench/support/synthetic_guest.hpp"

namespace viommu::bench {
namespace {

constexpr std::uint64_t page_bytes = 4096;
constexpr std::uint64_t gib = std::uint64_t{1} << 30;

void must(viommu_result result) {
  if (result != VIOMMU_OK) throw std::runtime_error{viommu_result_text(result)};
}

// ---- Feeding ----

/// A device, and 1 GiB that it has mapped in a row.
class GibGuest {
 public:
  static constexpr std::uint16_t source = 0x0010;
  static constexpr std::uint64_t iova = 4 * gib;
  static constexpr std::uint64_t gpa = 64 * gib;

  explicit GibGuest(std::uint64_t leaf_bytes) {
    void* const memory = mmap(nullptr, ram_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc{};
    ram_ = static_cast<std::byte*>(memory);
    store(root_table, context_table | 1);
    const std::uint64_t top = take_table();
    store(context_table + 16 * std::uint64_t{source} + 8, std::uint64_t{1} << 8 | 2);  // domain 1, four levels
    store(context_table + 16 * std::uint64_t{source}, top | 1);
    const std::uint64_t second = take_table();
    store(top, second | read_write);
    const unsigned level = leaf_bytes == gib ? 3 : leaf_bytes == page_bytes ? 1 : 2;
    for (std::uint64_t at = 0; at < gib; at += leaf_bytes) map(second, 3, level, at);
  }
  GibGuest(const GibGuest&) = delete;
  GibGuest& operator=(const GibGuest&) = delete;
  ~GibGuest() { munmap(ram_, ram_bytes); }

  [[nodiscard]] Engine start() const {
    viommu_vtd_options options{};
    options.size = sizeof options;
    viommu_host host{};
    host.size = sizeof host;
    Expected<Engine> engine = Engine::create_vtd(options, host);
    if (!engine) throw std::runtime_error{"no engine"};
    must(engine->add_region(0, {ram_, ram_bytes}));
    static_cast<void>(engine->mmio_write(0x20, 8, root_table));
    static_cast<void>(engine->mmio_write(0x18, 4, 0x40000000));  // root pointer
    static_cast<void>(engine->mmio_write(0x18, 4, 0x80000000));  // translation
    return *std::move(engine);
  }

 private:
  static constexpr std::size_t ram_bytes = std::size_t{4} << 20;
  static constexpr std::uint64_t root_table = 0x1000;
  static constexpr std::uint64_t context_table = 0x2000;
  static constexpr std::uint64_t read_write = 3;
  static constexpr std::uint64_t large_page = 0x80;

  void store(std::uint64_t at, std::uint64_t value) noexcept { std::memcpy(ram_ + at, &value, sizeof value); }
  [[nodiscard]] std::uint64_t load(std::uint64_t at) const noexcept {
    std::uint64_t value = 0;
    std::memcpy(&value, ram_ + at, sizeof value);
    return value;
  }
  [[nodiscard]] std::uint64_t take_table() noexcept { return (next_table_ += page_bytes) - page_bytes; }
  void map(std::uint64_t table, unsigned level, unsigned leaf_level, std::uint64_t offset) {
    const std::uint64_t slot = table + 8 * ((iova + offset) >> (12 + 9 * (level - 1)) & 0x1FF);
    if (level == leaf_level) return store(slot, (gpa + offset) | read_write | (level == 1 ? 0 : large_page));
    if (load(slot) == 0) store(slot, take_table() | read_write);
    map(load(slot) & ~(page_bytes - 1), level - 1, leaf_level, offset);
  }

  std::byte* ram_ = nullptr;
  std::uint64_t next_table_ = 0x10000;
};

/// A back end that asks whoever answers.
template <class Answers>
class Fed {
 public:
  explicit Fed(std::uint64_t leaf_bytes) : guest_{leaf_bytes}, engine_{guest_.start()}, answers_{engine_, *this} {
    viommu_iotlb_options options{};
    options.size = sizeof options;
    options.opaque = this;
    options.ranges = gib / page_bytes;
    options.miss = [](void* opaque, std::uint64_t first, std::uint64_t last, std::uint32_t access) {
      auto& self = *static_cast<Fed*>(opaque);
      ++self.misses_;
      self.answers_.miss(first, last, access);
    };
    must(viommu_iotlb_create(&options, &iotlb_));
    must(viommu_iotlb_reader_create(iotlb_, &reader_));
  }
  Fed(const Fed&) = delete;
  Fed& operator=(const Fed&) = delete;
  ~Fed() {
    viommu_iotlb_reader_destroy(reader_);
    viommu_iotlb_destroy(iotlb_);
  }

  void receive(const void* bytes, std::size_t length) {
    viommu_vhost_message message;
    if (viommu_vhost_message_read(VIOMMU_VHOST_PLAIN, bytes, length, &message) == VIOMMU_OK)
      static_cast<void>(viommu_vhost_apply(iotlb_, &message, nullptr));
    ++messages_;
  }
  void forget() {
    must(viommu_iotlb_invalidate(iotlb_, 0, ~std::uint64_t{0}, nullptr));
    static_cast<void>(engine_.drop_caches());
    misses_ = messages_ = 0;
  }
  /// @return whether all of it is there and leads where it should
  [[nodiscard]] bool read_all() {
    for (std::uint64_t at = 0; at < gib; at += page_bytes) {
      viommu_iotlb_piece piece{};
      viommu_iotlb_end end{};
      const auto ask = [&] {
        return viommu_iotlb_translate_range(reader_, GibGuest::iova + at, page_bytes, VIOMMU_READ, &piece, 1, &end);
      };
      if (ask() != VIOMMU_OK) static_cast<void>(ask());  // it has been fed meanwhile
      if (end.stopped != VIOMMU_IOTLB_COMPLETE || piece.target != GibGuest::gpa + at) return false;
    }
    return true;
  }
  [[nodiscard]] std::uint64_t misses() const noexcept { return misses_; }
  [[nodiscard]] std::uint64_t messages() const noexcept { return messages_; }

 private:
  GibGuest guest_;
  Engine engine_;
  Answers answers_;
  viommu_iotlb* iotlb_ = nullptr;
  viommu_iotlb_reader* reader_ = nullptr;
  std::uint64_t misses_ = 0;
  std::uint64_t messages_ = 0;
};

class Feeder {
 public:
  static constexpr const char* name = "Viommu";
  Feeder(Engine& engine, Fed<Feeder>& back_end) {
    viommu_vhost_options options{};
    options.size = sizeof options;
    options.opaque = &back_end;
    options.source = GibGuest::source;
    options.send = [](void* opaque, const void* bytes, std::size_t length) {
      static_cast<Fed<Feeder>*>(opaque)->receive(bytes, length);
    };
    must(viommu_vhost_feeder_create(engine.get(), &options, nullptr, &feeder_));
  }
  Feeder(const Feeder&) = delete;
  Feeder& operator=(const Feeder&) = delete;
  ~Feeder() { viommu_vhost_feeder_destroy(feeder_); }
  void miss(std::uint64_t first, std::uint64_t last, std::uint32_t access) {
    static_cast<void>(viommu_vhost_feeder_miss(feeder_, first, last, access));
  }

 private:
  viommu_vhost_feeder* feeder_ = nullptr;
};

class PageAtATime {
 public:
  static constexpr const char* name = "PageAtATime";
  PageAtATime(Engine& engine, Fed<PageAtATime>& back_end) : reader_{*engine.reader()}, back_end_{back_end} {}
  void miss(std::uint64_t first, std::uint64_t /*last*/, std::uint32_t access) {
    const viommu_request asked{first, 0, 0, GibGuest::source, static_cast<std::uint8_t>(access), 0};
    const viommu_translation found = reader_.translate(asked);
    if (found.kind == VIOMMU_FAULT) return;
    const viommu_vhost_message message{first & ~found.mask,
                                       first | found.mask,
                                       found.gpa & ~found.mask,
                                       0,
                                       static_cast<std::uint8_t>(found.rights & 3),
                                       VIOMMU_VHOST_UPDATE,
                                       0};
    std::array<std::byte, VIOMMU_VHOST_MESSAGE_BYTES> bytes;
    std::size_t length = 0;
    if (viommu_vhost_message_write(VIOMMU_VHOST_PLAIN, &message, bytes.data(), bytes.size(), &length) == VIOMMU_OK)
      back_end_.receive(bytes.data(), length);
  }

 private:
  Reader reader_;
  Fed<PageAtATime>& back_end_;
};

template <class Answers>
void feed(benchmark::State& state) {
  Fed<Answers> fed{static_cast<std::uint64_t>(state.range(0)) << 10};
  bool right = true;
  measure_sections(state, static_cast<std::int64_t>(gib / page_bytes), [&](Sections& sections) {
    fed.forget();
    sections.time([&] { right &= fed.read_all(); });
  });
  if (!right) return state.SkipWithError("wrong answers are not timed");
  state.counters["misses"] = static_cast<double>(fed.misses());
  state.counters["messages"] = static_cast<double>(fed.messages());
}

// ---- Translating ----

constexpr std::uint64_t range_bytes = 0x10000;
constexpr std::uint64_t buffer_bytes = 2048;

class MessageIotlb {
 public:
  static constexpr const char* name = "Viommu";
  MessageIotlb() {
    viommu_iotlb_options options{};
    options.size = sizeof options;
    must(viommu_iotlb_create(&options, &iotlb_));
  }
  MessageIotlb(const MessageIotlb&) = delete;
  MessageIotlb& operator=(const MessageIotlb&) = delete;
  ~MessageIotlb() { viommu_iotlb_destroy(iotlb_); }
  void update(std::uint64_t first, std::uint64_t last, std::uint64_t target) {
    must(viommu_iotlb_update(iotlb_, first, last, target, VIOMMU_READ | VIOMMU_WRITE));
  }

  class Port {
   public:
    explicit Port(MessageIotlb& iotlb) { must(viommu_iotlb_reader_create(iotlb.iotlb_, &reader_)); }
    Port(const Port&) = delete;
    Port& operator=(const Port&) = delete;
    ~Port() { viommu_iotlb_reader_destroy(reader_); }
    [[nodiscard]] Translated translate(std::uint64_t iova, std::uint64_t length) {
      std::array<viommu_iotlb_piece, 4> pieces;
      viommu_iotlb_end end;
      Translated found;
      viommu_iotlb_enter(reader_);
      viommu_iotlb_translate_range(reader_, iova, length, VIOMMU_READ, pieces.data(), 4, &end);
      for (const viommu_iotlb_piece& piece : std::span{pieces}.first(end.pieces)) found.add(piece.target, piece.length);
      viommu_iotlb_leave(reader_);
      return found;
    }

   private:
    viommu_iotlb_reader* reader_ = nullptr;
  };

 private:
  viommu_iotlb* iotlb_ = nullptr;
};

[[nodiscard]] constexpr std::uint64_t target_of(std::uint64_t range) noexcept {
  return (std::uint64_t{1} << 40) + range * 2 * range_bytes;
}

template <class Translator>
class Filled {
 public:
  explicit Filled(std::uint64_t ranges) {
    for (std::uint64_t i = 0; i < ranges; ++i)
      translator.update(i * range_bytes, (i + 1) * range_bytes - 1, target_of(i));
    typename Translator::Port port{translator};
    for (std::uint64_t i = 0; i + 1 < ranges; ++i) {
      Translated right;
      right.add(target_of(i) + range_bytes - 8, 8);
      right.add(target_of(i + 1), 8);
      const Translated found = port.translate((i + 1) * range_bytes - 8, 16);
      wrong |= found.bytes != right.bytes || found.sum != right.sum;
    }
  }
  Translator translator;
  bool wrong = false;
};

template <class Translator>
void translate(benchmark::State& state, Together& together) {
  static std::mutex building;
  static std::map<std::int64_t, std::unique_ptr<Filled<Translator>>> all;
  Filled<Translator>* filled = nullptr;
  {
    const std::lock_guard lock{building};
    auto& there = all[state.range(0)];
    if (!there) there = std::make_unique<Filled<Translator>>(static_cast<std::uint64_t>(state.range(0)));
    filled = there.get();
  }
  if (filled->wrong) return state.SkipWithError("wrong answers are not timed");
  typename Translator::Port port{filled->translator};
  const std::uint64_t last = static_cast<std::uint64_t>(state.range(0)) * range_bytes - buffer_bytes;
  std::uint64_t asked = static_cast<std::uint64_t>(state.thread_index()) << 40;
  measure(state, together, 256, [&](std::uint64_t count) {
    std::uint64_t sum = 0;
    for (const std::uint64_t end = asked + count; asked != end; ++asked)
      sum += port.translate(mixed(asked) % last, buffer_bytes).sum;
    benchmark::DoNotOptimize(sum);
  });
}

template <class Answers>
void add_feeding() {
  add_chunks<Answers>("vhost_feed", {{4}, {2048}, {1 << 20}}, &feed<Answers>);
}
template <class Translator>
void add_translating() {
  add<Translator>("vhost_translate", {{16}, {256}, {2048}}, &translate<Translator>, thread_counts());
}

void add_all() {
  add_feeding<Feeder>();
  add_feeding<PageAtATime>();
  add_translating<MessageIotlb>();
  add_translating<IotlbList>();
  add_translating<IotlbMap>();
}

}  // namespace
}  // namespace viommu::bench

int main(int count, char** words) { return viommu::bench::run_question(count, words, &viommu::bench::add_all); }
