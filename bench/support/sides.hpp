// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Who is fed a recording: the library through its C++ interface, and QEMU's shape. Both work on the same RAM, one after
// the other, and both count the interrupts they send.
#pragma once

#include <viommu/viommu.hpp>

#include <cstdint>
#include <memory>

#include "bench/peers/qemu_shape.hpp"
#include "bench/support/recording.hpp"

namespace viommu::bench {

class Viommu {
 public:
  /// Throws std::runtime_error when the engine cannot be created for the recording's unit.
  explicit Viommu(const Recording& recording);

  /// One device request as a VMM makes it: the guard is open from the question to the use of the answer.
  [[nodiscard]] Answer translate(const Ask& ask) noexcept {
    const Guard guard = reader_.guard();
    const viommu_translation answer =
        reader_.translate(request(ask.source, ask.iova, ask.access, 0, ask.report ? 0 : VIOMMU_NO_REPORT));
    return {answer.gpa, answer.rights, answer.reason};
  }
  void write(const RegisterWrite& write) noexcept {
    static_cast<void>(engine_.mmio_write(write.offset, write.size, write.value));
    if (outside_->woken) process();
  }
  void drop_caches() noexcept { static_cast<void>(engine_.drop_caches()); }
  void reset() noexcept { static_cast<void>(engine_.reset()); }

  [[nodiscard]] std::uint64_t messages() const noexcept { return outside_->messages; }

 private:
  struct Outside {
    std::uint64_t messages = 0;
    bool woken = false;
  };

  [[nodiscard]] static Engine create_engine(const Recording& recording, Outside& outside);
  [[nodiscard]] static Reader create_reader(Engine& engine);
  void process() noexcept;

  std::unique_ptr<Outside> outside_;
  Engine engine_;
  Reader reader_;
};

class Shape {
 public:
  explicit Shape(const Recording& recording);

  [[nodiscard]] Answer translate(const Ask& ask) {
    const ShapeAnswer answer = unit_.translate(ask.source, ask.iova, ask.access, ask.report);
    return {answer.gpa, answer.rights, answer.reason};
  }
  void write(const RegisterWrite& write) { unit_.write(write.offset, write.size, write.value); }
  void drop_caches() { unit_.drop_caches(); }
  void reset() { unit_.reset(); }

  [[nodiscard]] std::uint64_t messages() const noexcept { return *messages_; }

 private:
  std::unique_ptr<std::uint64_t> messages_;
  std::unique_ptr<AddressDispatch> memory_;
  QemuShape unit_;
};

/// Does nothing: what is left is the recording's own share of the work.
class Nobody {
 public:
  explicit Nobody(const Recording&) noexcept {}
  [[nodiscard]] Answer translate(const Ask& ask) noexcept { return {ask.iova, ask.access, 0}; }
  void write(const RegisterWrite&) noexcept {}
  void drop_caches() noexcept {}
  void reset() noexcept {}
  [[nodiscard]] std::uint64_t messages() const noexcept { return 0; }
};

}  // namespace viommu::bench
