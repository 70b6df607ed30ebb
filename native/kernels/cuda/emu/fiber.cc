#include "kernels/cuda/emu/fiber.h"

#include <cstdint>

namespace tokenmill::cuda::emu {

#if defined(__x86_64__)

// The System V ABI's callee-saved registers live on the suspended stack, the return address above them.
asm(R"(
    .text
    .p2align 4
    .type tokenmill_emu_switch, @function
tokenmill_emu_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq (%rsi), %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .size tokenmill_emu_switch, .-tokenmill_emu_switch
)");
extern "C" void tokenmill_emu_switch(void** from, void** to);

void PrepareContext(Context* context, void* stack, size_t bytes, void (*entry)()) {
  const uintptr_t top = (reinterpret_cast<uintptr_t>(stack) + bytes) & ~uintptr_t{15};
  void** at = reinterpret_cast<void**>(top);
  *--at = nullptr;  // where entry would return to
  *--at = reinterpret_cast<void*>(entry);
  for (int i = 0; i < 6; ++i) *--at = nullptr;
  context->stack_pointer = at;
}

void SwitchContext(Context* from, Context* to) {
  tokenmill_emu_switch(&from->stack_pointer, &to->stack_pointer);
}

#else

void PrepareContext(Context* context, void* stack, size_t bytes, void (*entry)()) {
  getcontext(&context->context);
  context->context.uc_stack.ss_sp = stack;
  context->context.uc_stack.ss_size = bytes;
  context->context.uc_link = nullptr;
  makecontext(&context->context, entry, 0);
}

void SwitchContext(Context* from, Context* to) { swapcontext(&from->context, &to->context); }

#endif

}  // namespace tokenmill::cuda::emu
