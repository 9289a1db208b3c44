/*
 * bug=wake: the kernel looks whether there is something to do, there is not, and it goes to sleep; and what there was to do
 * came in between.
 *
 * The clock rings once, and is wound up again by whoever has dealt with it. Interrupts are on between the look and HALT.
 * An interrupt that comes there is handled, and then the kernel sleeps all the same, and nobody winds up the clock.
 * With interrupts off it would be pending, and HALT does not sleep on a pending interrupt.
 */
#include "bugs.h"

static u32 done;

static __attribute__((noinline)) void wait_for_work(void)
{
    if (is_fixed)
        irq_disable();
    else
        irq_enable();
    if (done == ticks)
        hcall(LHCALL_HALT, 0, 0, 0);
    irq_enable();
}

/* It takes longer or shorter, up to a period of the clock. */
static void work(void)
{
    for (volatile u32 i = done * 0x9e3779b9 >> 22; i; i--)
        ;
}

void show_wake(void)
{
    u32 loops = number_option("loops=", 100);

    timer_winds_itself = 0;
    start_timer(number_option("hz=", 20000));
    irq_enable();
    while (done < loops) {
        work();
        wait_for_work();
        if (done != ticks) {
            done++;
            wind_up(timer_period);
        }
    }
    print("kestrel: %u times\n", done);
}
