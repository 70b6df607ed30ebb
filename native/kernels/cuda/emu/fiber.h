#pragma once

// Threads of a block are fibers: each has a stack of its own and runs until it gives way.

#include <cstddef>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace tokenmill::cuda::emu {

/// A suspended computation, or room for the one that runs.
struct Context {
#if defined(__x86_64__)
  void* stack_pointer = nullptr;
#else
  ucontext_t context;
#endif
};

/// Makes `context` start `entry`, which must not return, on the stack of `bytes` at `stack`.
void PrepareContext(Context* context, void* stack, size_t bytes, void (*entry)());

/// Suspends the running computation into `from` and goes on with `to`.
void SwitchContext(Context* from, Context* to);

}  // namespace tokenmill::cuda::emu
