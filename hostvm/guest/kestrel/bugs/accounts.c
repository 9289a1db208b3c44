/*
 * Two accounts, and money that is moved from one to the other with interrupts off. Their sum is the same whenever an
 * interrupt may come; so a handler that finds another one has found out where it was not to come.
 */
#include "bugs.h"

#define TOTAL 1000

static volatile u32 savings = TOTAL, purse;

static __attribute__((noinline)) void write_it_down(void)
{
    for (volatile u32 i = 0; i < 12; i++)
        ;
}

/* `in_between` is called half-way. */
void move_money(u32 amount, void (*in_between)(void))
{
    irq_disable();
    savings -= amount;
    in_between();
    write_it_down();
    purse += amount;
    irq_enable();
}

void audit(const struct trap_frame *frame)
{
    if (savings + purse != TOTAL)
        panic(frame, "interrupted while money was moved: %x and %x", savings, purse);
}
