#pragma once

#include "kernels/cpu/kernels.h"

// What each ISA's files give: they fill their part of the table.

namespace tokenmill::cpu {

void SetMatmulKernelsAvx2(CpuKernels* kernels);
void SetVectorKernelsAvx2(CpuKernels* kernels);
void SetMatmulKernelsAvxVnni(CpuKernels* kernels);
void SetMatmulKernelsAvx512(CpuKernels* kernels);
void SetVectorKernelsAvx512(CpuKernels* kernels);
void SetMatmulKernelsAvx512Bf16(CpuKernels* kernels);
void SetMatmulKernelsNeon(CpuKernels* kernels);
void SetMatmulKernelsNeonI8mm(CpuKernels* kernels);
void SetVectorKernelsNeon(CpuKernels* kernels);

}  // namespace tokenmill::cpu
