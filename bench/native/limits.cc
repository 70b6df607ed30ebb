// What this machine can do at most: integer dots and multiply-adds a second, and the speed of reading memory.
//   limits [threads, 0: as a model gets by default] [bytes to read]
// Prints one JSON object. An arithmetic limit counts only if its kernel comes near its issue rate times the clock.

#include <cstdlib>

#include "core/cpu_features.h"
#include "machine_limits.h"

using namespace tokenmill;
using namespace tokenmill::bench;

int main(int argc, char** argv) {
  const int asked = argc > 1 ? std::atoi(argv[1]) : 0;
  const int threads = asked > 0 ? asked : UsableCores();
  const ReadMemory memory(argc > 2 ? static_cast<size_t>(std::atoll(argv[2])) : size_t{1} << 28);
  if (!memory.data()) {
    std::fprintf(stderr, "no memory for %zu bytes\n", memory.bytes());
    return 1;
  }
  Team team(threads);
  const ArithmeticLimit integer = MeasureArithmetic(team, IntegerKernels(), 0.2);
  const ArithmeticLimit real = MeasureArithmetic(team, FloatKernels(), 0.2);
  PrintLimits(threads, integer, real, MeasureRead(team, memory, 0.3));
  return 0;
}
