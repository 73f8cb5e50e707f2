// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// A unit that is saved here and goes on there: what keeps it from being saved, what travels, what is refused.
#include <fstream>
#include <string>
#include <vector>

#include "tests/behaviour/machine.hpp"
#include "tests/behaviour/ring.hpp"
#include "tests/behaviour/scalable_machine.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/random.hpp"
#include "tests/support/saved_state.hpp"

namespace viommu::test {
namespace {

constexpr std::uint16_t device_a = 0x0100;
constexpr std::uint16_t device_b = 0x0200;
constexpr std::uint64_t iova = 0x5000;
constexpr std::uint64_t page = 0x400000;

/// A is translated, B passes through; translation and the queue are on, with a ring by hand.
struct Guest {
  explicit Guest(const viommu_vtd_options& options = usual_options()) : machine{options} {
    machine.tables.map(tree, iova, page);
    machine.attach_pass_through(device_b, 2);
    machine.boot_without_queue();
    ring.enable();
  }
  [[nodiscard]] viommu_engine* engine() const { return machine.engine.get(); }

  Machine machine;
  Tree tree = machine.attach(device_a, 1);
  Ring ring{machine};
};

/// Another machine with the same memory, in which nothing has happened yet.
struct OtherSide {
  explicit OtherSide(const Machine& from, const viommu_vtd_options& options = usual_options()) : machine{options} {
    machine.memory = from.memory;
  }
  [[nodiscard]] viommu_engine* engine() const { return machine.engine.get(); }

  Machine machine;
};

/// Every register that a guest can read, records too.
std::vector<std::uint64_t> all_registers(Machine& machine) {
  std::vector<std::uint64_t> values;
  for (std::uint64_t at = 0; at < viommu_mmio_size(machine.engine.get()); at += 4) values.push_back(machine.read(at));
  return values;
}

std::string busy_with(viommu_engine* engine) {
  const Saved saved = try_save(engine);
  if (saved.result == VIOMMU_OK) return "";
  CHECK(saved.result == VIOMMU_E_REFUSED);
  CHECK(saved.refusal.code == VIOMMU_REFUSED_BUSY);
  CHECK(saved.state.empty());
  return saved.refusal.field;
}
viommu_refusal quiesce(viommu_engine* engine) {
  viommu_refusal refusal = empty_refusal();
  const viommu_result result = viommu_quiesce(engine, &refusal);
  CHECK((result == VIOMMU_OK) == (refusal.code == VIOMMU_REFUSED_NOTHING));
  return refusal;
}

State golden_state() {
  std::ifstream file{source_folder() / "tests/states/version-1.hex"};
  REQUIRE(file);
  State state;
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with('#')) continue;
    for (std::size_t at = 0; at + 1 < line.size(); at += 2)
      state.push_back(static_cast<std::byte>(std::stoul(line.substr(at, 2), nullptr, 16)));
  }
  return state;
}

/// What the golden state was made of, and can be made of again.
void make_golden(Guest& guest) {
  Machine& machine = guest.machine;
  machine.write(offset::fault_event_data, 0x31);
  machine.write(offset::fault_event_address, 0xFEE0'1000);
  static_cast<void>(machine.ask(device_a, 0x7000));              // a fault that is pending, its event masked
  static_cast<void>(machine.ask(0x0300, 0x9000, VIOMMU_WRITE));  // and another
  guest.ring.put(descriptor::context_global);
  guest.ring.put(descriptor::iotlb_global);
  guest.ring.put_wait(descriptor::wait_status | descriptor::wait_interrupt, 7);
  guest.ring.put(0xF);  // no such type
  guest.ring.put_wait(descriptor::wait_status, 8);
  guest.ring.go();
  machine.write(offset::root_table, 0x123000, 8);  // not latched
}

}  // namespace

