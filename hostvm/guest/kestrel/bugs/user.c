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

/* As many system calls as possible. */
PROGRAM program_of_window(u32 loops)
{
    while (loops--) {
        compute(4);
        syscall(SYS_WORK);
    }
    leave();
}

#define FRESH_PAGE      0x10000000

/* Sets TF, and touches memory that is not there. */
PROGRAM program_of_step(u32 argument)
{
    (void)argument;
    asm volatile("pushfl\n\torl %0, (%%esp)\n\tpopfl\n\t"
                 "nop\n\tnop\n\t"
                 "movl $1, %1\n\t"
                 "nop\n\tnop\n\t"
                 "pushfl\n\tandl %2, (%%esp)\n\tpopfl"
                 :
                 : "i"(EFLAGS_TF), "m"(*(volatile u32 *)FRESH_PAGE), "i"(~EFLAGS_TF)
                 : "memory");
    leave();
}

/* Traps with two stack pointers: bit 9 is set in the first and clear in the second. */
PROGRAM program_of_stack(u32 argument)
{
    (void)argument;
    asm volatile("movl %0, %%esp\n\thlt\n\tmovl %1, %%esp\n\thlt"
                 :
                 : "i"(PAGE_OFFSET - 0x100), "i"(PAGE_OFFSET - 0x210)
                 : "memory");
    leave();
}

/* System calls and a division by zero: both go directly into the kernel. */
PROGRAM program_of_pin(u32 system_calls)
{
    while (system_calls--)
        syscall(SYS_WORK);
    asm volatile("xorl %%ecx, %%ecx\n\tdivl %%ecx" : : : "eax", "ecx", "edx");
    leave();
}
