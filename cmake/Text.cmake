# farskip_text: CPython embedded, with Hugging Face's tokenizers, jinja2 and tiktoken; and farskip_serve, which needs it.
# The interpreter of the build is also the one whose packages are used; at run time FARSKIP_PYTHON names another.
find_program(FARSKIP_PYTHON NAMES python3 python HINTS ${PROJECT_SOURCE_DIR}/.venv/bin NO_DEFAULT_PATH)
find_program(FARSKIP_PYTHON NAMES python3 python REQUIRED)
set(Python3_EXECUTABLE ${FARSKIP_PYTHON})
find_package(Python3 REQUIRED COMPONENTS Interpreter Development.Embed)
find_path(FARSKIP_PYBIND11 pybind11/embed.h REQUIRED)

# The packages and their versions stand in one place.
file(STRINGS ${PROJECT_SOURCE_DIR}/scripts/setup.sh packages REGEX "^TEXT=")
string(REGEX REPLACE "^TEXT=\\((.*)\\)$" "\\1" packages "${packages}")
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/scripts/setup.sh)

add_library(farskip_text ${text_sources})
add_library(farskip::text ALIAS farskip_text)
# By its path, so that an installed farskip asks nobody for Python who does not use this.
target_link_libraries(farskip_text PUBLIC farskip ${Python3_LIBRARIES})
target_link_options(farskip_text INTERFACE -Wl,-rpath,${Python3_LIBRARY_DIRS})
target_include_directories(farskip_text SYSTEM PRIVATE ${FARSKIP_PYBIND11} ${Python3_INCLUDE_DIRS})
foreach(module Settings Tables Templates Tokenizers)
  string(TOLOWER hub_${module}.py file)
  farskip_embed(farskip_text ${PROJECT_SOURCE_DIR}/src/text/${file} text::kHub${module})
endforeach()
set_source_files_properties(${PROJECT_SOURCE_DIR}/src/text/hub.cpp PROPERTIES SKIP_PRECOMPILE_HEADERS ON
  COMPILE_OPTIONS -fvisibility=hidden
  COMPILE_DEFINITIONS "FARSKIP_PYTHON_EXECUTABLE=\"${FARSKIP_PYTHON}\";FARSKIP_TEXT_PACKAGES=\"${packages}\"")

add_library(farskip_serve ${serve_sources})
add_library(farskip::serve ALIAS farskip_serve)
target_include_directories(farskip_serve SYSTEM PRIVATE ${Boost_INCLUDE_DIRS})
target_link_libraries(farskip_serve PUBLIC farskip_text)
foreach(room text serve)
  set_target_properties(farskip_${room} PROPERTIES EXPORT_NAME ${room})
  target_precompile_headers(farskip_${room} REUSE_FROM farskip)
  farskip_warnings(farskip_${room})
endforeach()
