#!/usr/bin/env bash
# Cross-compiles the engine for 64-bit ARM and runs its programs under qemu; the losses must be those
# of this machine. (Not the threads: qemu cannot fork them.) Needs g++-aarch64-linux-gnu and qemu-user.
set -euo pipefail
native=$(cd "$(dirname "$0")/.." && pwd)
here=$native/../build/here arm=$native/../build/aarch64
options=(-S "$native" -G Ninja -DCMAKE_BUILD_TYPE=Release -DSARTOR_MODULE=OFF -DSARTOR_TESTS=ON)
cmake "${options[@]}" -B "$here" >/dev/null
cmake "${options[@]}" -B "$arm" -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 \
  -DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++ >/dev/null
ninja -C "$here" --quiet && ninja -C "$arm" --quiet
emulator=(qemu-aarch64 -L /usr/aarch64-linux-gnu)
diff <("$here/test_steps") <("${emulator[@]}" "$arm/test_steps")
echo "the same losses on aarch64"
