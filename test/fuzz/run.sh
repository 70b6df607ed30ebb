#!/bin/sh
# Fuzzes what reads GGUF headers and what reads snapshots, under ASan and UBSan.
#
#   run.sh [COUNT]               COUNT mutated inputs of each (default 2,000,000), always the same; $CXX or g++
#   run.sh --libfuzzer [COUNT]   COUNT inputs of each by libFuzzer, from the same seeds; $CXX or clang++-14
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
out=$root/build-fuzz
native=$root/native
gguf_sources="$native/io/*.cc $native/core/status.cc $native/core/dtype.cc"
snapshot_sources="$native/engine/snapshot.cc $native/kv/*.cc $native/core/status.cc $native/core/hash64.cc
  $native/core/platform_linux.cc"
flags="-std=c++20 -O1 -g -I$root/native -fno-omit-frame-pointer -fno-sanitize-recover=all"
# Inputs are of some hundred bytes: what asks for megabytes has believed a count that it did not check.
driver_options="max_allocation_size_mb=8:detect_leaks=1"
fuzzer_options="max_allocation_size_mb=64:detect_leaks=1"  # libFuzzer itself takes 20 MB at once

libfuzzer=
if [ "${1-}" = --libfuzzer ]; then
  libfuzzer=1
  shift
fi
count=${1-2000000}
compiler=${CXX-$([ -n "$libfuzzer" ] && echo clang++-14 || echo g++)}

# fuzz NAME SOURCES
fuzz() {
  echo "$1:"
  sources="$root/test/fuzz/$1_fuzz.cc $2"
  # shellcheck disable=SC2086
  $compiler $flags -fsanitize=address,undefined $sources "$root/test/fuzz/fuzz_main.cc" -o "$out/$1_fuzz"
  if [ -z "$libfuzzer" ]; then
    ASAN_OPTIONS=$driver_options "$out/$1_fuzz" "$count"
    return
  fi
  # shellcheck disable=SC2086
  $compiler $flags -fsanitize=fuzzer,address,undefined $sources -o "$out/$1_libfuzzer"
  mkdir -p "$out/$1_corpus"
  "$out/$1_fuzz" --seeds "$out/$1_corpus"
  ASAN_OPTIONS=$fuzzer_options "$out/$1_libfuzzer" -runs="$count" -max_len=2048 -timeout=10 "$out/$1_corpus"
}

mkdir -p "$out"
fuzz gguf "$gguf_sources"
fuzz snapshot "$snapshot_sources"
