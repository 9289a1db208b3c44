/*
 * Traps and interrupts. The gates go to the Host one by one; it decides which of them the CPU may use directly. Only a
 * trap gate can be one: an interrupt gate has to switch interrupts off, and our interrupt flag is something the CPU does
 * not know. So the system call and what a program does to itself are trap gates, and switch interrupts off themselves
 * (entry.S); all others are interrupt gates.
 */
#include "kernel.h"

#define GATE_PRESENT    0x8000
#define GATE_INTERRUPT  0xe
#define GATE_TRAP       0xf
#define GATE_DPL(ring)  ((ring) << 13)

enum vector {
    DIVIDE_ERROR = 0, DEBUG = 1, BREAKPOINT = 3, OVERFLOW = 4, BOUND = 5, INVALID_OPCODE = 6, NO_FPU = 7,
    GENERAL_PROTECTION = 13, PAGE_FAULT = 14, FPU_ERROR = 16, ALIGNMENT = 17, SIMD_ERROR = 19,
};

/* Error code of a page fault. */
#define FAULT_WRITE     2

/* The same instruction at the same address, so often in a row: nothing that we do helps. */
#define STORM           1000

/* What waitpid reports of a program that trapped: Linux's signal numbers. */
#define SIGILL          4
#define SIGTRAP         5
#define SIGBUS          7
#define SIGFPE          8
#define SIGSEGV         11

#define IRQS            (TRAP_ENTRIES - FIRST_IRQ)

static const char *const trap_names[] = {
    "divide error", "debug trap", "NMI", "breakpoint", "overflow", "bound range exceeded", "invalid opcode",
    "no FPU", "double fault", "FPU segment overrun", "invalid TSS", "segment not present", "stack fault",
    "general protection fault", "page fault", "reserved trap", "FPU error", "alignment check", "machine check",
    "SIMD error",
};

volatile u32 ticks;
int ignore_page_faults;

static void (*irq_handlers[IRQS])(void);

static void set_gate(u32 vector, void (*entry)(void), u32 type, u32 ring)
{
    u32 address = (u32)entry;
    u32 lo = KERNEL_CS << 16 | (address & 0xffff);
    u32 hi = (address & 0xffff0000) | GATE_PRESENT | GATE_DPL(ring) | type << 8;

    hcall(LHCALL_LOAD_IDT_ENTRY, vector, lo, hi);
}

/* What a program does to itself on purpose, or nearly so, need not trouble the Host. In the order of direct_entries. */
static const struct {
    u32 vector, ring;
} direct_traps[] = {
    { DIVIDE_ERROR, KERNEL_RING }, { DEBUG, KERNEL_RING }, { BREAKPOINT, USER_RING },
    { OVERFLOW, USER_RING }, { BOUND, KERNEL_RING }, { SYSCALL_VECTOR, USER_RING },
};

void init_traps(void)
{
    for (u32 vector = 0; vector < TRAP_ENTRIES; vector++)
        set_gate(vector, trap_entries[vector], GATE_INTERRUPT, KERNEL_RING);

    for (u32 i = 0; i < sizeof(direct_traps) / sizeof(direct_traps[0]); i++)
        set_gate(direct_traps[i].vector, direct_entries[i], GATE_TRAP, direct_traps[i].ring);
}

/* From now on the Host may deliver this interrupt. */
void request_irq(u32 irq, void (*handler)(void))
{
    if (irq >= IRQS)
        panic(0, "no interrupt %u under lguest", irq);
    irq_handlers[irq] = handler;
    lguest_data.blocked_interrupts &= ~(1u << irq);
}

int from_user(const struct trap_frame *frame)
{
    return (frame->cs & 3) == USER_RING;
}

static const char *trap_name(u32 vector)
{
    return vector < sizeof(trap_names) / sizeof(trap_names[0]) ? trap_names[vector] : "trap";
}

