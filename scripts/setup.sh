#!/bin/sh
# Installs what is missing, builds the native libraries and the managed code. Says what it will do before it does it; the second
# time it only looks. Debian 12 is what it installs on; elsewhere it builds, and names what it lacks. With --tests it also installs
# what only tests need: a browser, for those of the pages.
set -eu
cd "$(dirname "$0")/.."

with_tests=
case ${1:-} in
  "") ;;
  --tests) with_tests=1 ;;
  *) printf '%s\n' "usage: scripts/setup.sh [--tests]" >&2; exit 1 ;;
esac

say() { printf '%s\n' "setup: $*"; }
die() { printf '%s\n' "setup: $1" >&2; printf '%s\n' "  try     $2" >&2; exit 2; }

# --- 1. Tools that come with the machine -------------------------------------------------------------------------------------
command -v dotnet > /dev/null || die "the .NET 10 SDK is not installed" "https://learn.microsoft.com/dotnet/core/install/linux"
case $(dotnet --version 2> /dev/null || true) in
  10.*) ;;
  *) die "global.json asks for the .NET SDK 10.0.400 or newer; installed: $(dotnet --list-sdks 2> /dev/null | tr '\n' ' ')" "https://dotnet.microsoft.com/download/dotnet/10.0" ;;
esac

# --- 2. Packages --------------------------------------------------------------------------------------------------------------
# libtorch in the order that CMake looks: $LIBTORCH, the torch of python3, the system's.
has_own_libtorch() {
  [ -n "${LIBTORCH:-}" ] || python3 -c 'import torch' 2> /dev/null
}

wanted="g++ cmake make libgloo-dev libopenmpi-dev openmpi-bin libopenblas0-pthread"
[ -z "$with_tests" ] || wanted="$wanted chromium chromium-driver"
has_own_libtorch || wanted="libtorch-dev $wanted"

missing=
if command -v dpkg-query > /dev/null; then
  for package in $wanted; do
    case $(dpkg-query -W -f '${Status}' "$package" 2> /dev/null || true) in
      *" installed") ;;
      *) missing="$missing $package" ;;
    esac
  done
else
  say "this is no Debian: packages are not looked at; the build below names what it lacks ($wanted)"
fi

if [ -n "$missing" ]; then
  as_root=
  [ "$(id -u)" = 0 ] || as_root=sudo
  install="$as_root apt-get install -y --no-install-recommends$missing"
  install=${install# }
  say "will install:$missing"
  command -v apt-get > /dev/null || die "packages are missing, and there is no apt-get" "install by hand:$missing"
  [ -z "$as_root" ] || command -v sudo > /dev/null || die "packages are missing, and neither root nor sudo is at hand" "as root: ${install#sudo }"
  export DEBIAN_FRONTEND=noninteractive
  # The package lists may be old or absent; they are fetched only where the first try needs them.
  $install > /dev/null 2>&1 || { $as_root apt-get update -q && $install; } || die "the packages could not be installed" "$install"
fi

# --- 3. Native libraries --------------------------------------------------------------------------------------------------------
if [ -f native/CMakeLists.txt ]; then
  # Configured again where it failed before, and where something new may be found: MPI and Gloo are built only where they are.
  if { [ ! -f native/build/build.ninja ] && [ ! -f native/build/Makefile ]; } || [ -n "$missing" ] || [ ! -f native/build/libmoe_mpi.so ]; then
    say "configuring and building the native libraries (about a minute the first time)"
    log=$(mktemp)
    cmake -S native -B native/build -DCMAKE_BUILD_TYPE=Release > "$log" 2>&1 || { cat "$log" >&2; rm -f "$log"; die "CMake failed" "cmake -S native -B native/build"; }
    rm -f "$log"
  fi
  log=$(mktemp)
  # One compiler a core would need 1 GiB each for libtorch's headers; two are fast enough.
  cmake --build native/build --parallel 2 > "$log" 2>&1 || { tail -n 60 "$log" >&2; rm -f "$log"; die "the native libraries do not build" "cmake --build native/build"; }
  rm -f "$log"
fi

# --- 4. Managed code ------------------------------------------------------------------------------------------------------------
# A stamp newer than every source means that the last build is the current one: asking MSBuild takes ten times as long.
stamp=native/build/.managed-${CONFIGURATION:-Release}
if [ ! -f "$stamp" ] || [ ! -f "launch/bin/${CONFIGURATION:-Release}/net10.0/launch.dll" ] || [ -n "$(find src launch tests benchmarks Directory.*.props global.json Trainer.sln \
    \( -name bin -o -name obj \) -prune -o -type f -newer "$stamp" -print 2> /dev/null | head -n 1)" ]; then
  say "building the managed code"
  log=$(mktemp)
  dotnet build Trainer.sln --configuration "${CONFIGURATION:-Release}" --nologo --verbosity quiet > "$log" 2>&1 \
    || { grep -E 'error|warning' "$log" | sort -u | head -n 40 >&2; rm -f "$log"; die "the managed code does not build" "dotnet build Trainer.sln"; }
  rm -f "$log"
  mkdir -p native/build
  touch "$stamp"
fi
say "ready"
