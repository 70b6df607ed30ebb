# The library for NVIDIA GPUs: each kernel's file compiled by nvcc for every target, and all of that in one library that
# is opened at run time. NVIDIA's toolkit is needed to build it alone.
if(TOKENMILL_GPU_TESTS)
  message(FATAL_ERROR "TOKENMILL_CUDA and TOKENMILL_GPU_TESTS compile the same files in two ways: build one at a time")
endif()
find_program(NVCC nvcc HINTS /usr/local/cuda/bin REQUIRED)
file(GLOB CUDA_KERNELS CONFIGURE_DEPENDS native/kernels/cuda/*.cu)
file(GLOB CUDA_HEADERS CONFIGURE_DEPENDS native/kernels/cuda/*.h)
file(GLOB CUDA_SOURCES CONFIGURE_DEPENDS native/kernels/cuda/*.cc)
set(CUDA_IMAGES ${CMAKE_BINARY_DIR}/cuda)
file(MAKE_DIRECTORY ${CUDA_IMAGES})
set(images_code "#include \"kernels/cuda/images.h\"\n")
set(images_list "")
# One image: a file that is compiled, its bytes between two symbols, a row of the table.
macro(tokenmill_cuda_image source target sm is_ptx extension)
  get_filename_component(module ${source} NAME_WE)
  set(symbol tokenmill_image_${module}_${target})
  set(image ${CUDA_IMAGES}/${module}_${target}.${extension})
  add_custom_command(OUTPUT ${image}
    COMMAND ${CMAKE_COMMAND} -DNVCC=${NVCC} -DARCH=${target} -DINCLUDE=${CMAKE_SOURCE_DIR}/native
      -DSOURCE=${source} -DOUTPUT=${image} -P ${CMAKE_SOURCE_DIR}/scripts/cuda-compile.cmake
    DEPENDS ${source} ${CUDA_HEADERS} ${CMAKE_SOURCE_DIR}/scripts/cuda-compile.cmake
    COMMENT "Compiling ${module}.cu for ${target}")
  list(APPEND CUDA_IMAGE_FILES ${image})
  string(APPEND images_code "asm(R\"(.section .rodata\n.balign 64\n.globl ${symbol}, ${symbol}_end\n"
    ".hidden ${symbol}, ${symbol}_end\n${symbol}: .incbin \"${image}\"\n.byte 0\n${symbol}_end: .previous)\");\n"
    "extern \"C\" const char ${symbol}[], ${symbol}_end[];\n")
  string(APPEND images_list
    "    {\"${module}\", ${sm}, ${is_ptx}, ${symbol}, static_cast<size_t>(${symbol}_end - ${symbol} - 1)},\n")
endmacro()
foreach(source ${CUDA_KERNELS})
  foreach(sm ${TOKENMILL_CUDA_TARGETS})
    tokenmill_cuda_image(${source} sm_${sm} ${sm} false cubin)
  endforeach()
  foreach(sm ${TOKENMILL_CUDA_PTX})
    tokenmill_cuda_image(${source} compute_${sm} ${sm} true ptx)
  endforeach()
endforeach()
set(IMAGES_SOURCE ${CUDA_IMAGES}/images.cc)
file(GENERATE OUTPUT ${IMAGES_SOURCE} CONTENT "${images_code}
namespace tokenmill::cuda {
std::span<const Image> Images() {
  static const Image images[] = {
${images_list}  };
  return images;
}
}  // namespace tokenmill::cuda
")
set_source_files_properties(${IMAGES_SOURCE} PROPERTIES OBJECT_DEPENDS "${CUDA_IMAGE_FILES}")
set_source_files_properties(${CUDA_KERNELS} PROPERTIES LANGUAGE CXX COMPILE_OPTIONS "-x;c++")
add_library(tokenmill_cuda MODULE ${CUDA_SOURCES} ${CUDA_KERNELS} ${IMAGES_SOURCE})
target_include_directories(tokenmill_cuda PRIVATE native)
tokenmill_backend_library(tokenmill_cuda)
target_link_options(tokenmill_cuda PRIVATE -s)
set_target_properties(tokenmill_cuda PROPERTIES OUTPUT_NAME tokenmill-cuda PREFIX lib SUFFIX .so)
add_custom_target(tokenmill_cuda_images DEPENDS ${CUDA_IMAGE_FILES})
