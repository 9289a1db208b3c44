/*
 * Traps and interrupts, as on a PC: exceptions and interrupts switch interrupts off on entry, system calls do not.
 */
#include "kernel.h"
#include "spinlock.h"

#define GATE_PRESENT    0x8000
#define GATE_INTERRUPT  0xe00
#define GATE_TRAP       0xf00
#define FOR_PROGRAMS    0x6000

#define NO_FPU          7
#define PAGE_FAULT      14
#define BREAKPOINT      3

/* Error code of a page fault. */
#define FAULT_PRESENT   1

#define NO_SUCH_CALL    ((u32)-38)
#define BAD_ADDRESS     ((u32)-14)

/* heron.lds: where an instruction of the kernel may fault, and where it goes on then. */
extern const struct {
    u32 fault, fixup;
} __ex_table_start[], __ex_table_end[];

static void set_gate(u32 vector, void (*entry)(void), u32 kind)
{
    u32 address = (u32)entry;

    platform->set_gate(vector, KERNEL_CODE << 16 | (address & 0xffff), (address & 0xffff0000) | GATE_PRESENT | kind);
}

void init_traps(void)
{
    for (u32 vector = 0; vector < VECTORS; vector++)
        set_gate(vector, trap_entries[vector], GATE_INTERRUPT);
    set_gate(BREAKPOINT, trap_entries[BREAKPOINT], GATE_INTERRUPT | FOR_PROGRAMS);
    set_gate(SYSCALL_VECTOR, syscall_entry, GATE_TRAP | FOR_PROGRAMS);
}

static int from_user(const struct trap_frame *frame)
{
    return frame->cs & RING_IS_USERS;
}

/* A fault of the kernel's that was to be expected; whether it was. */
static int fixed_up(struct trap_frame *frame)
{
    for (u32 i = 0; &__ex_table_start[i] < __ex_table_end; i++) {
        if (__ex_table_start[i].fault == frame->eip) {
            frame->eip = __ex_table_start[i].fixup;
            return 1;
        }
    }
    return 0;
}

/* A trap that nobody expects: the program's mistake costs the program, ours the machine. */
static void unexpected(struct trap_frame *frame)
{
    if (from_user(frame))
        kill_process("trap", frame->vector);
    else if (!fixed_up(frame))
        panic("heron: trap %u in the kernel at %x (%x)", frame->vector, frame->eip, frame->error_code);
}

/* Memory that a program may have and does not have yet comes to it here, also while the kernel reads it. */
static void page_fault(struct trap_frame *frame)
{
    u32 address = platform->fault_address();

    if (!(frame->error_code & FAULT_PRESENT) && demand_zero(current_pgdir(), address))
        count_page_fault();
    else
        unexpected(frame);
}

static u32 set_thread_segment(u32 lo, u32 hi)
{
    irq_disable();
    platform->set_segment(THREAD_SEGMENT, lo, hi);
    platform->load_tables();
    irq_enable();
    return 0;
}

/* Number in %eax, arguments in %ebx %ecx. By `sysenter` that is the same, since user.c keeps %ecx. */
static void system_call(struct trap_frame *frame)
{
    u32 result = 0;

    switch (frame->eax) {
    case SYS_EXIT:
        exit_process(frame->ebx);
        break;
    case SYS_WRITE:
        if (user_range_ok(frame->ebx, frame->ecx))
            write_text((const char *)frame->ebx, frame->ecx);
        else
            result = BAD_ADDRESS;
        break;
    case SYS_SLEEP:
        sleep(frame->ebx);
        break;
    case SYS_DOOR:
        wait_for_door();
        break;
    case SYS_HOW_ENTERED:
        result = frame->vector;
        break;
    case SYS_HAS_SYSENTER:
        result = (u32)has_sysenter;
        break;
    case SYS_SET_RETURN_SEGMENT:
        frame->ss = frame->ebx;
        break;
    case SYS_SET_THREAD_SEGMENT:
        result = set_thread_segment(frame->ebx, frame->ecx);
        break;
    default:
        result = NO_SUCH_CALL;
    }
    frame->eax = result;
}

regparm void trap(struct trap_frame *frame)
{
    /* Entries with interrupts on prove nothing: it may have become due since. */
    if (from_user(frame) && need_resched && frame->vector < VECTORS)
        panic("heron: %s ran on to %x while another program was due", current_name(), frame->eip);

    switch (frame->vector) {
    case SYSCALL_VECTOR:
    case SYSENTER_VECTOR:
        system_call(frame);
        break;
    case TIMER_VECTOR:
        platform->timer_interrupt();
        timer_tick();
        break;
    case PAGE_FAULT:
        page_fault(frame);
        break;
    case NO_FPU:
        fpu_trap();
        break;
    case BAD_IRET_VECTOR:
        kill_process("bad return to segment", frame->ss);
        break;
    default:
        if (frame->vector < FIRST_EXTERNAL_VECTOR)
            unexpected(frame);
    }
}