static u32 signal_of(u32 vector)
{
    switch (vector) {
    case DIVIDE_ERROR:
    case FPU_ERROR:
    case SIMD_ERROR:
        return SIGFPE;
    case DEBUG:
    case BREAKPOINT:
        return SIGTRAP;
    case INVALID_OPCODE:
        return SIGILL;
    case ALIGNMENT:
        return SIGBUS;
    }
    return SIGSEGV;
}

/* A trap that nobody expects: the program's mistake costs the program, ours the machine. */
static void fatal_trap(const struct trap_frame *frame, const char *what)
{
    u32 address = frame->vector == PAGE_FAULT ? lguest_data.cr2 : frame->error_code;

    if (!from_user(frame))
        panic(frame, "%s in the kernel at %x (%x)", what, frame->eip, address);
    print("kestrel: %s in %s[%u] at %x (%x)\n", what, current->name, current->pid, frame->eip, address);
    exit_process(signal_of(frame->vector));
}

/* Whether the last faults were all the same one. */
static int is_storm(const struct trap_frame *frame, u32 address)
{
    static u32 last_address, last_eip, last_pid, repeats;

    if (address == last_address && frame->eip == last_eip && current->pid == last_pid)
        return ++repeats > STORM;
    last_address = address;
    last_eip = frame->eip;
    last_pid = current->pid;
    repeats = 0;
    return 0;
}

/* Memory that a program may have and does not have yet comes to it here, also while the kernel works for it. */
static void page_fault(const struct trap_frame *frame)
{
    u32 address = lguest_data.cr2;

    if (is_storm(frame, address))
        panic(frame, "page fault storm: %x wants %x", frame->eip, address);
    if (ignore_page_faults)
        return;
    if (!current->space.pgdir || address >= USER_END ||
        !space_fault(&current->space, address, frame->error_code & FAULT_WRITE))
        fatal_trap(frame, "page fault");
}

/*
 * A program that single-steps itself takes the flag along into a trap that the Host reflects, and then our own first
 * step traps. Go on without it here; the program's turn comes when it is back. Interrupts were off, though the CPU, which
 * made this frame, shows them on.
 */
static void debug_trap(struct trap_frame *frame)
{
    if (from_user(frame))
        fatal_trap(frame, "debug trap");
    frame->eflags &= ~(EFLAGS_TF | EFLAGS_IF);
}

static void interrupt(u32 irq)
{
    if (!irq_handlers[irq])
        panic(0, "interrupt %u, which nobody asked for", irq);
    irq_handlers[irq]();
}

/*
 * An interrupt that comes while interrupts are off waits until the kernel next goes to the Host, and the program that we
 * are about to return to may never go there. So let in what has come. Between here and `iret` there are a few
 * instructions for another one to be late in; then it is as late as under Linux.
 */
static void let_interrupts_in(int were_off_for_long)
{
    irq_enable();
    if (LGUEST_GENERATION <= 206 && were_off_for_long)
        hcall_flush();
    irq_disable();
}

/* The kernel is never preempted, only programs are: just before they would go on. */
static void return_to_program(const struct trap_frame *frame)
{
    let_interrupts_in(frame->vector != SYSCALL_VECTOR);
    if (schedule_if_needed())
        let_interrupts_in(1);
    wind_up_timer();
}

void trap(struct trap_frame *frame)
{
    switch (frame->vector) {
    case SYSCALL_VECTOR:
        irq_enable();
        system_call(frame);
        break;
    case FIRST_IRQ ... TRAP_ENTRIES - 1:
        interrupt(frame->vector - FIRST_IRQ);
        break;
    case PAGE_FAULT:
        page_fault(frame);
        break;
    case NO_FPU:
        fpu_trap();
        break;
    case DEBUG:
        debug_trap(frame);
        break;
    default:
        fatal_trap(frame, trap_name(frame->vector));
    }

    irq_disable();
    if (from_user(frame))
        return_to_program(frame);
}
