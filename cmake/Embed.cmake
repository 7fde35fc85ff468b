# farskip_embed(TARGET FILE NAME): a header <folder of FILE>/<FILE without suffix>.h for TARGET, in which `NAME` is the text
# of FILE. It is made at configuration, which changes of FILE start again.
function(farskip_embed target file name)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/${file})
  file(READ ${PROJECT_SOURCE_DIR}/${file} text)
  cmake_path(REMOVE_EXTENSION file OUTPUT_VARIABLE header)
  string(REGEX REPLACE "^src/" "" header ${header})
  file(CONFIGURE OUTPUT ${PROJECT_BINARY_DIR}/embedded/${header}.h @ONLY CONTENT
"// Made from @file@.
#pragma once
inline constexpr char @name@[] = R\"farskip(@text@)farskip\";
")
  target_include_directories(${target} PRIVATE ${PROJECT_BINARY_DIR}/embedded)
endfunction()
