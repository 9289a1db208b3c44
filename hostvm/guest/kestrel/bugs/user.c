/*
 * The programs: in ring 3, with their argument in %eax and no way back but a system call.
 */
#include "../lguest.h"
#include "program.h"

static void syscall(u32 number)
{
    asm volatile("int $0x80" : "+a"(number) : : "memory");
}

static __attribute__((noinline)) void compute(u32 rounds)
{
    for (u32 i = 0; i < rounds; i++)
        asm volatile("" : : "r"(i));
}

static __attribute__((noreturn)) void leave(void)
{
    syscall(SYS_EXIT);
    __builtin_unreachable();
}

/* Works mostly for itself, and now and then has the kernel work for it; the kernel never needs the Host for that. */
PROGRAM program_of_sti(u32 loops)
{
    while (loops--) {
        compute(900);
        syscall(SYS_WORK);
    }
    leave();
}
