# Compiles one .cu file to PTX, cmake -DNVCC=… -DARCH=compute_80 -DINCLUDE=… -DSOURCE=… -DOUTPUT=… -P cuda-compile.cmake,
# or assembles that for a GPU, with -DPTXAS=… -DARCH=sm_86. What ptxas says of the kernels is kept in OUTPUT.log, for
# scripts/cuda-resources.mjs.
if(PTXAS)
  set(command ${PTXAS} -v -fmad=false -arch=${ARCH})
else()
  set(command ${NVCC} -ptx -arch=${ARCH} -std=c++20 -fmad=false -I${INCLUDE}) # fused products by gpu::fma alone
endif()
execute_process(COMMAND ${command} -o ${OUTPUT} ${SOURCE}
  RESULT_VARIABLE result OUTPUT_VARIABLE log ERROR_VARIABLE log)
if(NOT result EQUAL 0)
  message(FATAL_ERROR "${SOURCE} for ${ARCH}:\n${log}")
endif()
file(WRITE ${OUTPUT}.log "${log}")
