#pragma once

// Replaces a test program's operator new by one that counts this thread's allocations and fails on demand. For
// one source file a program. Not inlined: GCC would take malloc and free for mismatched.

#include <atomic>
#include <cstdlib>
#include <new>

namespace allocations {

inline thread_local int count = 0;
inline thread_local bool refused = false;
/// Allocations of threads that are not exempt until one fails; below 0: none does.
inline std::atomic<int> until_failure{-1};
inline thread_local bool exempt = false;

inline bool Fails() {
  return refused || (!exempt && until_failure.load() >= 0 && until_failure.fetch_sub(1) == 0);
}

}  // namespace allocations

[[gnu::noinline]] void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept {
  ++allocations::count;
  return allocations::Fails() ? nullptr : std::malloc(bytes > 0 ? bytes : 1);
}

[[gnu::noinline]] void* operator new(std::size_t bytes) {
  void* memory = operator new(bytes, std::nothrow);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

// A sanitizer has its own arrays, which do not come from the above.
void* operator new[](std::size_t bytes) { return operator new(bytes); }
void* operator new[](std::size_t bytes, const std::nothrow_t&) noexcept {
  return operator new(bytes, std::nothrow);
}
void operator delete[](void* memory) noexcept { operator delete(memory); }
void operator delete[](void* memory, std::size_t) noexcept { operator delete(memory); }
