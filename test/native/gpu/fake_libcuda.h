#pragma once

// What the tests of driver_cuda.cc steer in the library that stands in for NVIDIA's driver (fake_libcuda.cc),
// found with dlsym like the driver's own functions.

struct FakeCuda {
  void (*reset)();
  /// The `nth` call from now on (0: the next) of a function gives this error.
  void (*fail)(const char* function, int nth, int result);
  /// Names of the functions called since the last reset, separated by spaces; of a launch with its kernel.
  const char* (*calls)();
  /// Contexts, streams, modules, allocations, pinned allocations, graphs and executable graphs alive, in one
  /// number, and contexts left on a thread's stack.
  int (*alive)();
  int (*pushed)();
  /// Calls that the driver would have answered with a crash or an error of its own: a handle that is not
  /// alive, no current context, a capture that is not balanced.
  int (*misuses)();
  void (*set_version)(int version);
  void (*set_devices)(int count);
  void (*set_capability)(int major, int minor);
  /// Bytes of the largest allocation that is granted.
  void (*set_memory)(unsigned long long bytes);
  /// What cuFuncSetAttribute was last asked for.
  int (*dynamic_shared_bytes)();
};

extern "C" const FakeCuda* tokenmill_fake_cuda();
