# How p2pnet's own targets are compiled. Nothing here reaches a program that uses the library.

# The warnings every file is free of. An error only where a preset says so (CMAKE_COMPILE_WARNING_AS_ERROR).
add_library(p2pnet_warnings INTERFACE)
if(MSVC)
    # What C11 allows and this code means: constant conditions (4127), flexible arrays (4200), initializers that are not
    # constant or hold addresses of variables (4204, 4221), bit fields of bool (4214), ~ of a constant cut off (4310).
    target_compile_options(p2pnet_warnings INTERFACE /W4 /wd4127 /wd4200 /wd4204 /wd4214 /wd4221 /wd4310)
else()
    target_compile_options(p2pnet_warnings INTERFACE
        -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes -Wvla)
endif()

# Counters that stand side by side would be loaded into a vector one by one, added there, and stored in one go: more
# instructions than adding each where it is, two times in each message.
include(CheckCCompilerFlag)
check_c_compiler_flag(-fno-tree-slp-vectorize P2P_COMPILER_HAS_NO_SLP)
# The C library's functions are called where they are, not by way of a jump: three of them serve each message.
if(UNIX AND NOT APPLE)
    check_c_compiler_flag(-fno-plt P2P_COMPILER_HAS_NO_PLT)
endif()

# Sanitizers, coverage and run-time checks, for the library and for all that is linked with it.
add_library(p2pnet_instrument INTERFACE)
if(P2P_SANITIZE)
    string(REPLACE ";" "," sanitizers "${P2P_SANITIZE}")
    target_compile_options(p2pnet_instrument INTERFACE -fsanitize=${sanitizers} -fno-omit-frame-pointer)
    if(P2P_SANITIZE_TRAP)
        target_compile_options(p2pnet_instrument INTERFACE -fsanitize-undefined-trap-on-error)
    else()
        target_compile_options(p2pnet_instrument INTERFACE -fno-sanitize-recover=all)
        target_link_options(p2pnet_instrument INTERFACE -fsanitize=${sanitizers})
    endif()
endif()
if(P2P_COVERAGE)
    target_compile_options(p2pnet_instrument INTERFACE --coverage)
    target_link_options(p2pnet_instrument INTERFACE --coverage)
endif()
if(P2P_ENABLE_ASSERT)
    target_compile_definitions(p2pnet_instrument INTERFACE P2P_ENABLE_ASSERT)
endif()

function(p2p_use_c11 target)
    set_target_properties(${target} PROPERTIES C_STANDARD 11 C_STANDARD_REQUIRED ON C_EXTENSIONS OFF)
    if(P2P_COMPILER_HAS_NO_SLP)
        target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:C>:-fno-tree-slp-vectorize>)
    endif()
    if(P2P_COMPILER_HAS_NO_PLT)
        target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:C>:-fno-plt>)
    endif()
    if(MSVC) # Visual Studio 2022 17.5 is the first that has <stdatomic.h>, behind this option
        target_compile_options(${target} PRIVATE /utf-8 /experimental:c11atomics)
        # Nor does it know the keyword before 17.8.
        target_compile_definitions(${target} PRIVATE _CRT_SECURE_NO_WARNINGS "_Thread_local=__declspec(thread)")
    endif()
endfunction()
