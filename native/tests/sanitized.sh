#!/usr/bin/env bash
# sanitized.sh SANITIZER SECONDS: builds the module and the programs here with a sanitizer, and runs
# them; BIN is where Python lies.
set -euo pipefail
sanitizer=$1 seconds=$2
native=$(cd "$(dirname "$0")/.." && pwd)
build=$native/../build/$sanitizer
export PATH="$(cd "${BIN:-.venv/bin}" && pwd):$PATH"
cmake -S "$native" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=None -DSARTOR_TESTS=ON \
  -DSARTOR_SANITIZE="$sanitizer" -DPython_EXECUTABLE="$(command -v python)" >/dev/null
ninja -C "$build" --quiet
ctest --test-dir "$build" --output-on-failure --no-tests=ignore
# Python itself is built without it, so its runtime has to be there first, and what throws.
library=$(g++ -print-file-name="lib$(sed 's/address/asan/; s/undefined/ubsan/; s/thread/tsan/' <<<"$sanitizer").so")
LD_PRELOAD="$library $(g++ -print-file-name=libstdc++.so)" ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 \
  UBSAN_OPTIONS=print_stacktrace=1 TSAN_OPTIONS=allocator_may_return_null=1 \
  python "$native/tests/fuzz.py" "$build" "$seconds" "${SEED:-0}"
