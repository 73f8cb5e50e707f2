// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/vtd/unit.hpp"

namespace viommu::vtd {
namespace {

[[nodiscard]] machine::SectionName section_of(Misfit::Part part) noexcept {
  switch (part) {
    case Misfit::Part::latched:       return section::latched;
    case Misfit::Part::fault_records: return section::fault_records;
    case Misfit::Part::registers:     break;
  }
  return section::registers;
}

}  // namespace

Unit::Loaded Unit::load(std::span<const std::byte> bytes, LoadProblem& problem) noexcept {
  SavedState state;
  problem = read_state(bytes, identity(), state);
  if (!std::holds_alternative<std::monostate>(problem)) return Loaded::refused;
  RegisterFile file{capabilities_, {compress_faults_}};
  if (const Misfit wrong = file.adopt(state.registers); wrong.words != nullptr) {
    problem = machine::StateProblem{section_of(wrong.part), wrong.words};
    return Loaded::refused;
  }
  if (!worker_.load(file, state.groups)) return Loaded::busy;
  work_again();
  return Loaded::done;
}

}  // namespace viommu::vtd
