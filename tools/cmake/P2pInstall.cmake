# What `cmake --install` puts down: libraries, headers, and the files that find_package and pkg-config read.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

foreach(library IN LISTS P2P_LIBRARIES)
    target_include_directories(${library} PUBLIC $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
endforeach()
install(TARGETS ${P2P_LIBRARIES} EXPORT p2pnetTargets)
install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/p2pnet DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
        FILES_MATCHING PATTERN "*.h")

set(package_directory ${CMAKE_INSTALL_LIBDIR}/cmake/p2pnet)
install(EXPORT p2pnetTargets NAMESPACE p2pnet:: DESTINATION ${package_directory})
configure_package_config_file(tools/cmake/p2pnetConfig.cmake.in ${PROJECT_BINARY_DIR}/p2pnetConfig.cmake
    INSTALL_DESTINATION ${package_directory} NO_SET_AND_CHECK_MACRO NO_CHECK_REQUIRED_COMPONENTS_MACRO)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/p2pnetConfigVersion.cmake
    COMPATIBILITY SameMajorVersion)
install(FILES ${PROJECT_BINARY_DIR}/p2pnetConfig.cmake ${PROJECT_BINARY_DIR}/p2pnetConfigVersion.cmake
        DESTINATION ${package_directory})

# The prefix in the .pc file is relative to the file, so that an installed tree can be moved.
if(IS_ABSOLUTE "${CMAKE_INSTALL_LIBDIR}")
    set(pc_prefix "${CMAKE_INSTALL_PREFIX}")
else()
    file(RELATIVE_PATH up "/${CMAKE_INSTALL_LIBDIR}/pkgconfig" "/")
    string(REGEX REPLACE "/$" "" up "${up}")
    set(pc_prefix "\${pcfiledir}/${up}")
endif()
set(pc_libdir "\${prefix}")
set(pc_includedir "\${prefix}")
cmake_path(APPEND pc_libdir "${CMAKE_INSTALL_LIBDIR}")
cmake_path(APPEND pc_includedir "${CMAKE_INSTALL_INCLUDEDIR}")
set(pc_libs_private "${CMAKE_THREAD_LIBS_INIT}")
if(WIN32)
    set(pc_libs_private "-lws2_32")
endif()
configure_file(tools/cmake/p2pnet.pc.in ${PROJECT_BINARY_DIR}/p2pnet.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/p2pnet.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
