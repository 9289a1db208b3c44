/*
 * Processes: a page directory, a kernel stack and a place in a table. Process 0 is the kernel's idle loop and runs when
 * nobody else can. Everything here runs with interrupts off.
 *
 * Three things must be told to the Host when another process goes on: its page directory, its kernel stack (the CPU
 * itself pushes there when a system call comes, so the Host keeps those pages mapped) and whether the FPU holds its
 * numbers. They can wait for each other, so they go into the ring, and one hypercall makes the Host look there.
 */
#include "kernel.h"

#define MAX_PROCESSES   4
#define USER_STACK_TOP  0xc0000000
#define FPU_STATE_SIZE  108

enum state {
    UNUSED, RUNNABLE, SLEEPING, EXITED,
};

struct process {
    const char *name;
    enum state state;
    u32 wake_at;                /* tick at which SLEEPING ends */
    u32 esp;                    /* kernel stack pointer while it does not run */
    u32 stack_top;
    u32 *pgdir;
    int has_fpu_state;
    u8 fpu_state[FPU_STATE_SIZE];
};

static struct process processes[MAX_PROCESSES];
static struct process *fpu_owner;
static int need_resched;

extern u8 boot_stack_top[];

struct process *current = &processes[0];
u32 syscalls, page_faults, fpu_switches;

void init_processes(void)
{
    current->name = "idle";
    current->state = RUNNABLE;
    current->stack_top = (u32)boot_stack_top;
    current->pgdir = boot_pgdir;
}

/*
 * The new process's kernel stack looks as if it had been interrupted at its first instruction and had then called
 * switch_context: four registers and a return address below a trap frame.
 */
void start_process(const char *name, u32 entry, u32 argument)
{
    struct process *process = current;
    struct trap_frame *frame;
    u32 *context;

    while (process->state != UNUSED)
        process++;
    process->name = name;
    process->stack_top = (u32)alloc_pages(KERNEL_STACK_PAGES) + KERNEL_STACK_PAGES * PAGE_SIZE;
    process->pgdir = new_pgdir();

    frame = (struct trap_frame *)process->stack_top - 1;
    frame->eip = entry;
    frame->eax = argument;
    frame->cs = USER_CS;
    frame->ds = frame->es = frame->ss = USER_DS;
    frame->eflags = EFLAGS_IF;
    frame->esp = USER_STACK_TOP;

    context = (u32 *)frame - 5;
    context[4] = (u32)trap_return;
    process->esp = (u32)context;
    process->state = RUNNABLE;
}

u32 *current_pgdir(void)
{
    return current->pgdir;
}

int processes_left(void)
{
    for (u32 i = 1; i < MAX_PROCESSES; i++) {
        if (processes[i].state == RUNNABLE || processes[i].state == SLEEPING)
            return 1;
    }
    return 0;
}

/* A timer interrupt: whoever has slept long enough may run, and whoever runs has run long enough. */
void timer_tick(void)
{
    for (u32 i = 1; i < MAX_PROCESSES; i++) {
        if (processes[i].state == SLEEPING && processes[i].wake_at <= ticks)
            processes[i].state = RUNNABLE;
    }
    need_resched = 1;
}

/* A hypercall that can wait for the next one that cannot. If the ring is full there is nothing to gain. */
static void hcall_later(u32 number, u32 arg1, u32 arg2, u32 arg3)
{
    static u32 next;
    volatile u32 *slot = lguest_data.hcalls[next];

    if (lguest_data.hcall_status[next] != HCALL_FREE) {
        hcall(number, arg1, arg2, arg3);
        return;
    }
    slot[0] = number;
    slot[1] = arg1;
    slot[2] = arg2;
    slot[3] = arg3;
    lguest_data.hcall_status[next] = 0;
    next = (next + 1) % HCALL_RING_SIZE;
}

/* The next one in turn; idle only if it is the only one. */
static struct process *pick(void)
{
    u32 number = (u32)(current - processes);

    for (u32 i = 1; i <= MAX_PROCESSES; i++) {
        struct process *process = &processes[(number + i) % MAX_PROCESSES];

        if (process != &processes[0] && process->state == RUNNABLE)
            return process;
    }
    return &processes[0];
}

/* Let another process run, if one can; returns when this one is picked again. */
void schedule(void)
{
    struct process *previous = current;
    struct process *next = pick();

    need_resched = 0;
    if (next == previous)
        return;
    current = next;
    /* The stack behind the page table: the Host maps the stack's pages in the directory it has then. */
    hcall_later(LHCALL_NEW_PGTABLE, physical(next->pgdir), 0, 0);
    hcall_later(LHCALL_SET_STACK, KERNEL_DS, next->stack_top, KERNEL_STACK_PAGES);
    hcall_later(LHCALL_TS, next != fpu_owner, 0, 0);
    hcall(LHCALL_FLUSH_ASYNC, 0, 0, 0);
    switch_context(&previous->esp, next->esp);
}

void schedule_if_needed(void)
{
    if (need_resched)
        schedule();
}

void exit_process(u32 status)
{
    print("hello: %s is done, status %x\n", current->name, status);
    irq_disable();
    if (fpu_owner == current)
        fpu_owner = 0;
    current->state = EXITED;
    schedule();
    shutdown("hello: a process came back from the dead");
}

/* The FPU was used and holds somebody else's numbers: put those away and bring ours. */
void fpu_trap(void)
{
    hcall(LHCALL_TS, 0, 0, 0);
    fpu_switches++;
    if (fpu_owner) {
        asm volatile("fnsave %0" : "=m"(fpu_owner->fpu_state));
        fpu_owner->has_fpu_state = 1;
    }
    fpu_owner = current;
    if (current->has_fpu_state)
        asm volatile("frstor %0" : : "m"(current->fpu_state));
    else
        asm volatile("fninit");
}

static void sleep(u32 duration)
{
    irq_disable();
    current->wake_at = ticks + duration;
    current->state = SLEEPING;
    schedule();
}

/* Number in %eax, arguments in %ebx %ecx %edx; the numbers are Linux's, except that sleep takes ticks. */
void system_call(struct trap_frame *frame)
{
    syscalls++;
    switch (frame->eax) {
    case 1:
        exit_process(frame->ebx);
        break;
    case 4:
        if (!user_range_ok(frame->ecx, frame->edx)) {
            frame->eax = (u32)-14;
            break;
        }
        write_console((const char *)frame->ecx, frame->edx);
        frame->eax = frame->edx;
        break;
    case 20:
        frame->eax = (u32)(current - processes);
        break;
    case 158:
        need_resched = 1;
        frame->eax = 0;
        break;
    case 162:
        sleep(frame->ebx);
        frame->eax = 0;
        break;
    default:
        frame->eax = (u32)-38;
    }
}
