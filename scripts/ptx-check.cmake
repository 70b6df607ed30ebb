# The GPU kernels' second form: nvcc's PTX of them for two targets (nvcc has one front end for the older and one for the
# newer ones), translated to C++ by native/kernels/cuda/ptxcheck.

find_program(TOKENMILL_NODE node REQUIRED)
set(PTX_CHECK ${CMAKE_SOURCE_DIR}/native/kernels/cuda/ptxcheck)
set(PTX_TARGETS sm_80 sm_120)
file(GLOB PTX_TRANSLATOR CONFIGURE_DEPENDS ${PTX_CHECK}/*.mjs ${PTX_CHECK}/instructions/*.mjs)
file(GLOB PTX_RUNTIME CONFIGURE_DEPENDS ${PTX_CHECK}/*.cc)
file(GLOB PTX_HEADERS CONFIGURE_DEPENDS native/kernels/cuda/*.h test/native/gpu/*.h)

# What instructions mean, carried out by translated kernels of the test program's own.
function(tokenmill_add_ptx_semantics test)
  set(out ${CMAKE_BINARY_DIR}/ptx)
  set(tests ${CMAKE_SOURCE_DIR}/test/native/gpu)
  add_custom_command(OUTPUT ${out}/ptx_semantics.ptx.cc ${out}/ptx_semantics.inc
    COMMAND ${TOKENMILL_NODE} ${tests}/ptx-semantics.mjs ${out}
    DEPENDS ${tests}/ptx-semantics.mjs ${tests}/ptx_semantics.txt ${PTX_TRANSLATOR})
  set_source_files_properties(${out}/ptx_semantics.ptx.cc PROPERTIES COMPILE_OPTIONS "-O1;-w")
  target_sources(${test} PRIVATE ${out}/ptx_semantics.ptx.cc ${out}/ptx_semantics.inc)
  target_include_directories(${test} PRIVATE ${out})
endfunction()

# The C++ files of kernels' sources, for all targets.
function(tokenmill_translate_kernels result)
  foreach(source ${ARGN})
    get_filename_component(name ${source} NAME_WE)
    foreach(target ${PTX_TARGETS})
      set(ptx ${CMAKE_BINARY_DIR}/ptx/${name}.${target}.ptx)
      add_custom_command(OUTPUT ${ptx}.cc
        COMMAND ${TOKENMILL_NVCC} -ptx -std=c++20 -fmad=false -arch=${target} -I${CMAKE_SOURCE_DIR}/native
          -I${CMAKE_SOURCE_DIR}/test/native/gpu ${source} -o ${ptx}
        COMMAND ${TOKENMILL_NODE} ${PTX_CHECK}/translate.mjs ${ptx} ${ptx}.cc
        DEPENDS ${source} ${PTX_HEADERS} ${PTX_TRANSLATOR})
      set_source_files_properties(${ptx}.cc PROPERTIES COMPILE_OPTIONS "-O1;-w")
      list(APPEND translations ${ptx}.cc)
    endforeach()
  endforeach()
  set(${result} ${translations} PARENT_SCOPE)
endfunction()

# Runs a test program once more for each target's PTX.
function(tokenmill_add_ptx_tests test)
  foreach(target ${PTX_TARGETS})
    add_test(NAME ${test}_${target} COMMAND ${test} WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
    set_tests_properties(${test}_${target} PROPERTIES ENVIRONMENT "GPU_BACKEND=ptx;GPU_PTX_TARGET=${target}")
  endforeach()
endfunction()

set(TOKENMILL_TRANSLATE OFF)
if(TOKENMILL_PTX_CHECK)
  find_program(TOKENMILL_NVCC nvcc HINTS /usr/local/cuda/bin)
  if(TOKENMILL_NVCC)
    set(TOKENMILL_TRANSLATE ON)
  else()
    message(WARNING "TOKENMILL_PTX_CHECK: there is no nvcc here, so the PTX check is SKIPPED")
  endif()
endif()
