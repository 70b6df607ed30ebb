# The library for NVIDIA GPUs: each kernel's file compiled by nvcc to PTX once a front end and assembled from that for
# every target, and all of it in one library that is opened at run time. NVIDIA's toolkit is needed to build it alone.
if(TOKENMILL_GPU_TESTS)
  message(FATAL_ERROR "TOKENMILL_CUDA and TOKENMILL_GPU_TESTS compile the same files in two ways: build one at a time")
endif()
find_program(NVCC nvcc HINTS /usr/local/cuda/bin REQUIRED)
get_filename_component(NVCC_FOLDER "${NVCC}" DIRECTORY)
find_program(PTXAS ptxas HINTS "${NVCC_FOLDER}" /usr/local/cuda/bin REQUIRED)
file(GLOB CUDA_KERNELS CONFIGURE_DEPENDS native/kernels/cuda/*.cu)
file(GLOB CUDA_HEADERS CONFIGURE_DEPENDS native/kernels/cuda/*.h)
file(GLOB CUDA_SOURCES CONFIGURE_DEPENDS native/kernels/cuda/*.cc)
set(CUDA_IMAGES ${CMAKE_BINARY_DIR}/cuda)
file(MAKE_DIRECTORY ${CUDA_IMAGES})
set(images_code "#include \"kernels/cuda/images.h\"\n")
set(images_list "")
# A file of the build that cuda-compile.cmake makes of another.
macro(tokenmill_cuda_file output source arch)
  add_custom_command(OUTPUT ${output}
    COMMAND ${CMAKE_COMMAND} ${ARGN} -DARCH=${arch} -DSOURCE=${source} -DOUTPUT=${output}
      -P ${CMAKE_SOURCE_DIR}/scripts/cuda-compile.cmake
    DEPENDS ${source} ${CUDA_HEADERS} ${CMAKE_SOURCE_DIR}/scripts/cuda-compile.cmake
    COMMENT "Compiling ${module}.cu for ${arch}")
endmacro()
# An image's bytes between two symbols, and its row of the table.
macro(tokenmill_cuda_image file target sm is_ptx)
  set(symbol tokenmill_image_${module}_${target})
  list(APPEND CUDA_IMAGE_FILES ${file})
  string(APPEND images_code "asm(R\"(.section .rodata\n.balign 64\n.globl ${symbol}, ${symbol}_end\n"
    ".hidden ${symbol}, ${symbol}_end\n${symbol}: .incbin \"${file}\"\n.byte 0\n${symbol}_end: .previous)\");\n"
    "extern \"C\" const char ${symbol}[], ${symbol}_end[];\n")
  string(APPEND images_list
    "    {\"${module}\", ${sm}, ${is_ptx}, ${symbol}, static_cast<size_t>(${symbol}_end - ${symbol} - 1)},\n")
endmacro()
foreach(source ${CUDA_KERNELS})
  get_filename_component(module ${source} NAME_WE)
  foreach(sm ${TOKENMILL_CUDA_PTX})
    set(ptx ${CUDA_IMAGES}/${module}_compute_${sm}.ptx)
    tokenmill_cuda_file(${ptx} ${source} compute_${sm} -DNVCC=${NVCC} -DINCLUDE=${CMAKE_SOURCE_DIR}/native)
    tokenmill_cuda_image(${ptx} compute_${sm} ${sm} true)
  endforeach()
  foreach(sm ${TOKENMILL_CUDA_TARGETS})
    foreach(front_end ${TOKENMILL_CUDA_PTX}) # ascending: the newest that the target understands
      if(NOT front_end GREATER sm)
        set(ptx ${CUDA_IMAGES}/${module}_compute_${front_end}.ptx)
      endif()
    endforeach()
    set(cubin ${CUDA_IMAGES}/${module}_sm_${sm}.cubin)
    tokenmill_cuda_file(${cubin} ${ptx} sm_${sm} -DPTXAS=${PTXAS})
    tokenmill_cuda_image(${cubin} sm_${sm} ${sm} false)
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
