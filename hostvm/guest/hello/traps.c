/*
 * Traps and the timer. The gates go to the Host one by one; it decides which it can let the CPU use directly. Only a
 * trap gate can be: an interrupt gate has to switch interrupts off, and our interrupt flag is something the CPU does
 * not know. So the system call is a trap gate, and whatever needs interrupts off on entry is an interrupt gate.
 */
#include "kernel.h"

#define GATE_PRESENT    0x8000
#define GATE_INTERRUPT  0xe
#define GATE_TRAP       0xf
#define USER_RING       3

/* Words of a flat 4 GiB segment, present, already accessed. */
#define FLAT_LO         0x0000ffff
#define FLAT_CODE_HI    0x00cf9b00
#define FLAT_DATA_HI    0x00cf9300
#define DPL(ring)       ((ring) << 13)

enum vector {
    DIVIDE_ERROR = 0,
    BREAKPOINT = 3,
    OVERFLOW = 4,
    BOUND = 5,
    NO_FPU = 7,
    PAGE_FAULT = 14,
};

/* Error code of a page fault. */
#define FAULT_PRESENT   1
#define FAULT_WRITE     2

static const char *const trap_names[] = {
    "divide error", "debug trap", "NMI", "breakpoint", "overflow", "bound range exceeded", "invalid opcode",
    "no FPU", "double fault", "FPU segment overrun", "invalid TSS", "segment not present", "stack fault",
    "general protection fault", "page fault", "reserved trap", "FPU error", "alignment check", "machine check",
    "SIMD error",
};

volatile u32 ticks;

static void set_gate(u32 vector, void (*entry)(void), u32 type, u32 ring)
{
    u32 address = (u32)entry;
    u32 lo = KERNEL_CS << 16 | (address & 0xffff);
    u32 hi = (address & 0xffff0000) | GATE_PRESENT | DPL(ring) | type << 8;

    hcall(LHCALL_LOAD_IDT_ENTRY, vector, lo, hi);
}

static void set_segment(u32 selector, u32 hi)
{
    hcall(LHCALL_LOAD_GDT_ENTRY, selector >> 3, FLAT_LO, hi | DPL(selector & 3));
}

void init_traps(void)
{
    set_segment(KERNEL_CS, FLAT_CODE_HI);
    set_segment(KERNEL_DS, FLAT_DATA_HI);
    set_segment(USER_CS, FLAT_CODE_HI);
    set_segment(USER_DS, FLAT_DATA_HI);

    for (u32 vector = 0; vector <= TIMER_VECTOR; vector++)
        set_gate(vector, trap_entries[vector], GATE_INTERRUPT, KERNEL_RING);

    /* What a program does to itself on purpose, or nearly so, need not trouble the Host. */
    set_gate(DIVIDE_ERROR, trap_entries[DIVIDE_ERROR], GATE_TRAP, KERNEL_RING);
    set_gate(BREAKPOINT, trap_entries[BREAKPOINT], GATE_TRAP, USER_RING);
    set_gate(OVERFLOW, trap_entries[OVERFLOW], GATE_TRAP, USER_RING);
    set_gate(BOUND, trap_entries[BOUND], GATE_TRAP, KERNEL_RING);
    set_gate(SYSCALL_VECTOR, syscall_entry, GATE_TRAP, USER_RING);
}

static int from_user(const struct trap_frame *frame)
{
    return (frame->cs & 3) == USER_RING;
}

static const char *trap_name(u32 vector)
{
    return vector < sizeof(trap_names) / sizeof(trap_names[0]) ? trap_names[vector] : "trap";
}

/* A trap that nobody expects: the program's mistake costs the program, ours the machine. */
static void fatal_trap(const struct trap_frame *frame)
{
    const char *name = trap_name(frame->vector);
    u32 address = frame->vector == PAGE_FAULT ? lguest_data.cr2 : frame->error_code;

    if (!from_user(frame))
        shutdown("hello: %s in the kernel at %x (%x)", name, frame->eip, address);
    print("hello: %s in a program at %x (%x)\n", name, frame->eip, address);
    exit_process(1);
}

/* Memory that a program may have and does not have yet comes to it here, also while the kernel reads it. */
static void page_fault(const struct trap_frame *frame)
{
    u32 address = lguest_data.cr2;

    if (!(frame->error_code & FAULT_PRESENT) && demand_zero(current_pgdir(), address))
        page_faults++;
    else
        fatal_trap(frame);
}

/* The Host's timer rings once, so it is wound up again first. */
static void timer_interrupt(void)
{
    hcall(LHCALL_SET_CLOCKEVENT, timer_period_ns, 0, 0);
    ticks++;
    timer_tick();
}

void trap(struct trap_frame *frame)
{
    switch (frame->vector) {
    case SYSCALL_VECTOR:
        system_call(frame);
        break;
    case TIMER_VECTOR:
        timer_interrupt();
        break;
    case PAGE_FAULT:
        page_fault(frame);
        break;
    case NO_FPU:
        fpu_trap();
        break;
    default:
        fatal_trap(frame);
    }

    /* The kernel is never preempted, only programs are: just before they would go on. */
    irq_disable();
    if (from_user(frame))
        schedule_if_needed();
}
