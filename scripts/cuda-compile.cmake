# Compiles one .cu file for one target: cmake -DNVCC=… -DARCH=sm_80|compute_80 -DINCLUDE=… -DSOURCE=… -DOUTPUT=…
# -P cuda-compile.cmake. What ptxas says of the kernels is kept in OUTPUT.log, for scripts/cuda-resources.mjs.
if(ARCH MATCHES "^compute_")
  set(kind -ptx)
else()
  set(kind -cubin -Xptxas -v)
endif()
# Fused products by gpu::fma alone.
execute_process(
  COMMAND ${NVCC} ${kind} -arch=${ARCH} -std=c++20 -fmad=false -I${INCLUDE} -o ${OUTPUT} ${SOURCE}
  RESULT_VARIABLE result OUTPUT_VARIABLE log ERROR_VARIABLE log)
if(NOT result EQUAL 0)
  message(FATAL_ERROR "${SOURCE} for ${ARCH}:\n${log}")
endif()
file(WRITE ${OUTPUT}.log "${log}")
