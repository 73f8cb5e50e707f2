// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "bench/support/library.hpp"

#include <dlfcn.h>

#include <array>
#include <stdexcept>
#include <string>
#include <utility>

namespace viommu::bench {

struct CInterface {
  decltype(&viommu_create_vtd) create_vtd;
  decltype(&viommu_destroy) destroy;
  decltype(&viommu_region_add) region_add;
  decltype(&viommu_mmio_write) mmio_write;
  decltype(&viommu_process) process;
  decltype(&viommu_drop_caches) drop_caches;
  decltype(&viommu_reader_create) reader_create;
  decltype(&viommu_reader_destroy) reader_destroy;
  decltype(&viommu_enter) enter;
  decltype(&viommu_leave) leave;
  decltype(&viommu_translate) translate;
  decltype(&viommu_translate_batch) translate_batch;
};

namespace {

[[nodiscard]] viommu_vtd_options options_for(const Setup& setup) {
  viommu_vtd_options options{};
  options.size = sizeof options;
  options.iotlb_pages = setup.iotlb_pages;
  options.accounts = setup.accounts;
  if (!setup.caches) options.flags |= VIOMMU_UNCACHED;
  if (setup.fill_exactly) options.fill = VIOMMU_FILL_EXACT;
  return options;
}

[[nodiscard]] viommu_host plain_host() {
  viommu_host host{};
  host.size = sizeof host;
  host.memory_read = [](void*, std::uint64_t, void*, std::uint64_t) -> std::int32_t { return -1; };
  return host;
}

[[nodiscard]] Engine create_engine(const SyntheticGuest& guest, const Setup& setup) {
  auto engine = Engine::create_vtd(options_for(setup), plain_host());
  if (!engine) throw std::runtime_error{"the engine was refused: " + engine.error().text};
  if (engine->add_region(0, guest.ram()) != VIOMMU_OK) throw std::runtime_error{"the RAM was refused"};
  return *std::move(engine);
}

[[nodiscard]] Reader create_reader(Expected<Reader> reader) {
  if (!reader) throw std::runtime_error{"the reader was refused"};
  return *std::move(reader);
}

template <class Function>
void look_up(void* library, const char* name, Function& function) {
  void* const found = dlsym(library, name);
  if (found == nullptr) throw std::runtime_error{std::string{"not in the shared library: "} + name};
  function = reinterpret_cast<Function>(found);
}

[[nodiscard]] CInterface load_shared_library() {
  void* const library = dlopen(SHARED_LIBRARY_FILE, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) throw std::runtime_error{std::string{"cannot be loaded: "} + SHARED_LIBRARY_FILE};
  CInterface functions{};
  look_up(library, "viommu_create_vtd", functions.create_vtd);
  look_up(library, "viommu_destroy", functions.destroy);
  look_up(library, "viommu_region_add", functions.region_add);
  look_up(library, "viommu_mmio_write", functions.mmio_write);
  look_up(library, "viommu_process", functions.process);
  look_up(library, "viommu_drop_caches", functions.drop_caches);
  look_up(library, "viommu_reader_create", functions.reader_create);
  look_up(library, "viommu_reader_destroy", functions.reader_destroy);
  look_up(library, "viommu_enter", functions.enter);
  look_up(library, "viommu_leave", functions.leave);
  look_up(library, "viommu_translate", functions.translate);
  look_up(library, "viommu_translate_batch", functions.translate_batch);
  return functions;
}

const CInterface& shared_library() {
  static const CInterface functions = load_shared_library();
  return functions;
}

}  // namespace

Library::Library(const SyntheticGuest& guest, const Setup& setup) : engine_{create_engine(guest, setup)} {}

Library::Port::Port(Library& library) : reader_{create_reader(library.engine_.reader())} {}

LibraryThroughC::LibraryThroughC(const SyntheticGuest& guest, const Setup& setup) : functions_{&shared_library()} {
  const viommu_vtd_options options = options_for(setup);
  const viommu_host host = plain_host();
  std::array<char, 256> text{};
  if (functions_->create_vtd(&options, &host, text.data(), text.size(), &engine_) != VIOMMU_OK) {
    throw std::runtime_error{std::string{"the engine was refused: "} + text.data()};
  }
  const viommu_region region{0, guest.ram().size(), guest.ram().data(), 0};
  if (functions_->region_add(engine_, &region) != VIOMMU_OK) throw std::runtime_error{"the RAM was refused"};
}

LibraryThroughC::~LibraryThroughC() { static_cast<void>(functions_->destroy(engine_)); }

void LibraryThroughC::write(std::uint64_t offset, unsigned size, std::uint64_t value) noexcept {
  static_cast<void>(functions_->mmio_write(engine_, offset, size, value));
}

void LibraryThroughC::process() noexcept {
  viommu_progress progress{};
  static_cast<void>(functions_->process(engine_, 0, &progress));
}

void LibraryThroughC::drop_caches() noexcept { static_cast<void>(functions_->drop_caches(engine_)); }

LibraryThroughC::Port::Port(LibraryThroughC& library)
    : enter_{library.functions_->enter},
      leave_{library.functions_->leave},
      translate_{library.functions_->translate},
      translate_batch_{library.functions_->translate_batch} {
  if (library.functions_->reader_create(library.engine_, &reader_) != VIOMMU_OK) {
    throw std::runtime_error{"the reader was refused"};
  }
}

LibraryThroughC::Port::~Port() { static_cast<void>(shared_library().reader_destroy(reader_)); }

}  // namespace viommu::bench
