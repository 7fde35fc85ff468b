# Installs the build into a scratch prefix, builds examples/ against it with find_package(farskip), and runs both.
#   cmake -DBUILD=$PWD/build -DSOURCE=$PWD -P tests/install/run.cmake
set(scratch ${BUILD}/tests/install_scratch)
file(REMOVE_RECURSE ${scratch}/prefix ${scratch}/converted)
set(model ${SOURCE}/tests/data/models/deepseek_v2)

function(run)
  execute_process(COMMAND ${ARGV} OUTPUT_VARIABLE out ERROR_VARIABLE err RESULT_VARIABLE failed)
  if(failed)
    message(FATAL_ERROR "ended with ${failed}: ${ARGV}\n${out}${err}")
  endif()
  set(out "${out}" PARENT_SCOPE)
endfunction()

run(${CMAKE_COMMAND} --install ${BUILD} --prefix ${scratch}/prefix)
run(${CMAKE_COMMAND} -S ${SOURCE}/examples -B ${scratch}/build -G Ninja -DCMAKE_PREFIX_PATH=${scratch}/prefix)
run(${CMAKE_COMMAND} --build ${scratch}/build)

run(${scratch}/build/logits ${model} 11 12 13)
if(NOT out MATCHES "^[0-9]+ -?[0-9.]+\n[0-9]+ -?[0-9.]+\n[0-9]+ -?[0-9.]+\n$")
  message(FATAL_ERROR "logits: found\n${out}expected three lines of a token and its logit")
endif()
run(${scratch}/build/convert_and_generate ${model} ${scratch}/converted 11 12 13)
if(NOT out MATCHES "farskip, layers 2:4 of 4" OR NOT out MATCHES "\n([0-9]+ )+\n$")
  message(FATAL_ERROR "convert_and_generate: found\n${out}expected the connectivity and tokens")
endif()
run(${scratch}/prefix/bin/farskip inspect ${scratch}/converted)
message(STATUS "${out}")
