/*
 * Two ways to leave a hole in the window in which the Host does not interrupt.
 *
 * bug=cut: it ends before the `iret` and not behind it. bug=entry: the system call's gate is a trap gate, which the CPU uses
 * directly, in place of the interrupt gate that its handler was written for; and the instruction that makes up for the
 * difference stands outside of the window.
 *
 * In both holes interrupts are on, and the kernel's stack pointer is in the program's frame. An interrupt is handled there,
 * below the frame; what it pushed over shows at the next system call.
 */
#include "bugs.h"

static void look_at_the_seal(struct trap_frame *frame)
{
    irq_enable();
    check_seal(frame);
}

static void run_program(void)
{
    on_system_call = look_at_the_seal;
    load_program();
    start_timer(number_option("hz=", 10000));
    start_program(program_of_window, number_option("loops=", 2000));
}

void show_cut(void)
{
    iret_operation = is_fixed ? lguest_iret_masked : lguest_iret_cut;
    run_program();
}

void show_entry(void)
{
    set_gate(SYSCALL_VECTOR, (is_fixed ? window_entries : bare_entries)[DIRECT_SYSCALL], GATE_TRAP, USER_RING);
    run_program();
}
