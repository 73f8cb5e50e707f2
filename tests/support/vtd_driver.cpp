// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "tests/support/vtd_driver.hpp"

#include <stdexcept>
#include <thread>
#include <utility>

namespace viommu::test {
namespace {

constexpr std::uint64_t gcmd = 0x18;
constexpr std::uint64_t gsts = 0x1C;
constexpr std::uint64_t rtaddr = 0x20;
constexpr std::uint64_t ccmd = 0x28;
constexpr std::uint64_t fsts = 0x34;
constexpr std::uint64_t iqt = 0x88;
constexpr std::uint64_t iqa = 0x90;
constexpr std::uint64_t cap = 0x08;
constexpr std::uint64_t ecap = 0x10;

constexpr std::uint64_t translation_enable = 0x80000000;
constexpr std::uint64_t set_root = 0x40000000;
constexpr std::uint64_t queue_enable = 0x04000000;
constexpr std::uint64_t top_bit = std::uint64_t{1} << 63;

constexpr std::uint64_t queue_bytes = 4096;
constexpr unsigned patience = 50'000'000;  // rounds: far more than a guard or a hold of a test can last

}  // namespace

VtdDriver::VtdDriver(Engine& engine, Words words, std::uint64_t queue_page, std::uint64_t status_word)
    : engine_{&engine}, words_{std::move(words)}, queue_{queue_page}, status_{status_word} {}

void VtdDriver::await(std::uint64_t offset, std::uint32_t size, std::uint64_t mask, std::uint64_t value) {
  for (unsigned round = 0; (engine_->mmio_read(offset, size) & mask) != value; ++round) {
    if (round == patience) throw std::runtime_error{"the unit does not finish a register command"};
    static_cast<void>(engine_->process());
    std::this_thread::yield();
  }
}

void VtdDriver::command(std::uint64_t bits) { engine_->mmio_write(gcmd, 4, enabled_ | bits); }

void VtdDriver::set_root_table(std::uint64_t root_table) {
  engine_->mmio_write(rtaddr, 8, root_table);
  command(set_root);
  await(gsts, 4, set_root, set_root);
}

void VtdDriver::enable_queue() {
  tail_ = 0;
  engine_->mmio_write(iqt, 8, 0);
  engine_->mmio_write(iqa, 8, queue_);
  enabled_ |= queue_enable;
  command(0);
  await(gsts, 4, queue_enable, queue_enable);
}

void VtdDriver::enable_translation(bool on) {
  enabled_ = (enabled_ & ~translation_enable) | (on ? translation_enable : 0);
  command(0);
  await(gsts, 4, translation_enable, enabled_ & translation_enable);
}

void VtdDriver::add(std::uint64_t low, std::uint64_t high) {
  words_.store(queue_ + tail_, low);
  words_.store(queue_ + tail_ + 8, high);
  tail_ = (tail_ + 16) % queue_bytes;
}

std::uint32_t VtdDriver::submit() {
  ++tickets_;
  add(0x25 | std::uint64_t{tickets_} << 32, status_);
  engine_->mmio_write(iqt, 8, tail_);
  return tickets_;
}

bool VtdDriver::completed(std::uint32_t ticket) const {
  const auto written = static_cast<std::uint32_t>(words_.load(status_).value_or(0));
  return static_cast<std::int32_t>(written - ticket) >= 0;
}

void VtdDriver::wait_for(std::uint32_t ticket) {
  for (unsigned round = 0; !completed(ticket); ++round) {
    if (round == patience) throw std::runtime_error{"the unit does not complete a wait descriptor"};
    static_cast<void>(engine_->process());
    std::this_thread::yield();
  }
}

void VtdDriver::add_page(std::uint16_t domain_id, std::uint64_t iova, unsigned address_mask, bool leaf_only) {
  add(0x32 | std::uint64_t{domain_id} << 16, (iova & ~std::uint64_t{0xFFF}) | (leaf_only ? 0x40U : 0U) | address_mask);
}

void VtdDriver::add_context_device(std::uint16_t domain_id, std::uint16_t source_id, unsigned function_mask) {
  add(0x31 | std::uint64_t{domain_id} << 16 | std::uint64_t{source_id} << 32 | std::uint64_t{function_mask} << 48);
}

void VtdDriver::context_by_register(Granularity granularity, std::uint16_t domain_id, std::uint16_t source_id,
                                    unsigned function_mask) {
  engine_->mmio_write(ccmd, 8,
                      top_bit | static_cast<std::uint64_t>(granularity) << 61 | std::uint64_t{function_mask} << 32 |
                          std::uint64_t{source_id} << 16 | domain_id);
  await(ccmd, 8, top_bit, 0);
}

void VtdDriver::iotlb_by_register(Granularity granularity, std::uint16_t domain_id, std::uint64_t iova,
                                  unsigned address_mask) {
  const std::uint64_t iva = 16 * (engine_->mmio_read(ecap, 8) >> 8 & 0x3FF);
  engine_->mmio_write(iva, 8, (iova & ~std::uint64_t{0xFFF}) | address_mask);
  engine_->mmio_write(iva + 8, 8,
                      top_bit | static_cast<std::uint64_t>(granularity) << 60 | std::uint64_t{domain_id} << 32);
  await(iva + 8, 8, top_bit, 0);
}

std::optional<FaultRecord> VtdDriver::take_fault() {
  constexpr std::uint64_t pending = 2;
  const std::uint64_t status = engine_->mmio_read(fsts, 4);
  if ((status & pending) == 0) return std::nullopt;
  const std::uint64_t record = 16 * (engine_->mmio_read(cap, 8) >> 24 & 0x3FF) + 16 * (status >> 8 & 0xFF);
  const FaultRecord found{engine_->mmio_read(record, 8), engine_->mmio_read(record + 8, 8)};
  engine_->mmio_write(record + 12, 4, 0x80000000);
  return found;
}

}  // namespace viommu::test
