// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// A guest whose device asks for pages: the queue and its event, and what the VMM hears of answers.
#pragma once

#include <catch2/catch.hpp>
#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include "tests/behaviour/scalable_machine.hpp"

namespace viommu::test::page_requests {

using namespace scalable;
using Machine = ScalableMachine;

inline constexpr std::uint64_t dt = bit(2);
inline constexpr std::uint64_t prs = bit(29);
inline constexpr std::uint64_t pds = bit(42);
inline constexpr std::uint64_t all_allowed = 4 | 8 | 16;  // DTE, PASIDE, PRE
inline constexpr std::uint32_t no_pasid = ~std::uint32_t{0};
inline constexpr std::uint64_t pqh = 0xC0;
inline constexpr std::uint64_t pqt = 0xC8;
inline constexpr std::uint64_t pqa = 0xD0;
inline constexpr std::uint64_t prs_register = 0xDC;
inline constexpr std::uint64_t pectl = 0xE0;
inline constexpr std::uint64_t ppr = 1;
inline constexpr std::uint64_t pro = 2;

struct Response {
  std::uint16_t source;
  std::uint32_t pasid;
  std::uint32_t group;
  std::uint32_t code;
  friend bool operator==(const Response&, const Response&) = default;
};
struct Heard {
  std::vector<Response> responses;
  std::vector<std::uint32_t> messages;
  std::function<void()> on_message;  ///< once
};

[[nodiscard]] inline viommu_host host_of(Heard& heard) {
  viommu_host host = capi::empty_host();
  host.opaque = &heard;
  host.msi = [](void* opaque, std::uint64_t, std::uint32_t data) {
    auto& hears = *static_cast<Heard*>(opaque);
    hears.messages.push_back(data);
    if (const auto once = std::exchange(hears.on_message, {})) once();
  };
  host.page_response = [](void* opaque, std::uint16_t source, std::uint32_t pasid, std::uint32_t group,
                          std::uint32_t code) {
    static_cast<Heard*>(opaque)->responses.push_back({source, pasid, group, code});
  };
  return host;
}

/// `device` may ask for pages, without a PASID and by PASID 5.
struct World : Heard, Machine {
  explicit World(std::uint64_t ecap = everything | dt | prs | pds) : Machine{capability, ecap, 0x30, host_of(*this)} {
    attach(device, all_allowed);
    PasidEntry fields;
    fields.type = first_stage;
    fields.tree = tree;
    fields.high = bit(23);
    for (const std::uint32_t pasid : {0U, 5U}) set_pasid(pasid, fields);
    REQUIRE(engine.mmio_write(pqa, 8, queue) == VIOMMU_OK);
    REQUIRE(engine.mmio_write(pectl + 4, 4, 0x77) == VIOMMU_OK);
    REQUIRE(engine.mmio_write(pectl, 4, 0) == VIOMMU_OK);
  }
  viommu_result ask_page(const viommu_page_request& asked) {
    code = ~std::uint32_t{0};
    return viommu_request_page(engine.get(), &asked, &code);
  }
  static viommu_page_request page(std::uint16_t group, bool last, int by = 5, std::uint64_t at = iova) {
    viommu_page_request asked{};
    asked.iova = at;
    asked.source = device;
    asked.group = group;
    asked.access = VIOMMU_WRITE;
    asked.last = last ? 1 : 0;
    if (by >= 0) {
      asked.flags = VIOMMU_HAS_PASID;
      asked.pasid = static_cast<std::uint32_t>(by);
    }
    return asked;
  }
  void respond(std::uint64_t group, std::uint64_t answer, int by = 5, std::uint16_t source = device) {
    const std::uint64_t by_pasid = by >= 0 ? 0x10 | static_cast<std::uint64_t>(by) << 32 : 0;
    add(0x9 | answer << 12 | std::uint64_t{source} << 16 | by_pasid, group << 3);
    submit();
  }
  std::uint64_t reg(std::uint64_t offset) { return engine.mmio_read(offset, offset >= prs_register ? 4 : 8); }

  std::uint32_t code = 0;
  std::uint64_t queue = tables.allocate_page();  // 128 entries
  Tree tree = tables.create_tree(4);
};

}  // namespace viommu::test::page_requests
