// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// C++20 over viommu.h: ownership by scope, spans, results as values. Header-only, adds no state and no cost; every rule
// about threads, guards and errors is in viommu.h.
#pragma once

#include <viommu/viommu.h>
#include <viommu/viommu_virtio.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>

namespace viommu {

/// Why a call failed: a VIOMMU_E_* code, and at creation the text that names the option.
struct Error {
  viommu_result code = VIOMMU_OK;
  std::string text;
};

/// A value or an error; test it before use.
template <class T>
class [[nodiscard]] Expected {
 public:
  Expected(T value) : value_{std::move(value)} {}
  Expected(Error error) : error_{std::move(error)} {}

  [[nodiscard]] explicit operator bool() const noexcept { return value_.has_value(); }
  // NOLINTNEXTLINE(bugprone-unchecked-optional-access): the caller has tested it, as of any optional
  [[nodiscard]] T& operator*() & noexcept { return *value_; }
  [[nodiscard]] T&& operator*() && noexcept { return std::move(**this); }
  [[nodiscard]] T* operator->() noexcept { return &**this; }
  [[nodiscard]] const Error& error() const noexcept { return error_; }

 private:
  std::optional<T> value_;
  Error error_;
};

/// Names for the fields of viommu_request.
[[nodiscard]] constexpr viommu_request request(std::uint16_t source, std::uint64_t iova, std::uint8_t access,
                                               std::uint64_t length = 0, std::uint8_t flags = 0) noexcept {
  return {.iova = iova, .length = length, .pasid = 0, .source = source, .access = access, .flags = flags};
}

/// Names for the fields of viommu_message.
[[nodiscard]] constexpr viommu_message interrupt_message(std::uint16_t source, std::uint64_t address,
                                                         std::uint32_t data, std::uint16_t flags = 0) noexcept {
  return {.address = address, .data = data, .source = source, .flags = flags};
}

/// True when the answer lets the device go on.
[[nodiscard]] constexpr bool allowed(const viommu_translation& translation) noexcept {
  return translation.kind != VIOMMU_FAULT;
}

class Reader;

/// A translation that outlives its guard; released at the end of its scope, in any thread.
class [[nodiscard]] Hold {
 public:
  Hold() = default;
  Hold(viommu_engine* engine, std::uint64_t handle) noexcept : engine_{engine}, handle_{handle} {}
  Hold(Hold&& other) noexcept : engine_{other.engine_}, handle_{std::exchange(other.handle_, 0)} {}
  Hold& operator=(Hold&& other) noexcept {
    if (this != &other) {
      release();
      engine_ = other.engine_;
      handle_ = std::exchange(other.handle_, 0);
    }
    return *this;
  }
  ~Hold() { release(); }

  [[nodiscard]] explicit operator bool() const noexcept { return handle_ != 0; }
  [[nodiscard]] std::uint64_t handle() const noexcept { return handle_; }
  void release() noexcept {
    if (handle_ != 0) static_cast<void>(viommu_release(engine_, std::exchange(handle_, 0)));
  }

 private:
  viommu_engine* engine_ = nullptr;
  std::uint64_t handle_ = 0;
};

/// An open guard; answers obtained from its reader stay usable while it lives.
class [[nodiscard]] Guard {
 public:
  explicit Guard(viommu_reader* reader) noexcept : reader_{reader} { viommu_enter(reader_); }
  Guard(const Guard&) = delete;
  Guard& operator=(const Guard&) = delete;
  ~Guard() { viommu_leave(reader_); }

