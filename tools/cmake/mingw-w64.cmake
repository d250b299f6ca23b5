# Builds for 64-bit Windows with Debian's mingw-w64, and runs what was built under Wine.
#   P2P_MINGW_ARCH      x86_64 (default) or i686
#   P2P_MINGW_COMPILER  gcc (default) or clang
#
# The "-win32" variant of gcc: its programs need no libwinpthread. Everything is linked statically, so that nothing
# but Windows' own libraries is needed to run it.
set(CMAKE_SYSTEM_NAME Windows)
if(NOT P2P_MINGW_ARCH)
    set(P2P_MINGW_ARCH x86_64)
endif()
set(CMAKE_SYSTEM_PROCESSOR ${P2P_MINGW_ARCH})
set(triple ${P2P_MINGW_ARCH}-w64-mingw32)

if(P2P_MINGW_COMPILER STREQUAL "clang")
    file(GLOB gcc_directory /usr/lib/gcc/${triple}/*-win32)
    list(LENGTH gcc_directory count)
    if(NOT count EQUAL 1) # clang takes mingw-w64's start files and libgcc
        message(FATAL_ERROR "One gcc for ${triple} is needed in /usr/lib/gcc, there are: ${gcc_directory}")
    endif()
    set(CMAKE_C_COMPILER clang)
    set(CMAKE_C_COMPILER_TARGET ${triple})
    set(link_flags "-static -B${gcc_directory} -L${gcc_directory}")
else()
    set(CMAKE_C_COMPILER ${triple}-gcc-win32)
    set(link_flags -static)
endif()
set(CMAKE_RC_COMPILER ${triple}-windres)
set(CMAKE_AR ${triple}-ar CACHE FILEPATH "")
set(CMAKE_RANLIB ${triple}-ranlib CACHE FILEPATH "")
set(CMAKE_EXE_LINKER_FLAGS_INIT ${link_flags})
set(CMAKE_SHARED_LINKER_FLAGS_INIT ${link_flags})
set(CMAKE_MODULE_LINKER_FLAGS_INIT ${link_flags})

# What tools/windows.sh built (cmocka) is found, and nothing of the machine that compiles.
set(CMAKE_FIND_ROOT_PATH /usr/${triple} ${CMAKE_CURRENT_LIST_DIR}/../../build/windows-tools/${triple})
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)
set(CMAKE_TRY_COMPILE_PLATFORM_VARIABLES P2P_MINGW_ARCH P2P_MINGW_COMPILER)

if(P2P_MINGW_ARCH STREQUAL "x86_64") # Debian's Wine runs no 32-bit programs
    set(CMAKE_CROSSCOMPILING_EMULATOR ${CMAKE_CURRENT_LIST_DIR}/../wine.sh)
endif()
