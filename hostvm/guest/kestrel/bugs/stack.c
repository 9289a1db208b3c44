/*
 * bug=stack: the kernel's stack, as the Host was told of it, ends 8 bytes inside lguest_data.
 *
 * A trap of a program is pushed there: first its ss, over `blocked_interrupts`, then its esp, over `irq_enabled`. Then the
 * Host looks up `irq_enabled`, because the flags that it pushes next must show whether interrupts were on. They were; but
 * what it finds is the program's stack pointer, and bit 9 of that is what goes into the frame.
 */
#include "bugs.h"

#define HLT_BYTES 1

static u32 traps;

/* A program may not `hlt`: a trap that the Host reflects. */
static int look_at_the_flags(struct trap_frame *frame)
{
    if (frame->vector != GENERAL_PROTECTION || !from_user(frame))
        return 0;
    traps++;
    if (!(frame->eflags & EFLAGS_IF))
        panic(frame, "trap %u: a program had interrupts off", traps);
    print("kestrel: trap %u: flags %x\n", traps, frame->eflags);
    frame->eip += HLT_BYTES;
    return 1;
}

void show_stack(void)
{
    on_trap = look_at_the_flags;
    set_gate(GENERAL_PROTECTION, trap_entries[GENERAL_PROTECTION], GATE_TRAP, KERNEL_RING);
    load_program();
    if (!is_fixed)
        hcall(LHCALL_SET_STACK, KERNEL_DS, (u32)&lguest_data + 2 * sizeof(u32), 1);
    start_program(program_of_stack, 0);
}
