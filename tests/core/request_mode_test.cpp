// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/core/request_mode.hpp"

#include <catch2/catch.hpp>
#include <cstdint>

namespace viommu::core {

TEST_CASE("a mode is plain when requests are translated and that is all, whatever the tables", "[core][mode]") {
  using Mode = RequestMode;
  const auto plain = [](std::uint64_t word) { return RequestMode{word}.plain(); };
  for (const std::uint64_t root : {std::uint64_t{0}, std::uint64_t{0x5000}, std::uint64_t{0xF'FFFF'FFFF'F000}}) {
    CHECK(plain(root | Mode::translating));
    CHECK(plain(root | Mode::translating | Mode::scalable));
    CHECK_FALSE(plain(root));
    CHECK_FALSE(plain(root | Mode::scalable));
    for (const std::uint64_t more :
         {Mode::protecting, Mode::invalid_table, Mode::aborting, Mode::counting, Mode::logging})
      CHECK_FALSE(plain(root | Mode::translating | more));
    CHECK(RequestMode{root | Mode::translating | Mode::counting}.uncounted().plain());
    CHECK(RequestMode{root | Mode::translating | Mode::logging}.unlogged().plain());
    CHECK(RequestMode{root | Mode::translating | Mode::scalable}.root() == Gpa{root});
  }
}

}  // namespace viommu::core
