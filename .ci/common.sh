# SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
# What tests/run, bench/run and .ci/run share. Sourced by them after `cd` to the root of the clone.
# shellcheck shell=bash

started=$SECONDS

# say TEXT...: one line of progress with the time since the start.
say() { printf '[%3d:%02d] %s\n' $(((SECONDS - started) / 60)) $(((SECONDS - started) % 60)) "$*"; }

fail() {
  say "FAILED: $*" >&2
  exit 1
}

# The packages each purpose needs, by their Debian 12 names.
# shellcheck disable=SC2034  # used where this is sourced
{
  packages_build='cmake ninja-build g++ pkg-config catch2 libcli11-dev nlohmann-json3-dev libzstd-dev libtbb-dev
    libxsimd-dev libbenchmark-dev libmimalloc-dev libglib2.0-dev spin systemtap-sdt-dev'
  packages_bench='python3 python3-matplotlib'
  packages_qemu='qemu-system-x86'
  packages_clang='clang-19 libclang-rt-19-dev llvm-19'
  packages_ci="$packages_clang clang-format-19 clang-tidy-19 git"
  # The Rust test, the kernels elsewhere, a reader of ACPI tables; their absence fails nothing.
  packages_optional='bindgen libclang1-14 libclang-common-14-dev rustc g++-aarch64-linux-gnu qemu-user-static
    valgrind acpica-tools'
}

missing_packages() {
  local package
  for package in "$@"; do
    [ "$(dpkg-query -W -f='${Status}' "$package" 2>/dev/null)" = 'install ok installed' ] || printf '%s ' "$package"
  done
}

# need [--try] PACKAGE...: installs those that are missing. With --try a failure is only told.
need() {
  local try='' missing run=() quiet=()
  if [ "$1" = --try ]; then
    try=yes
    shift
  fi
  if ! command -v dpkg-query >/dev/null; then
    say "no dpkg here: taking for granted what is called on Debian 12: $*"
    return 0
  fi
  missing=$(missing_packages "$@")
  [ -n "$missing" ] || return 0
  if [ "$(id -u)" != 0 ]; then
    if ! command -v sudo >/dev/null; then
      [ -n "$try" ] && return 0
      fail "as root, run first: apt-get install $missing"
    fi
    run=(sudo)
  fi
  say "installing $missing"
  run+=(env DEBIAN_FRONTEND=noninteractive apt-get)
  quiet=(-qq -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300)
  # A list that cannot be refreshed (one dead source among many) need not keep the packages from being there.
  "${run[@]}" update "${quiet[@]}" </dev/null >/dev/null || say 'apt-get update had errors; going on'
  # shellcheck disable=SC2086  # one word per package
  if ! "${run[@]}" install "${quiet[@]}" -y --no-install-recommends $missing </dev/null >/dev/null; then
    [ -n "$try" ] || fail "could not install: $missing"
    say "not installed: $missing; going on without"
  fi
}

# configure PRESET [OPTION...]: configures build/PRESET; with ccache where it is installed.
configure() {
  local preset=$1
  shift
  if command -v ccache >/dev/null; then
    export CMAKE_CXX_COMPILER_LAUNCHER=ccache
    export CCACHE_SLOPPINESS=pch_defines,time_macros # as ccache's manual asks for precompiled headers
    export CCACHE_BASEDIR=$PWD
  fi
  say "configuring build/$preset"
  mkdir -p "build/$preset"
  cmake --preset "$preset" "$@" >"build/$preset/configure.log" 2>&1 || {
    cat "build/$preset/configure.log"
    fail "configuring $preset"
  }
}

# build PRESET TARGET...
build() {
  local preset=$1
  shift
  say "building build/$preset: $*"
  if [ -t 1 ]; then
    cmake --build "build/$preset" --parallel "$(nproc)" --target "$@"
  else
    # Of ninja's lines for files that built well only each fiftieth is kept.
    cmake --build "build/$preset" --parallel "$(nproc)" --target "$@" 2>&1 |
      awk '/^\[[0-9]+\/[0-9]+\] / { if (++steps % 50 == 0) print "  " $1; fflush(); next } { print; fflush() }'
  fi || fail "building $preset"
}
