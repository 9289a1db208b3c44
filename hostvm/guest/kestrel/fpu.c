/*
 * The FPU, given to a process only when it wants it. Switching processes asks the Host that the next use of the FPU
 * trap, unless its registers hold the next process's numbers; the trap then exchanges them. Most switches cost nothing.
 */
#include "kernel.h"

#define MXCSR_AT_START 0x1f80

static struct process *owner;

u32 fpu_switches;

static void save(struct process *process)
{
    asm volatile("fxsave %0" : "=m"(process->fpu_state));
    process->has_fpu_state = 1;
}

/* fninit leaves the SSE registers alone, so what the last process had there goes too. */
static void start_afresh(void)
{
    static const u8 zeros[FPU_STATE_SIZE] __attribute__((aligned(16)));
    u32 mxcsr = MXCSR_AT_START;

    asm volatile("fxrstor %0" : : "m"(zeros));
    asm volatile("fninit\n\tldmxcsr %0" : : "m"(mxcsr));
}

/* The FPU was used while it was not to be. The trap has an interrupt gate, so nobody comes between. */
void fpu_trap(void)
{
    hcall(LHCALL_TS, 0, 0, 0);
    fpu_switches++;
    if (owner)
        save(owner);
    owner = current;
    if (current->has_fpu_state)
        asm volatile("fxrstor %0" : : "m"(current->fpu_state));
    else
        start_afresh();
}

int fpu_is_ours(const struct process *process)
{
    return process == owner;
}

/* The process ends or starts another program: its numbers count no more. */
void fpu_forget(struct process *process)
{
    u32 flags = irq_save();

    process->has_fpu_state = 0;
    if (owner == process) {
        owner = 0;
        hcall(LHCALL_TS, 1, 0, 0);
    }
    irq_restore(flags);
}

/* A child has its parent's numbers. */
void fpu_copy(struct process *to)
{
    u32 flags = irq_save();

    if (owner == current)
        save(current);
    memcpy(to->fpu_state, current->fpu_state, FPU_STATE_SIZE);
    to->has_fpu_state = current->has_fpu_state;
    irq_restore(flags);
}
