# `cmake --install` puts the binary, the library, its headers and a find_package(farskip) configuration in place.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
install(TARGETS farskip farskip_libtorch EXPORT farskipTargets)
if(FARSKIP_TEXT)
  install(TARGETS farskip_text farskip_serve EXPORT farskipTargets)
  install(TARGETS farskip_app)
endif()
install(DIRECTORY src/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/farskip FILES_MATCHING PATTERN "*.h")
install(EXPORT farskipTargets NAMESPACE farskip:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/farskip)
configure_package_config_file(cmake/farskipConfig.cmake.in ${PROJECT_BINARY_DIR}/farskipConfig.cmake
                              INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/farskip)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/farskipConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/farskipConfig.cmake ${PROJECT_BINARY_DIR}/farskipConfigVersion.cmake
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/farskip)
