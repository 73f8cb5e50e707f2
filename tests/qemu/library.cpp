// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "tests/qemu/library.hpp"

#include <cstring>
#include <stdexcept>
#include <string>
#include <utility>

namespace viommu::qemu {
namespace {

Engine create(const Variant& variant, std::uint64_t capability, std::uint64_t extended) {
  viommu_vtd_options options{};
  options.size = sizeof options;
  options.capability = capability;
  options.extended_capability = extended;
  options.host_address_width = variant.address_bits;
  options.flags = VIOMMU_FAULT_COMPRESSION;  // QEMU collapses faults of one source too
  options.iotlb_pages = 256;
  options.context_entries = 16;
  options.readers = 1;
  viommu_host host{};
  host.size = sizeof host;
  Expected<Engine> created = Engine::create_vtd(options, host);
  if (!created) throw std::runtime_error{"the library refuses QEMU's unit: " + std::string{created.error().text}};
  return *std::move(created);
}

}  // namespace

Library::Library(const Variant& variant, std::uint64_t capability, std::uint64_t extended)
    : memory_((ram_end - ram_first) / sizeof(Page)),
      engine_{create(variant, capability, extended)},
      reader_{*engine_.reader()} {
  if (engine_.add_region(ram_first, std::as_writable_bytes(std::span{memory_})) != VIOMMU_OK)
    throw std::runtime_error{"the library refuses its memory"};
}

std::byte* Library::at(std::uint64_t gpa) { return &memory_.at((gpa - ram_first) / sizeof(Page)).bytes.at(gpa % 4096); }

const std::byte* Library::at(std::uint64_t gpa) const {
  return &memory_.at((gpa - ram_first) / sizeof(Page)).bytes.at(gpa % 4096);
}

void Library::reset() {
  if (engine_.reset() != VIOMMU_OK) throw std::runtime_error{"the library refuses a reset"};
}

void Library::clear_arena() { std::memset(at(arena), 0, arena_end - arena); }

void Library::write_register(std::uint64_t offset, unsigned size, std::uint64_t value) {
  static_cast<void>(engine_.mmio_write(offset, size, value));
  while (engine_.process().state == VIOMMU_PROCESS_MORE) {
  }
}

std::uint64_t Library::read_register(std::uint64_t offset, unsigned size) { return engine_.mmio_read(offset, size); }

Registers Library::registers() {
  Registers all{};
  for (std::size_t at = 0; at < all.size(); ++at) {
    all.at(at) = static_cast<std::uint32_t>(engine_.mmio_read(4 * at, 4));
  }
  return all;
}

void Library::store(std::uint64_t gpa, unsigned size, std::uint64_t value) { std::memcpy(at(gpa), &value, size); }

std::optional<std::uint64_t> Library::load_u64(std::uint64_t gpa) const {
  if (!is_ram(gpa) || !is_ram(gpa + 7)) return std::nullopt;
  std::uint64_t value = 0;
  std::memcpy(&value, at(gpa), sizeof value);
  return value;
}

std::uint32_t Library::load(std::uint64_t gpa) const { return load_block(gpa, sizeof(std::uint32_t)).front(); }

std::vector<std::uint32_t> Library::load_block(std::uint64_t gpa, std::uint64_t bytes) const {
  std::vector<std::uint32_t> words(bytes / 4);
  std::memcpy(words.data(), at(gpa), bytes);
  return words;
}

viommu_translation Library::dma(std::size_t device, std::uint64_t iova, bool write) {
  const Guard guard = reader_.guard();
  viommu_request request{};
  request.iova = iova;
  request.length = sizeof(std::uint32_t);
  request.source = sources.at(device);
  request.access = write ? VIOMMU_WRITE : VIOMMU_READ;
  const viommu_translation answer = reader_.translate(request);
  std::uint32_t& buffer = buffers_.at(device);
  if (answer.kind == VIOMMU_FAULT || !is_ram(answer.gpa)) {
    if (!write) buffer = 0;
    return answer;
  }
  if (write) {
    store(answer.gpa, sizeof buffer, buffer);
  } else {
    buffer = load(answer.gpa);
  }
  return answer;
}

}  // namespace viommu::qemu
