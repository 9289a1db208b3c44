/*
 * Gates and dispatch. As in kestrel, system calls and what a program does to itself go directly from the CPU into the
 * kernel by trap gates; all else comes by way of the Host, by interrupt gates.
 */
#include "bugs.h"

#define GATE_PRESENT    0x8000
#define GATE_DPL(ring)  ((ring) << 13)
#define NS_PER_SECOND   1000000000u

#define FLAT_LO         0x0000ffff
#define FLAT_CODE_HI    0x00cf9b00
#define FLAT_DATA_HI    0x00cf9300

volatile u32 ticks;
u32 timer_period;
int timer_winds_itself = 1;

void (*on_timer)(struct trap_frame *frame);
void (*on_system_call)(struct trap_frame *frame);
void (*on_exit)(void);
void (*on_interrupt)(struct trap_frame *frame);
int (*on_trap)(struct trap_frame *frame);

void set_gate(u32 vector, void (*entry)(void), u32 type, u32 ring)
{
    u32 address = (u32)entry;

    hcall(LHCALL_LOAD_IDT_ENTRY, vector, KERNEL_CS << 16 | (address & 0xffff),
          (address & 0xffff0000) | GATE_PRESENT | GATE_DPL(ring) | type << 8);
}

void remove_gate(u32 vector)
{
    hcall(LHCALL_LOAD_IDT_ENTRY, vector, 0, 0);
}

static void set_segment(u32 selector, u32 hi)
{
    hcall(LHCALL_LOAD_GDT_ENTRY, selector >> 3, FLAT_LO, hi | GATE_DPL(selector & 3));
}

void init_segments(void)
{
    set_segment(KERNEL_CS, FLAT_CODE_HI);
    set_segment(KERNEL_DS, FLAT_DATA_HI);
    set_segment(USER_CS, FLAT_CODE_HI);
    set_segment(USER_DS, FLAT_DATA_HI);
}

/* In the order of direct_entries. */
static const struct {
    u32 vector, ring;
} direct_traps[] = {
    { DIVIDE_ERROR, KERNEL_RING }, { DEBUG, KERNEL_RING }, { BREAKPOINT, USER_RING }, { SYSCALL_VECTOR, USER_RING },
};

void init_traps(void)
{
    for (u32 vector = 0; vector < TRAP_ENTRIES; vector++)
        set_gate(vector, trap_entries[vector], GATE_INTERRUPT, KERNEL_RING);
    for (u32 i = 0; i < sizeof(direct_traps) / sizeof(direct_traps[0]); i++)
        set_gate(direct_traps[i].vector, window_entries[i], GATE_TRAP, direct_traps[i].ring);
}

void wind_up(u32 nanoseconds)
{
    hcall(LHCALL_SET_CLOCKEVENT, nanoseconds, 0, 0);
}

void start_timer(u32 hz)
{
    timer_period = NS_PER_SECOND / hz;
    lguest_data.blocked_interrupts &= ~1u;
    wind_up(timer_period);
}

int from_user(const struct trap_frame *frame)
{
    return (frame->cs & 3) == USER_RING;
}

static void timer_interrupt(struct trap_frame *frame)
{
    ticks++;
    if (on_timer)
        on_timer(frame);
    if (timer_winds_itself)
        wind_up(timer_period);
}

void system_call(struct trap_frame *frame)
{
    if (frame->eax == SYS_EXIT) {
        if (on_exit)
            on_exit();
        power_off();
    }
    on_system_call(frame);
}

void trap(struct trap_frame *frame)
{
    if (frame->vector == FIRST_IRQ)
        timer_interrupt(frame);
    else if (frame->vector == SYSCALL_VECTOR)
        system_call(frame);
    else if (frame->vector > FIRST_IRQ && frame->vector < TRAP_ENTRIES && on_interrupt)
        on_interrupt(frame);
    else if (!on_trap || !on_trap(frame))
        panic(frame, "trap %u in the %s", frame->vector, from_user(frame) ? "program" : "kernel");
    irq_disable();
}
