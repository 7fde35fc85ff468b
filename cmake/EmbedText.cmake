# farskip_embed(TARGET FILE VARIABLE): the target defines `const char farskip::NAMESPACE::NAME[]` (VARIABLE is NAMESPACE::NAME),
# which holds the text of FILE. Declare it `extern` in a header.
function(farskip_embed target file variable)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${file})
  file(READ ${file} text)
  string(REGEX MATCH "^(.*)::(.*)$" matched ${variable})
  set(namespace ${CMAKE_MATCH_1})
  set(name ${CMAKE_MATCH_2})
  get_filename_component(stem ${file} NAME_WE)
  set(source ${PROJECT_BINARY_DIR}/generated/${stem}.cpp)
  file(CONFIGURE OUTPUT ${source} @ONLY CONTENT
"namespace farskip::@namespace@ {
extern const char @name@[];
const char @name@[] = R\"embedded(@text@)embedded\";
}
")
  set_source_files_properties(${source} PROPERTIES SKIP_PRECOMPILE_HEADERS ON)
  target_sources(${target} PRIVATE ${source})
endfunction()
