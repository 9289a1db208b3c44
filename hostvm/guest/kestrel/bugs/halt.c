/*
 * bug=halt: `cli; hlt` stops a PC for good. Under lguest it does not.
 *
 * The kernel finds its accounts in disorder and stops, with interrupts off so that nothing works on with them. HALT is a
 * hypercall that ends when an interrupt is pending, and the Host then switches the guest's interrupts on, whatever they
 * were. What does stop a guest is to block all interrupts first: that is a word that the Host only reads.
 */
#include "bugs.h"

static void stop(void)
{
    print("kestrel: money is gone, stopping\n");
    irq_disable();
    if (is_fixed)
        lguest_data.blocked_interrupts = ~0u;
    hcall(LHCALL_HALT, 0, 0, 0);
    print("kestrel: still there?\n");
}

void show_halt(void)
{
    on_timer = (void (*)(struct trap_frame *))audit;
    start_timer(number_option("hz=", 4000));
    move_money(1, stop);
}
