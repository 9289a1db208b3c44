/*
 * Hypercalls that can wait. They go into the ring in lguest_data, and any direct hypercall makes the Host look there
 * first, in order. Whoever queues calls has to see that hcall_flush follows before anything relies on them.
 */
#include "kernel.h"

extern u8 lguest_noirq_start[], lguest_noirq_end[];

/* The Host reads the last four when it is told of the structure, so they are the linker's affair. */
volatile struct lguest_data lguest_data = {
    .blocked_interrupts = ~0u,  /* until there are handlers */
    .hcall_status = { [0 ... HCALL_RING_SIZE - 1] = HCALL_FREE },
    .noirq_start = (u32)lguest_noirq_start,
    .noirq_end = (u32)lguest_noirq_end,
#if LGUEST_GENERATION > 203
    .kernel_address = PAGE_OFFSET,
    .syscall_vec = SYSCALL_VECTOR,
#endif
};

/* If the ring is full, a direct call empties it and then does what it is for: in order, too. */
void hcall_later(u32 number, u32 arg1, u32 arg2, u32 arg3)
{
    static u32 next;
    u32 flags = irq_save();
    volatile struct hcall_slot *slot = &lguest_data.hcalls[next];

    if (lguest_data.hcall_status[next] != HCALL_FREE) {
        hcall(number, arg1, arg2, arg3);
    } else {
        slot->number = number;
        slot->arg1 = arg1;
        slot->arg2 = arg2;
        slot->arg3 = arg3;
        asm volatile("" : : : "memory");
        lguest_data.hcall_status[next] = 0;
        next = (next + 1) % HCALL_RING_SIZE;
    }
    irq_restore(flags);
}

void hcall_flush(void)
{
    hcall(LHCALL_FLUSH_ASYNC, 0, 0, 0);
}
