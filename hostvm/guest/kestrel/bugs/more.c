/*
 * bug=more: the Host never takes back that an interrupt waits.
 *
 * The kernel saves the flag, works with interrupts off and restores it, over and over. The first interrupt that comes at
 * such a time makes the Host set irq_pending; from then on every restore is a hypercall. This one is the Host's, so the
 * kernel cannot be fixed: `lgreplay record --quirk more-always-true=correct` is the other Host.
 */
#include "bugs.h"

static volatile u32 work_done;

static __attribute__((noinline)) void work(u32 units)
{
    for (u32 i = 0; i < units; i++)
        work_done++;
}

static __attribute__((noinline)) void protected_work(void)
{
    u32 flags = irq_save();

    work(20);
    irq_restore(flags);
}

void show_more(void)
{
    u32 loops = number_option("loops=", 600);

    start_timer(number_option("hz=", 4000));
    irq_enable();
    for (u32 i = 0; i < loops; i++) {
        protected_work();
        work(40);
    }
    print("kestrel: %u times with interrupts off, %u timer interrupts\n", loops, ticks);
}