TEST_CASE("a unit is saved when it is quiet, and who is in the way is named", "[behaviour][state][S5.5]") {
  Guest guest;
  Machine& machine = guest.machine;
  viommu_translation answer{};
  Hold writing = machine.reader.hold(request(device_a, iova, VIOMMU_WRITE), 7, answer);
  REQUIRE(writing);
  for (unsigned i = 0; i < 100; ++i) guest.ring.put(descriptor::iotlb_global);
  guest.ring.put_wait(descriptor::wait_status, 0x55);
  guest.ring.go();
  CHECK(busy_with(guest.engine()) == "hold");
  const viommu_refusal refusal = quiesce(guest.engine());
  CHECK(refusal.code == VIOMMU_REFUSED_BUSY);
  CHECK(std::string{refusal.field} == "hold");
  CHECK(refusal.found == 7);
  writing.release();
  CHECK(machine.word_at(Machine::status_word) != 0x55);
  CHECK(quiesce(guest.engine()).code == VIOMMU_REFUSED_NOTHING);
  CHECK(machine.word_at(Machine::status_word) == 0x55);
  CHECK(busy_with(guest.engine()).empty());
}

TEST_CASE("an open hold is in the way of being saved only where it writes or a completion waits for it",
          "[behaviour][state][S5.5]") {
  Guest guest;
  Machine& machine = guest.machine;
  viommu_translation answer{};
  Hold reading = machine.reader.hold(request(device_a, iova, VIOMMU_READ), 8, answer);
  REQUIRE(reading);
  CHECK(busy_with(guest.engine()).empty());
  {
    Hold writing = machine.reader.hold(request(device_a, iova, VIOMMU_READ | VIOMMU_WRITE), 9, answer);
    CHECK(busy_with(guest.engine()) == "hold");
  }
  CHECK(busy_with(guest.engine()).empty());
  guest.ring.put(descriptor::iotlb_global);
  guest.ring.put_wait(descriptor::wait_status, 1);
  guest.ring.go();
  const viommu_refusal refusal = quiesce(guest.engine());
  CHECK(std::string{refusal.field} == "hold");
  CHECK(refusal.found == 8);
  reading.release();
  CHECK(quiesce(guest.engine()).code == VIOMMU_REFUSED_NOTHING);
}

TEST_CASE("a completion that waits for a guard, and a region that is not gone, are in the way of being saved",
          "[behaviour][state][S5.5]") {
  Guest guest;
  Machine& machine = guest.machine;
  std::vector<std::byte> more(0x2000);
  const auto first = (0x1000 - reinterpret_cast<std::uintptr_t>(more.data()) % 0x1000) % 0x1000;
  REQUIRE(machine.engine.add_region(0x10000000, std::span{more}.subspan(first, 0x1000)) == VIOMMU_OK);
  {
    const Guard guard = machine.reader.guard();
    CHECK(busy_with(guest.engine()).empty());  // a guard alone hinders nobody
    guest.ring.put(descriptor::iotlb_global);
    guest.ring.put_wait(descriptor::wait_status, 1);
    guest.ring.go();
    CHECK(busy_with(guest.engine()) == "guard");
  }
  CHECK(quiesce(guest.engine()).code == VIOMMU_REFUSED_NOTHING);
  {
    const Guard guard = machine.reader.guard();
    machine.command(command::interrupt_table);
    CHECK(busy_with(guest.engine()) == "guard");
  }
  CHECK(quiesce(guest.engine()).code == VIOMMU_REFUSED_NOTHING);
  {
    const Guard guard = machine.reader.guard();
    REQUIRE(machine.engine.remove_region(0x10000000, 77) == VIOMMU_OK);
    const viommu_refusal refusal = quiesce(guest.engine());
    CHECK(std::string{refusal.field} == "region");
    CHECK(refusal.found == 77);
  }
  CHECK(quiesce(guest.engine()).code == VIOMMU_REFUSED_NOTHING);
}

TEST_CASE("a doorbell after quiesce is in the way of being saved only while it has left work",
          "[behaviour][state][S5.5]") {
  Guest guest;
  Machine& machine = guest.machine;
  CHECK(quiesce(guest.engine()).code == VIOMMU_REFUSED_NOTHING);
  guest.ring.put(descriptor::iotlb_global);
  guest.ring.go();  // done at once
  CHECK(busy_with(guest.engine()).empty());
  // While the unit is at work another processor rings: what that asks for is found by the thread that is at work.
  bool asked = false;
  machine.on_effect = [&](const Effect&) {
    if (std::exchange(asked, true)) return;
    elsewhere([&] { CHECK(busy_with(guest.engine()) == "process"); });
  };
  guest.ring.put_wait(descriptor::wait_status, 3);
  guest.ring.go();
  CHECK(asked);
  CHECK(busy_with(guest.engine()).empty());
}

