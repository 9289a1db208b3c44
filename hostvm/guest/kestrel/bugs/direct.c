/*
 * bug=direct: a trap that goes directly into the kernel while interrupts are off comes back with interrupts on.
 *
 * Between the halves of a movement of money there is a trace point, `int3`. Its gate is a trap gate, so the CPU pushes the
 * frame; and the CPU's own interrupt flag is always on. Whoever returns by such a frame switches interrupts on. By an
 * interrupt gate the trap goes through the Host, which knows better.
 */
#include "bugs.h"

static u32 traced;

static void trace_point(void)
{
    asm volatile("int3" : : : "memory");
}

static int count_it(struct trap_frame *frame)
{
    traced += frame->vector == BREAKPOINT;
    return frame->vector == BREAKPOINT;
}

void show_direct(void)
{
    u32 loops = number_option("loops=", 300);

    if (is_fixed)
        set_gate(BREAKPOINT, trap_entries[BREAKPOINT], GATE_INTERRUPT, KERNEL_RING);
    on_trap = count_it;
    on_timer = (void (*)(struct trap_frame *))audit;
    start_timer(number_option("hz=", 4000));
    while (traced < loops) {
        move_money(1, trace_point);
        for (volatile u32 i = 0; i < 200; i++)
            ;
    }
    print("kestrel: %u trace points, %u timer interrupts\n", traced, ticks);
}
