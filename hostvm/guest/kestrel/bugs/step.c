/*
 * bug=step: a program that single-steps itself takes the kernel along.
 *
 * A CPU that enters a handler clears TF. The Host that enters one for it leaves EFLAGS as it is; so after a trap that the
 * Host reflects, a page fault say, the handler's first instruction is traced. No kernel expects a debug trap from itself.
 */
#include "bugs.h"

static u32 steps, faults, kernel_steps;

static int debug_trap(struct trap_frame *frame)
{
    if (!from_user(frame) && !is_fixed)
        return 0;
    if (from_user(frame)) {
        steps++;
    } else {
        kernel_steps++;
        /* The frame is the CPU's, which believes that interrupts are on: see bug=direct. */
        frame->eflags &= ~(EFLAGS_TF | EFLAGS_IF);
    }
    return 1;
}

static int stepping_trap(struct trap_frame *frame)
{
    if (frame->vector == DEBUG)
        return debug_trap(frame);
    if (frame->vector != PAGE_FAULT || !from_user(frame))
        return 0;
    faults++;
    map_user_page(program_pgdir, lguest_data.cr2,
                  physical(alloc_page()) | PTE_PRESENT | PTE_WRITABLE | PTE_USER | PTE_USED);
    return 1;
}

static void before_exit(void)
{
    print("kestrel: %u steps of the program, %u page faults, %u steps of the kernel's own\n", steps, faults,
          kernel_steps);
}

void show_step(void)
{
    on_trap = stepping_trap;
    on_exit = before_exit;
    load_program();
    start_program(program_of_step, 0);
}