TEST_CASE("a device that has not answered is in the way of being saved", "[behaviour][state][S5.5]") {
  viommu_host host = capi::empty_host();
  static std::uint64_t ticket;
  host.device_invalidate = [](void*, std::uint64_t open, std::uint16_t, std::uint32_t, std::uint64_t, std::uint64_t) {
    ticket = open;
    return std::int32_t{VIOMMU_DEVICE_PENDING};
  };
  ScalableMachine machine{scalable::capability, scalable::everything | ecap_device_tlb, 0x30, host};
  viommu_engine* const engine = machine.engine.get();
  CHECK(busy_with(engine).empty());
  machine.add(0x3 | std::uint64_t{ScalableMachine::device} << 32);
  REQUIRE(machine.engine.mmio_write(offset::queue_tail, 8, machine.tail()) == VIOMMU_OK);
  const viommu_refusal refusal = quiesce(engine);
  CHECK(std::string{refusal.field} == "device invalidation");
  CHECK(refusal.source == ScalableMachine::device);
  REQUIRE(viommu_device_invalidated(engine, ticket, VIOMMU_INVALIDATED) == VIOMMU_OK);
  CHECK(quiesce(engine).code == VIOMMU_REFUSED_NOTHING);
}

TEST_CASE("a unit goes on elsewhere where it was: faults, events, a stopped queue", "[behaviour][state][S5.7][B65]") {
  Guest guest;
  make_golden(guest);
  Machine& before = guest.machine;
  before.write(offset::completion_event_data, 0x32);
  const State state = save(guest.engine());

  OtherSide other{before};
  Machine& after = other.machine;
  require_load(other.engine(), state);
  CHECK(all_registers(after) == all_registers(before));
  CHECK(after.read(offset::queue_head, 8) == 0x30);
  CHECK(save(other.engine()) == state);

  static_cast<void>(after.take_effects());
  after.write(offset::fault_event_control, 0);  // IM cleared: the event goes now
  after.write(offset::completion_event_control, 0);
  CHECK(after.take_effects() == std::vector<Effect>{{Effect::message, 0xFEE0'1000, 0x31}, {Effect::message, 0, 0x32}});
  // The next fault goes into the third record.
  CHECK(after.ask(device_a, 0xB000).status == VIOMMU_FAULT_RECORDED);
  CHECK(after.read(0x220 + 2 * 16, 8) == 0xB000);
  // The descriptor that stopped the queue is repaired: fetching goes on at it, and nothing before it is done again.
  const std::uint64_t done = after.engine.statistics().descriptors;
  REQUIRE(after.memory.store_u64(Machine::queue_page + 0x30, descriptor::iotlb_global));
  after.write(offset::fault_status, status::queue_error);
  CHECK(after.read(offset::queue_head, 8) == 0x50);
  CHECK(after.word_at(Machine::status_word) == 8);
  CHECK(after.engine.statistics().descriptors == done + 2);
}

TEST_CASE("the record of each kind of fault goes along: an address, and an index of interrupts",
          "[behaviour][state][S5.7][B65]") {
  Guest guest;
  Machine& before = guest.machine;
  REQUIRE(before.ask(device_a, 0x7000).status == VIOMMU_FAULT_RECORDED);
  // Codes 20h to 28h have an index; this one is that of a DMA request, and has its address.
  const viommu_translation read = before.ask(device_a, 0xFEE0'1000);
  REQUIRE(read.reason == 0x29);
  REQUIRE(read.status == VIOMMU_FAULT_RECORDED);
  CHECK(before.read(0x220 + 16, 8) == 0xFEE0'1000);
  const State state = save(guest.engine());
  OtherSide other{before};
  require_load(other.engine(), state);
  CHECK(all_registers(other.machine) == all_registers(before));
  CHECK(save(other.engine()) == state);
}

TEST_CASE("after a load devices are translated by what was saved, from the first request on",
          "[behaviour][state][S1.18][S5.7][B65]") {
  Guest guest;
  Machine& before = guest.machine;
  CHECK(before.lands(device_a, iova) == page);
  const State state = save(guest.engine());
  OtherSide other{before};
  Machine& after = other.machine;
  CHECK(after.lands(device_a, iova) == iova);  // translation is off
  require_load(other.engine(), state);
  const std::uint64_t walks = after.engine.statistics().walks;
  CHECK(after.lands(device_a, iova) == page);
  CHECK(after.engine.statistics().walks == walks + 1);  // no cache travels
  CHECK(after.ask(device_b, 0x1234000).kind == VIOMMU_IDENTITY);
  CHECK(after.blocked(0x0300, iova) == 1);
  // And by what was latched: the register says something else since.
  before.write(offset::root_table, 0x7000, 8);
  require_load(other.engine(), save(guest.engine()));
  CHECK(after.lands(device_a, iova) == page);
  CHECK(after.read(offset::root_table, 8) == 0x7000);
  after.command(command::root_pointer);
  CHECK(after.blocked(device_a, iova) != 0);
}

TEST_CASE("a load finds nothing of what an engine was before", "[behaviour][state][S5.7][B61]") {
  Guest guest;
  const State state = save(guest.engine());
  // The other one translates the same device to somewhere else, has a fault, a queue error and an open wait.
  Guest other;
  Machine& machine = other.machine;
  machine.tables.map(other.tree, iova, page + 0x1000);
  CHECK(machine.lands(device_a, iova) == page + 0x1000);
  make_golden(other);
  {
    const Guard guard = machine.reader.guard();
    machine.write(offset::fault_status, status::queue_error);
    other.ring.repair_head(descriptor::iotlb_global);
    CHECK(machine.lands(device_a, iova) == page + 0x1000);  // and is cached again
    machine.memory = guest.machine.memory;
    require_load(other.engine(), state);
  }
  CHECK(machine.engine.process().state == VIOMMU_PROCESS_IDLE);
  CHECK(machine.lands(device_a, iova) == page);
  CHECK(all_registers(machine) == all_registers(guest.machine));
  CHECK(save(other.engine()) == state);
}

TEST_CASE("a load tells the whole interrupt table, of both sides", "[behaviour][state][S5.1][S5.7]") {
  Guest guest;
  guest.machine.write(offset::interrupt_table, 0x30000 | 7, 8);  // 256 entries
  guest.machine.command(command::interrupt_table);
  guest.machine.command(command::interrupt_remapping);
  const State state = save(guest.engine());
  OtherSide other{guest.machine};
  require_load(other.engine(), state);
  CHECK(other.machine.take_effects() == std::vector<Effect>{{Effect::routes, 0, 256}});
  viommu_message message{};
  message.address = 0xFEE0'0010;  // remappable, entry 0: not present
  CHECK(other.machine.engine.route(message).reason == 0x22);
  // Smaller than what was there before: the rest is to be looked at too.
  Guest small;
  require_load(other.engine(), save(small.engine()));
  CHECK(other.machine.take_effects() == std::vector<Effect>{{Effect::routes, 0, 256}});
  CHECK(other.machine.engine.route(message).kind == VIOMMU_ROUTE_UNCHANGED);
}

TEST_CASE("page requests that wait for the guest's answer are answered on the other side",
          "[behaviour][state][S5.7][S5.4]") {
  constexpr std::uint64_t page_requests = scalable::bit(29);
  constexpr std::uint64_t pqh = 0xC0;
  constexpr std::uint64_t pqt = 0xC8;
  constexpr std::uint64_t pqa = 0xD0;
  struct Response {
    std::uint16_t source;
    std::uint32_t pasid;
    std::uint32_t group;
    std::uint32_t code;
    bool operator==(const Response&) const = default;
  };
  std::vector<Response> responses;
  viommu_host host = capi::empty_host();
  host.opaque = &responses;
  host.page_response = [](void* opaque, std::uint16_t source, std::uint32_t pasid, std::uint32_t group,
                          std::uint32_t code) {
    static_cast<std::vector<Response>*>(opaque)->push_back({source, pasid, group, code});
  };
  const std::uint64_t ecap = scalable::everything | ecap_device_tlb | page_requests;
  ScalableMachine machine{scalable::capability, ecap, 0x30, host};
  machine.attach(ScalableMachine::device, 4 | 8 | 16);
  PasidEntry fields;
  fields.type = scalable::first_stage;
  fields.tree = machine.tables.create_tree(4);
  fields.high = scalable::bit(23);
  machine.set_pasid(0, fields);
  machine.set_pasid(5, fields);
  const std::uint64_t queue = machine.tables.allocate_page();
  REQUIRE(machine.engine.mmio_write(pqa, 8, queue) == VIOMMU_OK);
  for (std::uint16_t group = 0; group < 64; ++group) {
    viommu_page_request asked{};
    asked.iova = 0x6000;
    asked.source = ScalableMachine::device;
    asked.group = group;
    asked.access = VIOMMU_READ;
    asked.last = 1;
    asked.pasid = 5;
    asked.flags = group % 2 == 0 ? std::uint8_t{VIOMMU_HAS_PASID} : std::uint8_t{0};
    if (group % 2 != 0) asked.pasid = 0;
    std::uint32_t code = 0;
    REQUIRE(viommu_request_page(machine.engine.get(), &asked, &code) == VIOMMU_PAGE_QUEUED);
  }
  REQUIRE(machine.engine.mmio_write(pqh, 8, std::uint64_t{32} * 10) == VIOMMU_OK);
  const State state = save(machine.engine.get());

  // The same machine after a reset, which answers what was open there.
  REQUIRE(viommu_reset(machine.engine.get()) == VIOMMU_OK);
  CHECK(responses.size() == 64);
  responses.clear();
  require_load(machine.engine.get(), state);
  CHECK(save(machine.engine.get()) == state);
  CHECK(machine.engine.mmio_read(pqt, 8) == std::uint64_t{32} * 64);
  CHECK(machine.engine.mmio_read(pqh, 8) == std::uint64_t{32} * 10);
  CHECK(responses.empty());
  machine.add(0x9 | std::uint64_t{ScalableMachine::device} << 16 | 0x10 | 5ULL << 32, 4 << 3);
  machine.add(0x9 | std::uint64_t{ScalableMachine::device} << 16, 7 << 3);
  machine.submit();
  CHECK(responses == std::vector<Response>{{ScalableMachine::device, 5, 4, VIOMMU_PAGE_SUCCESS},
                                           {ScalableMachine::device, VIOMMU_NO_PASID, 7, VIOMMU_PAGE_SUCCESS}});
  responses.clear();
  // A load is for what is open here what a reset is.
  require_load(machine.engine.get(), state);
  CHECK(responses.size() == 62);
  CHECK(responses.at(0).code == VIOMMU_PAGE_FAILURE);
}

TEST_CASE("a state that was changed in any bit, or cut anywhere, is refused and changes nothing",
          "[behaviour][state][S5.6]") {
  Guest guest;
  make_golden(guest);
  const State good = save(guest.engine());
  Guest other;
  const State before = save(other.engine());
  CHECK(broken_states_taken(other.engine(), good) == 0);
  CHECK(save(other.engine()) == before);
  CHECK(other.machine.lands(device_a, iova) == page);
  require_load(other.engine(), good);
}

TEST_CASE("a state of a unit that can do something else is refused by the first field that differs",
          "[behaviour][state][S5.6]") {
  Guest guest;
  const State state = save(guest.engine());
  const auto into = [&](const viommu_vtd_options& options) {
    Machine machine{options};
    const State before = save(machine.engine.get());
    const Loaded loaded = load(machine.engine.get(), state);
    CHECK(loaded.result == VIOMMU_E_REFUSED);
    CHECK(loaded.refusal.code == VIOMMU_REFUSED_FIELD_MISMATCH);
    CHECK(save(machine.engine.get()) == before);
    return loaded;
  };
  viommu_vtd_options narrow = usual_options();
  narrow.capability = 0x80D2'008C'2226'0286;
  narrow.host_address_width = 39;
  const Loaded mismatch = into(narrow);
  CHECK(mismatch.field() == "MGAW");
  CHECK(mismatch.refusal.expected == 38);
  CHECK(mismatch.refusal.found == 47);
  viommu_vtd_options caching_mode = usual_options();
  caching_mode.capability |= cap_caching_mode;
  CHECK(into(caching_mode).field() == "CM");
  viommu_vtd_options device_tlb = usual_options();
  device_tlb.extended_capability |= ecap_device_tlb;
  CHECK(into(device_tlb).field() == "DT");
  viommu_vtd_options other_haw = usual_options();
  other_haw.host_address_width = 46;
  CHECK(into(other_haw).field() == "HAW");
  viommu_vtd_options compressing = usual_options();
  compressing.flags = VIOMMU_FAULT_COMPRESSION;
  CHECK(into(compressing).field() == "fault compression");
  viommu_vtd_options newer = usual_options();
  newer.version = 0x11;
  CHECK(into(newer).field() == "MIN");
}

TEST_CASE("a section that is not known here is refused by its name", "[behaviour][state][S5.6]") {
  Guest guest;
  State state = save(guest.engine());
  const std::string name = "VIEW";
  std::vector<std::byte> section(8 + 4);
  for (std::size_t i = 0; i < 4; ++i) section[i] = static_cast<std::byte>(name[i]);
  section[4] = std::byte{4};
  state.insert(state.end() - 8, section.begin(), section.end());
  reseal(state);
  const Loaded loaded = load(guest.engine(), state);
  CHECK(loaded.refusal.code == VIOMMU_REFUSED_BAD_STATE);
  CHECK(loaded.field() == "VIEW");
}

TEST_CASE("a state that no unit could have come to is refused, whoever made its checksum",
          "[behaviour][state][S5.6][SEC-9]") {
  Guest guest;
  make_golden(guest);
  const State good = save(guest.engine());
  Guest other;
  const State before = save(other.engine());
  const auto refused = [&](std::size_t at, std::uint64_t value, std::size_t bytes) -> std::string {
    State state = good;
    put_number(state, at, value, bytes);
    reseal(state);
    const Loaded loaded = load(other.engine(), state);
    if (loaded.result == VIOMMU_OK) {
      require_load(other.engine(), before);
      return "";
    }
    CHECK(loaded.refusal.code == VIOMMU_REFUSED_BAD_STATE);
    return loaded.field();
  };
  const auto with_register = [&](std::uint32_t where, std::uint64_t value) {
    return refused(register_at(good, where), value, 8);
  };
  const std::size_t latched = section_at(good, "LTCH").value();
  const std::size_t records = section_at(good, "FRCD").value();
  const std::size_t groups = section_at(good, "PRQG").value();
  CHECK(with_register(offset::queue_head, 0x40).empty());  // there is a descriptor: as good as any other
  CHECK(with_register(offset::queue_head, 0x1000) == "REGS");
  CHECK(with_register(offset::queue_head, 0x38) == "REGS");
  CHECK(with_register(offset::global_status, 0xC400'0001) == "REGS");
  CHECK(with_register(offset::global_status, 0x4400'0000) == "LTCH");  // TE was commanded
  CHECK(with_register(offset::global_status, 0x8400'0000) == "LTCH");  // and a root pointer set
  CHECK(with_register(offset::fault_status, 0x10) == "REGS");          // PPF follows from the records
  CHECK(with_register(offset::fault_event_control, 0x4000'0000) == "REGS");
  CHECK(with_register(offset::fault_event_data, 0x1'0000'0031) == "REGS");
  CHECK(with_register(offset::queue_error_record, 0) == "REGS");
  CHECK(with_register(offset::queue_error_record, 8) == "REGS");
  CHECK(with_register(offset::capability, usual_cap | 0x80) == "REGS");
  CHECK(with_register(offset::root_table, 1ULL << 60) == "REGS");
  CHECK(with_register(offset::context_command, 1ULL << 63) == "REGS");  // a command under way
  CHECK(refused(register_at(good, 0x20) - 4, 0x24, 4) == "REGS");
  CHECK(refused(latched, 0x8400'0001, 4) == "LTCH");
  CHECK(refused(latched + 4, 0x80, 8) == "LTCH");
  CHECK(refused(latched + 12, 0x5000, 8) == "LTCH");  // no interrupt table was set
  CHECK(refused(latched + 20, 1ULL << 60, 8) == "LTCH");
  CHECK(refused(records, 7, 4) == "FRCD");
  CHECK(refused(records, ~std::uint32_t{0}, 4) == "FRCD");
  CHECK(refused(records + 4, 8, 4) == "FRCD");
  CHECK(refused(records + 8, 8, 4) == "FRCD");
  CHECK(refused(records + 12, 0x7001, 8) == "FRCD");
  CHECK(refused(records + 20, 1ULL << 63, 8) == "FRCD");  // a record without a reason
  CHECK(refused(groups, 1, 4) == "PRQG");
  CHECK(refused(section_at(good, "CAPS").value() - 4, 27, 4) != "");
  CHECK(save(other.engine()) == before);
}

TEST_CASE("a state with any number changed is refused, or is one that the unit can be saved as again",
          "[behaviour][state][S5.6][property]") {
  Guest guest;
  make_golden(guest);
  const State good = save(guest.engine());
  OtherSide other{guest.machine};
  Random random{7};
  unsigned accepted = 0;
  for (unsigned round = 0; round < 3000; ++round) {
    State state = good;
    for (std::uint64_t changes = 1 + random.below(3); changes > 0; --changes)
      state[24 + random.below(state.size() - 32)] ^= static_cast<std::byte>(1U << random.below(8));
    reseal(state);
    if (load(other.engine(), state).result != VIOMMU_OK) continue;
    ++accepted;
    if (const Saved saved = try_save(other.engine()); saved.result == VIOMMU_OK) {
      // What it was loaded as may go on by itself: only the queue does.
      State again = saved.state;
      for (const std::uint32_t moved :
           {offset::queue_head, offset::fault_status, offset::queue_error_record, offset::completion_status,
            offset::completion_event_control, offset::fault_event_control})
        put_number(again, register_at(again, moved), number_at(state, register_at(state, moved), 8), 8);
      reseal(again);
      CHECK(again == state);
    }
  }
  CHECK(accepted > 100);
}

TEST_CASE("a state of version 1 goes on loading", "[behaviour][state][S5.6]") {
  Guest guest;
  make_golden(guest);
  const State golden = golden_state();
  CHECK(save(guest.engine()) == golden);
  OtherSide other{guest.machine};
  require_load(other.engine(), golden);
  CHECK(all_registers(other.machine) == all_registers(guest.machine));
  CHECK(other.machine.lands(device_a, iova) == page);
  CHECK(save(other.engine()) == golden);
}

TEST_CASE("calls for a state refuse what makes no sense", "[behaviour][state][capi]") {
  Guest guest;
  viommu_engine* const engine = guest.engine();
  std::size_t length = 1;
  std::byte byte{};
  CHECK(viommu_quiesce(nullptr, nullptr) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_quiesce(engine, nullptr) == VIOMMU_OK);
  CHECK(viommu_save(nullptr, &byte, 1, &length, nullptr) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_save(engine, nullptr, 1, &length, nullptr) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_save(engine, &byte, 1, nullptr, nullptr) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_save(engine, &byte, 1, &length, nullptr) == VIOMMU_E_RANGE);
  CHECK(length > 100);
  CHECK(byte == std::byte{});  // nothing is written
  State state(length + 1, std::byte{0x77});
  CHECK(viommu_save(engine, state.data(), length - 1, &length, nullptr) == VIOMMU_E_RANGE);
  CHECK(state == State(length + 1, std::byte{0x77}));
  CHECK(viommu_save(engine, state.data(), length, &length, nullptr) == VIOMMU_OK);
  CHECK(state.back() == std::byte{0x77});
  CHECK(viommu_load(nullptr, state.data(), length, nullptr) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_load(engine, nullptr, length, nullptr) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_load(engine, state.data(), 0, nullptr) == VIOMMU_E_REFUSED);
  CHECK(viommu_load(engine, state.data(), length, nullptr) == VIOMMU_OK);
}

}  // namespace viommu::test
