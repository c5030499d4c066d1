#!/bin/sh
# Makes publish/: launcher and rank as a self-contained folder for linux-x64, which runs on a machine without a .NET SDK, with what is needed to
# build the native library there against that machine's own torch; and an archive of it. With --tests the test program comes along.
set -eu
cd "$(dirname "$0")/.."

with_tests=
case ${1:-} in
  "") ;;
  --tests) with_tests=1 ;;
  *) printf '%s\n' "usage: scripts/publish.sh [--tests]" >&2; exit 1 ;;
esac

target=publish/moe
rm -rf publish
mkdir -p "$target"
publish() {
  dotnet publish "$1" --configuration Release --runtime linux-x64 --self-contained true --nologo --verbosity quiet \
    -p:NuGetLockFilePath=obj/publish.lock.json -p:PublishReadyToRun=true --output "$target/bin"
}
publish launch/launch.csproj
publish src/Trainer/Trainer.csproj
[ -z "$with_tests" ] || publish tests/Tests.csproj

cp -r native configs "$target/"
rm -rf "$target/native/build"
mkdir -p "$target/data"
cp data/*.txt "$target/data/"
cp scripts/build-native.sh "$target/"
mkdir -p "$target/benchmarks"
cp -r benchmarks/step "$target/benchmarks/"
printf '%s\n' 'bin/launch runs when ./build-native.sh has built the native library against this machine'"'"'s torch: see docs/gpu.md of the project.' > "$target/README"
rm -f "$target"/bin/*.xml
tar -C publish -cJf publish/moe-linux-x64.tar.xz moe
printf '%s\n' "publish: $(du -sh "$target" | cut -f1) in $target, $(du -h publish/moe-linux-x64.tar.xz | cut -f1) in publish/moe-linux-x64.tar.xz"
