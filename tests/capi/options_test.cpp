// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Creation options: limits, defaults, and the words for what is wrong.
#include <viommu/viommu.h>

#include <catch2/catch.hpp>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "tests/capi/machine.hpp"

namespace viommu::capi {
namespace {

struct Made {
  viommu_result result;
  std::string text;
};
Made make(const viommu_vtd_options& options) {
  const viommu_host host = empty_host();
  char text[200] = "untouched";
  viommu_engine* engine = nullptr;
  const viommu_result result = viommu_create_vtd(&options, &host, text, sizeof text, &engine);
  CHECK((engine != nullptr) == (result == VIOMMU_OK));
  CHECK(viommu_destroy(engine) == VIOMMU_OK);
  return {result, text};
}

bool names(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

constexpr std::uint64_t bit(unsigned number) { return std::uint64_t{1} << number; }
/// 48 bit, 16-bit domain ids, page-selective, one fault record at 220h; QI and pass-through, IOTLB registers at F0h.
constexpr std::uint64_t plain_cap = 0x80D2'008C'222F'0606;
constexpr std::uint64_t plain_ecap = 0xF42;
constexpr std::uint64_t smts = bit(43);

}  // namespace

TEST_CASE("every size has a least and a most, and the text says which", "[capi][options]") {
  struct Limit {
    const char* name;
    std::uint32_t viommu_vtd_options::* field;
    std::uint32_t least;
    std::uint32_t most;
  };
  const Limit limits[] = {
      {"iotlb_pages", &viommu_vtd_options::iotlb_pages, 1, 1U << 24},
      {"context_entries", &viommu_vtd_options::context_entries, 1, 65536},
      {"address_spaces", &viommu_vtd_options::address_spaces, 1, 65536},
      {"tag_bits", &viommu_vtd_options::tag_bits, 4, 16},
      {"structures", &viommu_vtd_options::structures, 1, 1U << 20},
      {"readers", &viommu_vtd_options::readers, 1, 4096},
      {"holds", &viommu_vtd_options::holds, 1, 1U << 20},
      {"regions", &viommu_vtd_options::regions, 1, 65536},
  };
  for (const Limit& limit : limits) {
    CAPTURE(limit.name);
    viommu_vtd_options options = default_options();
    for (const std::uint32_t value : {limit.least, limit.least + 1, std::min(limit.most, 5000U)}) {
      options.*limit.field = value;
      CHECK(make(options).text.empty());
    }
    std::vector<std::uint32_t> wrong{limit.most + 1, ~0U};
    if (limit.least > 1) wrong.push_back(limit.least - 1);
    for (const std::uint32_t value : wrong) {
      options.*limit.field = value;
      const Made made = make(options);
      CHECK(made.result == VIOMMU_E_ARGUMENT);
      CHECK(made.text == "options." + std::string{limit.name} + ": " + std::to_string(value) + ", and the range is " +
                             std::to_string(limit.least) + " to " + std::to_string(limit.most));
    }
  }
}

TEST_CASE("each size may be at its most", "[capi][options][P6]") {
  viommu_vtd_options options = default_options();
  options.context_entries = 65536;
  options.address_spaces = 65536;
  options.readers = 4096;
  options.holds = 1U << 20;
  options.regions = 65536;
  options.structures = 1U << 20;
  options.shards = 64;
  CHECK(make(options).result == VIOMMU_OK);
}

TEST_CASE("the number of shards is a power of two up to 64", "[capi][options][shards]") {
  viommu_vtd_options options = default_options();
  for (options.shards = 1; options.shards <= 64; ++options.shards) {
    const Made made = make(options);
    CAPTURE(options.shards);
    const bool power_of_two = (options.shards & (options.shards - 1)) == 0;
    CHECK(made.result == (power_of_two ? VIOMMU_OK : VIOMMU_E_ARGUMENT));
    if (!power_of_two) CHECK(made.text == "options.shards: not a power of two");
  }
  for (const std::uint32_t shards : {65U, 128U, ~0U}) {
    options.shards = shards;
    CHECK(make(options).result == VIOMMU_E_ARGUMENT);
    CHECK(make(options).text == "options.shards: " + std::to_string(shards) + ", and the range is 1 to 64");
  }
}

TEST_CASE("the number of PASID entries is a power of two from 8", "[capi][options][pasid]") {
  viommu_vtd_options options = default_options();
  for (options.pasid_entries = 1; options.pasid_entries <= 70'000;
       options.pasid_entries += 1 + options.pasid_entries / 9) {
    const std::uint32_t entries = options.pasid_entries;
    CAPTURE(entries);
    const bool in_range = entries >= 8 && entries <= 65536;
    const bool right = in_range && (entries & (entries - 1)) == 0;
    const Made made = make(options);
    CHECK(made.result == (right ? VIOMMU_OK : VIOMMU_E_ARGUMENT));
    if (!in_range)
      CHECK(made.text == "options.pasid_entries: " + std::to_string(entries) + ", and the range is 8 to 65536");
    else if (!right)
      CHECK(made.text == "options.pasid_entries: not a power of two");
  }
  for (options.pasid_entries = 8; options.pasid_entries <= 65536; options.pasid_entries *= 2)
    CHECK(make(options).result == VIOMMU_OK);
}

TEST_CASE("a limit on faults needs a clock", "[capi][options][S5.10]") {
  viommu_vtd_options options = default_options();
  options.fault_limit = 1;
  CHECK(make(options).result == VIOMMU_E_ARGUMENT);
  CHECK(make(options).text == "options.fault_limit: needs host.now_ns");
}

TEST_CASE("flags and modes that are not known are refused by name", "[capi][options]") {
  viommu_vtd_options options = default_options();
  for (const std::uint32_t flags : {128U, 0x80000000U, ~0U}) {
    options.flags = flags;
    CHECK(make(options).result == VIOMMU_E_ARGUMENT);
    CHECK(names(make(options).text, "options.flags"));
  }
  for (const std::uint32_t flags : {VIOMMU_FAULT_COMPRESSION, VIOMMU_UNCACHED, VIOMMU_UNKNOWN_BYPASSES}) {
    options.flags = flags;
    CHECK(make(options).result == VIOMMU_OK);
  }
  for (const std::uint32_t mode : {4U, ~0U}) {
    options = default_options();
    options.drain = mode;
    CHECK(make(options).result == VIOMMU_E_ARGUMENT);
    CHECK(names(make(options).text, "options.drain"));
    options = default_options();
    options.fill = mode;
    CHECK(make(options).result == VIOMMU_E_ARGUMENT);
    CHECK(names(make(options).text, "options.fill"));
  }
  for (const std::uint32_t drain :
       {VIOMMU_DRAIN_DEFAULT, VIOMMU_DRAIN_FENCE, VIOMMU_DRAIN_BARRIER, VIOMMU_DRAIN_AUTO}) {
    for (const std::uint32_t fill : {VIOMMU_FILL_DEFAULT, VIOMMU_FILL_EXACT, VIOMMU_FILL_LINE, VIOMMU_FILL_ALL}) {
      options = default_options();
      options.drain = drain;
      options.fill = fill;
      CHECK(make(options).result == VIOMMU_OK);
    }
  }
}

TEST_CASE("capabilities that this build does not have are refused by the field's name", "[capi][options]") {
  struct Refused {
    std::uint64_t cap;
    std::uint64_t ecap;
    const char* field;
  };
  const Refused all[] = {
      {bit(61), 0, "ECMDS"},
      {0, smts | bit(25), "MTS"},
      {0, bit(44) | bit(50), "VCS"},  // the first that is missing is named
  };
  for (const Refused& refused : all) {
    viommu_vtd_options options = default_options();
    options.capability = plain_cap | refused.cap;
    options.extended_capability = plain_ecap | refused.ecap;
    const Made made = make(options);
    CAPTURE(refused.field, made.text);
    CHECK(made.result != VIOMMU_OK);
    if (made.result == VIOMMU_E_UNSUPPORTED) CHECK(names(made.text, refused.field));
  }
  viommu_vtd_options options = default_options();
  options.capability = plain_cap;
  options.extended_capability = plain_ecap | smts | bit(25);
  CHECK(make(options).result == VIOMMU_E_UNSUPPORTED);
  CHECK(make(options).text == "not supported: MTS");
}

TEST_CASE("capabilities that contradict each other are refused by the field's name", "[capi][options]") {
  viommu_vtd_options options = default_options();
  options.capability = plain_cap;
  options.extended_capability = plain_ecap;
  CHECK(make(options).text.empty());
  options.extended_capability = plain_ecap & ~bit(1);
  options.extended_capability |= bit(3);  // IR without QI
  CHECK(make(options).result == VIOMMU_E_ARGUMENT);
  CHECK(make(options).text == "IR: needs QI");
  options.extended_capability = plain_ecap;
  options.capability = plain_cap | bit(8);
  CHECK(make(options).result == VIOMMU_E_ARGUMENT);
  CHECK(names(make(options).text, "SAGAW"));
  options.capability = plain_cap;
  options.version = 0xF00;
  CHECK(make(options).result == VIOMMU_E_ARGUMENT);
  CHECK(names(make(options).text, "VER"));
  for (const std::uint32_t width : {1U, 31U, 53U, 64U, ~0U}) {
    options = default_options();
    options.host_address_width = width;
    CHECK(make(options).result == VIOMMU_E_ARGUMENT);
    CHECK(names(make(options).text, "HAW"));
  }
}

TEST_CASE("the text fits whatever room there is, and ends", "[capi][options]") {
  viommu_vtd_options options = default_options();
  options.tag_bits = 99;
  const viommu_host host = empty_host();
  viommu_engine* engine = nullptr;
  CHECK(viommu_create_vtd(&options, &host, nullptr, 0, &engine) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_create_vtd(&options, &host, nullptr, 100, &engine) == VIOMMU_E_ARGUMENT);
  const std::string whole = make(options).text;
  for (std::size_t size = 0; size <= whole.size() + 2; ++size) {
    std::vector<char> text(size + 8, 'x');
    CHECK(viommu_create_vtd(&options, &host, text.data(), size, &engine) == VIOMMU_E_ARGUMENT);
    CHECK(std::string(text.begin() + static_cast<std::ptrdiff_t>(size), text.end()) == "xxxxxxxx");
    if (size != 0) CHECK(std::string{text.data()} == whole.substr(0, size - 1));
  }
  // Also when something else than the options is wrong, the text is a text.
  char text[8] = "xxxxxxx";
  CHECK(viommu_create_vtd(nullptr, &host, text, sizeof text, &engine) == VIOMMU_E_ARGUMENT);
  CHECK(text[0] == '\0');
}

TEST_CASE("an engine of defaults is what the manual says", "[capi][options]") {
  Engine engine = create();
  const std::uint64_t cap = engine.mmio_read(8, 8);
  const std::uint64_t ecap = engine.mmio_read(0x10, 8);
  CHECK(engine.mmio_read(0, 4) == 0x10);
  CHECK((cap >> 8 & 0x1F) == 0b01110);  // 39, 48, 57 bit
  CHECK((cap >> 34 & 0xF) == 3);        // 2 MiB and 1 GiB pages
  CHECK((cap >> 40 & 0xFF) + 1 == 8);   // fault records
  CHECK((cap >> 7 & 1) == 0);           // no caching mode
  CHECK((ecap & bit(0)) != 0);          // coherent
  CHECK((ecap & bit(1)) != 0);          // QI
  CHECK((ecap & bit(6)) != 0);          // PT
  // And 16-bit domain ids, 57 bits of input, records at 220h, up to 2^18 pages at once, drains, SRTP that invalidates.
  CHECK(cap == 0x80D2'078C'2238'0E06);
  CHECK(ecap == 0xF43);  // IVA and IOTLB at F0h
  std::vector<Reader> readers;
  for (unsigned i = 0; i < 64; ++i) {
    Expected<Reader> reader = engine.reader();
    REQUIRE(reader);
    readers.push_back(*std::move(reader));
  }
  CHECK(engine.reader().error().code == VIOMMU_E_LIMIT);
}

TEST_CASE("the host address width is MGAW + 1 unless it is given, and decides what is reserved", "[capi][options]") {
  // Bit 45 of an address: beyond a width of 45, within 46.
  for (const std::uint32_t width : {0U, 45U, 46U}) {
    viommu_vtd_options options = default_options();
    options.host_address_width = width;
    Machine machine{options};
    machine.map(base_iova, bit(45));
    CHECK(machine.ask().kind == (width == 45 ? VIOMMU_FAULT : VIOMMU_TRANSLATED));
    if (width == 45) CHECK(machine.ask().reason == 0xC);
  }
  // MGAW of the defaults is 57; an entry holds 52 bits.
  Machine machine;
  machine.map(base_iova, bit(51));
  CHECK(machine.ask().kind == VIOMMU_TRANSLATED);
}

TEST_CASE("two engines hash differently unless they are told the same seed", "[capi][options][SEC-10]") {
  // How many of many pages fit a small IOTLB depends on which share a set.
  const auto hits = [](std::uint64_t seed, std::uint32_t shards = 0) {
    viommu_vtd_options options = default_options();
    options.iotlb_pages = 64;
    options.fill = VIOMMU_FILL_EXACT;
    options.hash_seed = seed;
    options.shards = shards;
    Machine machine{options};
    constexpr std::uint64_t pages = 120;
    const auto iova = [](std::uint64_t page) { return base_iova + page * (page + 1) / 2 * page_bytes; };
    for (std::uint64_t page = 0; page < pages; ++page) machine.map(iova(page), page * page_bytes);
    std::vector<bool> pattern;
    for (std::uint64_t page = 0; page < pages; ++page) static_cast<void>(machine.ask(iova(page)));
    for (std::uint64_t page = 0; page < pages; ++page) {
      const std::uint64_t before = machine.engine.statistics().iotlb_hits;
      static_cast<void>(machine.ask(iova(page)));
      pattern.push_back(machine.engine.statistics().iotlb_hits != before);
    }
    return pattern;
  };
  CHECK(hits(5) == hits(5));
  CHECK(hits(5) != hits(6));
  CHECK(hits(5) == hits(5, 1));  // one part unless told, and a domain has no more than its part
  CHECK(hits(5) != hits(5, 2));
  const auto random = hits(0);
  bool differs = false;
  for (unsigned i = 0; i < 4 && !differs; ++i) differs = hits(0) != random;
  CHECK(differs);
}

}  // namespace viommu::capi