 private:
  viommu_reader* reader_;
};

/// The handle of one thread or queue.
class Reader {
 public:
  explicit Reader(viommu_engine* engine, viommu_reader* handle) noexcept : engine_{engine}, handle_{handle} {}
  Reader(Reader&& other) noexcept : engine_{other.engine_}, handle_{std::exchange(other.handle_, nullptr)} {}
  Reader& operator=(Reader&& other) noexcept {
    std::swap(engine_, other.engine_);
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~Reader() { static_cast<void>(viommu_reader_destroy(handle_)); }

  [[nodiscard]] viommu_reader* get() const noexcept { return handle_; }
  [[nodiscard]] Guard guard() noexcept { return Guard{handle_}; }

  /// The answer's kind is VIOMMU_FAULT when the request is blocked.
  [[nodiscard]] viommu_translation translate(const viommu_request& asked) noexcept {
    viommu_translation answer{};  // a fault, should the call not even look at the request
    static_cast<void>(viommu_translate(handle_, &asked, &answer));
    return answer;
  }
  /// A translation request of a device, and one that goes to an address such a request was answered with.
  [[nodiscard]] viommu_ats_completion ats_translate(const viommu_request& asked) noexcept {
    viommu_ats_completion completion{};  // nothing granted, should the call not even look at the request
    static_cast<void>(viommu_ats_translate(handle_, &asked, &completion));
    return completion;
  }
  [[nodiscard]] viommu_translation ats_check(const viommu_request& asked) noexcept {
    viommu_translation answer{};
    static_cast<void>(viommu_ats_check(handle_, &asked, &answer));
    return answer;
  }
  [[nodiscard]] viommu_range_end translate_range(const viommu_request& asked, std::span<viommu_piece> pieces) noexcept {
    viommu_range_end end{};
    static_cast<void>(
        viommu_translate_range(handle_, &asked, pieces.data(), static_cast<std::uint32_t>(pieces.size()), &end));
    return end;
  }
  /// Both spans have the same length, at most 65,535.
  viommu_result translate_batch(std::span<const viommu_request> asked, std::span<viommu_translation> answers) noexcept {
    if (asked.size() != answers.size() || asked.size() > 65535) return VIOMMU_E_ARGUMENT;
    return viommu_translate_batch(handle_, asked.data(), answers.data(), static_cast<std::uint32_t>(asked.size()));
  }
  /// The answer's kind is VIOMMU_ROUTE_FAULT when the interrupt is blocked.
  [[nodiscard]] viommu_routed interrupt(const viommu_message& asked) noexcept {
    viommu_routed answer{};
    static_cast<void>(viommu_interrupt(handle_, &asked, &answer));
    return answer;
  }
  /// An empty hold when the request is blocked or no hold is left.
  [[nodiscard]] Hold hold(const viommu_request& asked, std::uint64_t cookie, viommu_translation& answer) noexcept {
    std::uint64_t handle = 0;
    answer = {};
    return viommu_hold(handle_, &asked, cookie, &answer, &handle) == VIOMMU_OK ? Hold{engine_, handle} : Hold{};
  }

 private:
  viommu_engine* engine_;
  viommu_reader* handle_;
};

/// CAP_REG, ECAP_REG and the bits of guest-physical addresses that are in force.
struct Capabilities {
  std::uint64_t capability = 0;
  std::uint64_t extended_capability = 0;
  std::uint32_t host_address_width = 0;
};

/// One remapping unit. Readers and holds must be gone before it goes.
class Engine {
 public:
  [[nodiscard]] static Expected<Engine> create_vtd(const viommu_vtd_options& options, const viommu_host& host) {
    char text[256] = {};
    viommu_engine* handle = nullptr;
    const viommu_result result = viommu_create_vtd(&options, &host, text, sizeof text, &handle);
    if (result != VIOMMU_OK) return Error{result, text};
    return Engine{handle};
  }
  [[nodiscard]] static Expected<Engine> create_virtio(const viommu_virtio_options& options, const viommu_host& host) {
    char text[256] = {};
    viommu_engine* handle = nullptr;
    const viommu_result result = viommu_create_virtio(&options, &host, text, sizeof text, &handle);
    if (result != VIOMMU_OK) return Error{result, text};
    return Engine{handle};
  }
  Engine(Engine&& other) noexcept : handle_{std::exchange(other.handle_, nullptr)} {}
  Engine& operator=(Engine&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~Engine() { static_cast<void>(viommu_destroy(handle_)); }

  [[nodiscard]] viommu_engine* get() const noexcept { return handle_; }

  viommu_result add_region(std::uint64_t gpa, std::span<std::byte> memory, std::uint64_t flags = 0) noexcept {
    const viommu_region region{gpa, memory.size(), memory.data(), flags};
    return viommu_region_add(handle_, &region);
  }
  viommu_result remove_region(std::uint64_t gpa, std::uint64_t cookie) noexcept {
    return viommu_region_remove(handle_, gpa, cookie);
  }

  [[nodiscard]] std::uint64_t mmio_read(std::uint64_t offset, std::uint32_t size) noexcept {
    std::uint64_t value = 0;
    static_cast<void>(viommu_mmio_read(handle_, offset, size, &value));
    return value;
  }
  viommu_result mmio_write(std::uint64_t offset, std::uint32_t size, std::uint64_t value) noexcept {
    return viommu_mmio_write(handle_, offset, size, value);
  }
  viommu_progress process(std::uint32_t budget = 0) noexcept {
    viommu_progress progress{};
    static_cast<void>(viommu_process(handle_, budget, &progress));
    return progress;
  }
  viommu_result reset() noexcept { return viommu_reset(handle_); }

  /// The code is VIOMMU_OK when the device is taken; VIOMMU_E_REFUSED comes with the refusal's text.
  Error add_device(const viommu_device& device) {
    viommu_refusal refusal{};
    refusal.size = sizeof refusal;
    const viommu_result result = viommu_device_add(handle_, &device, &refusal);
    if (result == VIOMMU_OK) return {};
    return {result, result == VIOMMU_E_REFUSED ? refusal.text : viommu_result_text(result)};
  }
  viommu_result remove_device(std::uint16_t source) noexcept { return viommu_device_remove(handle_, source); }
  /// All devices of the start are there. @param count  how many were refused, of which `refusals` receives the first
  viommu_result ready(std::span<viommu_refusal> refusals, std::uint32_t& count) noexcept {
    for (viommu_refusal& refusal : refusals) refusal.size = sizeof refusal;
    return viommu_ready(handle_, refusals.data(), static_cast<std::uint32_t>(refusals.size()), &count);
  }
  viommu_result ready() noexcept { return viommu_ready(handle_, nullptr, 0, nullptr); }
  [[nodiscard]] Capabilities capabilities() const noexcept {
    Capabilities all;
    static_cast<void>(
        viommu_capabilities_get(handle_, &all.capability, &all.extended_capability, &all.host_address_width));
    return all;
  }

  viommu_result drop_caches() noexcept { return viommu_drop_caches(handle_); }

  [[nodiscard]] Expected<Reader> reader() {
    viommu_reader* handle = nullptr;
    const viommu_result result = viommu_reader_create(handle_, &handle);
    if (result != VIOMMU_OK) return Error{result, viommu_result_text(result)};
    return Reader{handle_, handle};
  }
  /// Without a reader, for rare uses; the answer is a hint.
  [[nodiscard]] viommu_translation translate_once(const viommu_request& asked) noexcept {
    viommu_translation answer{};
    static_cast<void>(viommu_translate_once(handle_, &asked, &answer));
    return answer;
  }
  /// Without a reader; the answer is a hint.
  [[nodiscard]] viommu_routed interrupt_once(const viommu_message& asked) noexcept {
    viommu_routed answer{};
    static_cast<void>(viommu_interrupt_once(handle_, &asked, &answer));
    return answer;
  }
  /// What would become of it, without any effect; from any thread and any callback.
  [[nodiscard]] viommu_routed route(const viommu_message& asked) noexcept {
    viommu_routed answer{};
    static_cast<void>(viommu_route(handle_, &asked, &answer));
    return answer;
  }

  /// The document of viommu_dump() as a string. @param sections  VIOMMU_DUMP_*; 0: all that need no request
  [[nodiscard]] Expected<std::string> dump(std::uint32_t sections = 0, const viommu_request& of = {},
                                           std::uint32_t most = 0) const {
    struct Text {
      std::string all;
      bool whole = true;
    } text;
    const viommu_dump_options options{.size = sizeof options,
                                      .opaque = &text,
                                      .write =
                                          [](void* opaque, const char* piece, std::size_t length) {
                                            auto& into = *static_cast<Text*>(opaque);
                                            try {
                                              into.all.append(piece, length);
                                            } catch (...) {
                                              into.whole = false;
                                            }
                                          },
                                      .sections = sections,
                                      .most = most,
                                      .request = of};
    const viommu_result result = viommu_dump(handle_, &options);
    if (result == VIOMMU_OK && !text.whole) return Error{VIOMMU_E_MEMORY, viommu_result_text(VIOMMU_E_MEMORY)};
    if (result != VIOMMU_OK) return Error{result, viommu_result_text(result)};
    return std::move(text.all);
  }

  [[nodiscard]] viommu_statistics statistics() const noexcept {
    viommu_statistics statistics{};
    statistics.size = sizeof statistics;
    static_cast<void>(viommu_statistics_get(handle_, &statistics));
    return statistics;
  }

 private:
  explicit Engine(viommu_engine* handle) noexcept : handle_{handle} {}
  viommu_engine* handle_;
};

}  // namespace viommu
