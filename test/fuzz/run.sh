#!/bin/sh
# Fuzzes the GGUF reader under ASan and UBSan.
#
#   run.sh [COUNT]               COUNT mutated headers (default 2,000,000), always the same; $CXX or g++
#   run.sh --libfuzzer [COUNT]   COUNT inputs by libFuzzer, from the same seeds; $CXX or clang++-14
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
out=$root/build-fuzz
native=$root/native
sources="$root/test/fuzz/gguf_fuzz.cc $native/io/*.cc $native/core/status.cc $native/core/dtype.cc"
flags="-std=c++20 -O1 -g -I$root/native -fno-omit-frame-pointer -fno-sanitize-recover=all"
# Inputs are of some hundred bytes: what asks for megabytes has believed a count that it did not check.
export ASAN_OPTIONS="max_allocation_size_mb=8:detect_leaks=1"

libfuzzer=
if [ "${1-}" = --libfuzzer ]; then
  libfuzzer=1
  shift
fi
count=${1-2000000}
compiler=${CXX-$([ -n "$libfuzzer" ] && echo clang++-14 || echo g++)}

mkdir -p "$out"
# shellcheck disable=SC2086
$compiler $flags -fsanitize=address,undefined $sources "$root/test/fuzz/fuzz_main.cc" -o "$out/gguf_fuzz"
if [ -z "$libfuzzer" ]; then
  exec "$out/gguf_fuzz" "$count"
fi
# shellcheck disable=SC2086
$compiler $flags -fsanitize=fuzzer,address,undefined $sources -o "$out/gguf_libfuzzer"
mkdir -p "$out/corpus"
"$out/gguf_fuzz" --seeds "$out/corpus"
ASAN_OPTIONS="max_allocation_size_mb=64:detect_leaks=1"  # libFuzzer itself takes 20 MB at once
exec "$out/gguf_libfuzzer" -runs="$count" -max_len=2048 -timeout=10 "$out/corpus"
