# Builds for macOS with the Zig compiler (tools/macos.sh installs it). What was built can't be run here.
#   P2P_MACOS_ARCH   x86_64 (default) or arm64
set(CMAKE_SYSTEM_NAME Darwin)
if(NOT P2P_MACOS_ARCH)
    set(P2P_MACOS_ARCH x86_64)
endif()
set(CMAKE_SYSTEM_PROCESSOR ${P2P_MACOS_ARCH})
string(REPLACE arm64 aarch64 zig_arch ${P2P_MACOS_ARCH})

set(zig ${CMAKE_CURRENT_LIST_DIR}/../macos/zig.sh)
set(CMAKE_C_COMPILER ${zig} cc -target ${zig_arch}-macos)
set(CMAKE_AR ${zig} CACHE FILEPATH "")
set(CMAKE_C_ARCHIVE_CREATE "<CMAKE_AR> ar qcs <TARGET> <OBJECTS>")
set(CMAKE_C_ARCHIVE_FINISH "")
set(CMAKE_TRY_COMPILE_PLATFORM_VARIABLES P2P_MACOS_ARCH)
