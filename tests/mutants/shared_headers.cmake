# SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
# One precompiled header for the whole library and one for its tests: most of a build's time goes to headers, and a
# changed one is in all of them. Read by cmake through CMAKE_PROJECT_viommu_INCLUDE; generate.py lists the headers.
function(viommu_share_headers)
  set(folder ${PROJECT_SOURCE_DIR}/shared)
  add_library(viommu_shared_headers OBJECT ${folder}/headers.cpp)
  target_include_directories(viommu_shared_headers PRIVATE ${PROJECT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/engine/include)
  target_compile_definitions(viommu_shared_headers PRIVATE $<TARGET_PROPERTY:viommu_base,INTERFACE_COMPILE_DEFINITIONS>)
  target_precompile_headers(viommu_shared_headers PRIVATE ${folder}/headers.hpp)
  foreach(layer base caches walkers core consumer machine vtd virtqueue virtio_iommu capi replay test_support)
    get_target_property(kind viommu_${layer} TYPE)
    if(NOT kind STREQUAL INTERFACE_LIBRARY)
      target_precompile_headers(viommu_${layer} REUSE_FROM viommu_shared_headers)
    endif()
  endforeach()
  target_precompile_headers(viommu_tests PRIVATE ${folder}/headers.hpp)
  target_precompile_headers(viommu_loop_tests PRIVATE ${folder}/headers.hpp)
  # Kernels have flags of their own, and some sources a name that is a header's elsewhere (`alone`).
  include(${folder}/alone.cmake)
  foreach(source ${alone} caches/simd/avx2.cpp caches/simd/avx512.cpp walkers/simd/avx2.cpp walkers/simd/avx512.cpp)
    string(REGEX REPLACE "^(engine/)?([a-z_]+)/.*" "viommu_\\2" target ${source})
    string(REPLACE viommu_cli viommu_replay target ${target})
    if(TARGET ${target})
      set_source_files_properties(${PROJECT_SOURCE_DIR}/${source} TARGET_DIRECTORY ${target}
                                  PROPERTIES SKIP_PRECOMPILE_HEADERS ON)
    endif()
  endforeach()
endfunction()
cmake_language(DEFER CALL viommu_share_headers)
