/*
 * bug=sti: interrupts are switched on again and nobody asks whether one has come meanwhile.
 *
 * A program has the kernel do something under a lock that keeps interrupts out, over and over. A timer interrupt that comes
 * just then must be delivered when the lock is released; it is delivered when something else takes the kernel to the Host.
 */
#include "bugs.h"

#define LATE    50              /* us */

static u32 due_sec, due_nsec, late, worst;
static volatile u32 work_done;

/* After the timer was wound up; the Host told the time when it interrupted us, which is hardly ago. */
static void remember_when_due(void)
{
    due_sec = lguest_data.time_sec;
    due_nsec = lguest_data.time_nsec + timer_period;
}

static u32 microseconds_overdue(void)
{
    u32 seconds = lguest_data.time_sec - due_sec;

    return (seconds * 1000000000u + lguest_data.time_nsec - due_nsec) / 1000;
}

static void timer(struct trap_frame *frame)
{
    u32 overdue = ticks > 1 ? microseconds_overdue() : 0;

    (void)frame;
    if (overdue > LATE) {
        late++;
        print("kestrel: a timer interrupt comes late\n");
    }
    if (overdue > worst)
        worst = overdue;
    remember_when_due();
}

/* spin_lock_irq, something, spin_unlock_irq. */
static __attribute__((noinline)) void locked_work(void)
{
    irq_disable();
    for (u32 i = 0; i < 24; i++)
        work_done++;
    irq_enable();
}

static void do_work(struct trap_frame *frame)
{
    (void)frame;
    irq_enable();
    locked_work();
}

static void before_exit(void)
{
    print("kestrel: %u timer interrupts, %u of them late, the worst by %u us\n", ticks, late, worst);
}

void show_sti(void)
{
    sti_operation = is_fixed ? sti_as_meant : sti_as_written;
    on_timer = timer;
    on_system_call = do_work;
    on_exit = before_exit;
    load_program();
    start_timer(number_option("hz=", 4000));
    start_program(program_of_sti, number_option("loops=", 300));
}
