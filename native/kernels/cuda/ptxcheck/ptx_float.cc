#include "kernels/cuda/ptxcheck/ptx_float.h"

#include <cfenv>

#include "kernels/cuda/ptxcheck/ptx_convert.h"

namespace tokenmill::cuda::ptx {
namespace {

int SystemMode(unsigned mode) {
  switch (mode) {
    case kRz: return FE_TOWARDZERO;
    case kRm: return FE_DOWNWARD;
    case kRp: return FE_UPWARD;
    default: return FE_TONEAREST;
  }
}

/// Operands and result are volatile, so that nothing is computed outside of the mode.
template <class V>
V InMode(Operation operation, unsigned mode, V a, V b, V c) {
  volatile V x = a, y = b, z = c;
  std::fesetround(SystemMode(mode));
  volatile V result = Nearest<V>(operation, x, y, z);
  std::fesetround(FE_TONEAREST);
  return result;
}

}  // namespace

float Directed(Operation operation, unsigned mode, float a, float b, float c) {
  return InMode(operation, mode, a, b, c);
}

double Directed(Operation operation, unsigned mode, double a, double b, double c) {
  return InMode(operation, mode, a, b, c);
}

float NarrowDirected(double x, unsigned mode) {
  volatile double wide = x;
  std::fesetround(SystemMode(mode));
  volatile float narrow = static_cast<float>(wide);
  std::fesetround(FE_TONEAREST);
  return narrow;
}

}  // namespace tokenmill::cuda::ptx
