/*
 * Processes: an address space, a kernel stack and a slot in a table; and who runs next, which is the next one in turn.
 * Slot 0 is the kernel's idle loop and runs when nobody else can. States change with interrupts off.
 *
 * Four things must be told to the Host when another process goes on: its page directory, where its frame is (the CPU
 * itself pushes there when a system call comes, so the Host keeps those pages mapped), its thread-local segments, and
 * whether the FPU holds its numbers. They can wait for each other, so they go into the ring.
 */
#include "kernel.h"

#define MAX_PROCESSES 24
#define STACK_BYTES (KERNEL_STACK_PAGES * PAGE_SIZE)

/* A frame may lie across the end of a page. */
#define FRAME_PAGES 2

static struct process processes[MAX_PROCESSES];
static u8 stacks[MAX_PROCESSES][STACK_BYTES] __attribute__((aligned(PAGE_SIZE)));
static u32 next_pid = 1;
static int need_resched;

struct process idle_process;
struct process *current = &idle_process;
u32 switches;

void init_processes(void)
{
    copy_name(idle_process.name, "idle");
    idle_process.state = RUNNABLE;
    idle_process.stack_top = (u32)boot_stack_top;
    idle_process.space.pgdir = swapper_pgdir;
}

/* A slot with a stack and a number, or 0 if there is none. It does not run yet. */
struct process *new_process(const char *name)
{
    for (u32 i = 0; i < MAX_PROCESSES; i++) {
        struct process *process = &processes[i];

        if (process->state != UNUSED)
            continue;
        memset(process, 0, sizeof(*process));
        copy_name(process->name, name);
        process->pid = next_pid++;
        process->parent = current;
        process->stack_top = (u32)stacks[i] + STACK_BYTES;
        process->state = WAITING;
        return process;
    }
    return 0;
}

/*
 * The new process looks as if it had been interrupted with `frame`, and its kernel stack as if switch_context had been
 * called there: four registers and a return address, `start`.
 */
void make_runnable(struct process *process, const struct trap_frame *frame, void (*start)(void))
{
    u32 *context = (u32 *)process->stack_top - 5;

    process->frame = *frame;
    memset(context, 0, 4 * sizeof(u32));
    context[4] = (u32)start;
    process->esp = (u32)context;
    process->state = RUNNABLE;
}

/* The Host tells the time with each interrupt. */
static int has_come(u32 seconds, u32 nanoseconds)
{
    return lguest_data.time_sec > seconds || (lguest_data.time_sec == seconds && lguest_data.time_nsec >= nanoseconds);
}

/* A timer interrupt: whoever has slept long enough may run, and whoever runs has run long enough. */
void timer_tick(void)
{
    for (u32 i = 0; i < MAX_PROCESSES; i++) {
        if (processes[i].state == SLEEPING && has_come(processes[i].wake_sec, processes[i].wake_nsec))
            processes[i].state = RUNNABLE;
    }
    ring_alarms();
    need_resched = 1;
}

int somebody_sleeps(void)
{
    for (u32 i = 0; i < MAX_PROCESSES; i++) {
        if (processes[i].state == SLEEPING)
            return 1;
    }
    return 0;
}

/* The next one in turn; idle only if nobody else can run. */
static struct process *pick(void)
{
    u32 number = current == &idle_process ? MAX_PROCESSES - 1 : (u32)(current - processes);

    for (u32 i = 1; i <= MAX_PROCESSES; i++) {
        struct process *process = &processes[(number + i) % MAX_PROCESSES];

        if (process->state == RUNNABLE)
            return process;
    }
    return &idle_process;
}

/* Let another process run, if one can; returns when this one is picked again. Interrupts are off. */
void schedule(void)
{
    struct process *previous = current;
    struct process *next = pick();

    need_resched = 0;
    if (next == previous)
        return;
    switches++;
    account_switch(next, previous);
    leave_tls(previous);
    current = next;
    load_tls_of(next);
    /* The stack behind the page table: the Host maps the stack's pages in the directory it has then. */
    hcall_later(LHCALL_NEW_PGTABLE, physical(next->space.pgdir), 0, 0);
    hcall_later(LHCALL_SET_STACK, KERNEL_DS, (u32)(&next->frame + 1), FRAME_PAGES);
    hcall_later(LHCALL_TS, !fpu_is_ours(next), 0, 0);
    hcall_flush();
    enter_tls(next);
    switch_context(&previous->esp, next->esp);
}

/* Whether there has been a reason. */
int schedule_if_needed(void)
{
    if (!need_resched)
        return 0;
    schedule();
    return 1;
}

void yield(void)
{
    irq_disable();
    schedule();
    irq_enable();
}

void sleep_until(u32 seconds, u32 nanoseconds)
{
    irq_disable();
    current->wake_sec = seconds;
    current->wake_nsec = nanoseconds;
    current->state = SLEEPING;
    schedule();
    irq_enable();
}

/* Until somebody wakes up whoever waits for `what`. Interrupts are off, so that the caller's reason still holds. */
void wait_for(const volatile void *what)
{
    current->waits_for = what;
    current->state = WAITING;
    schedule();
}

/* Also from interrupt handlers. */
void wake_up(const volatile void *what)
{
    for (u32 i = 0; i < MAX_PROCESSES; i++) {
        if (processes[i].state == WAITING && processes[i].waits_for == what) {
            processes[i].waits_for = 0;
            processes[i].state = RUNNABLE;
            need_resched = 1;
        }
    }
}

/* Children of the dead are their grandparent's. */
static void hand_over_children(void)
{
    for (u32 i = 0; i < MAX_PROCESSES; i++) {
        if (processes[i].state != UNUSED && processes[i].parent == current)
            processes[i].parent = current->parent;
    }
}

static void leave_space(void)
{
    u32 *pgdir = current->space.pgdir;

    current->space.pgdir = swapper_pgdir;
    hcall(LHCALL_NEW_PGTABLE, physical(swapper_pgdir), 0, 0);
    release_pgdir(pgdir);
}

static void report_end(void)
{
    u32 signal = current->status & 0x7f;

    if (current->pid != 1 && command_line_flag("quiet"))
        return;
    if (signal)
        print("kestrel: %s[%u] was killed by signal %u\n", current->name, current->pid, signal);
    else
        print("kestrel: %s[%u] is done, status %u\n", current->name, current->pid, current->status >> 8);
}

/* `status` as waitpid has it: a signal's number, or an exit status times 256. Nothing is left to do without init. */
void exit_process(u32 status)
{
    irq_disable();
    current->status = status;
    report_end();
    if (current->pid == 1) {
        print("kestrel: %u ticks, %u switches, %u system calls, %u page faults, %u pages copied, %u FPU switches\n",
              ticks, switches, syscalls, page_faults, copies, fpu_switches);
        power_off();
    }
    fpu_forget(current);
    leave_space();
    close_account(current);
    hand_over_children();
    wake_up(current->parent);
    current->state = ZOMBIE;
    schedule();
    panic(0, "a process came back from the dead");
}

static int is_wanted(const struct process *process, u32 pid)
{
    return process->state != UNUSED && process->parent == current && (pid == ~0u || process->pid == pid);
}

/* Number of a child that has ended, 0 if none has yet and we must not wait, or an error. */
u32 wait_for_child(u32 pid, int no_hang, u32 *status)
{
    for (;;) {
        int found = 0;

        irq_disable();
        for (u32 i = 0; i < MAX_PROCESSES; i++) {
            struct process *process = &processes[i];

            if (!is_wanted(process, pid))
                continue;
            found = 1;
            if (process->state != ZOMBIE)
                continue;
            *status = process->status;
            process->state = UNUSED;
            irq_enable();
            return process->pid;
        }
        if (!found || no_hang) {
            irq_enable();
            return found ? 0 : (u32)-ECHILD;
        }
        wait_for(current);
        irq_enable();
    }
}

int process_exists(u32 pid)
{
    for (u32 i = 0; i < MAX_PROCESSES; i++) {
        if (processes[i].state != UNUSED && processes[i].pid == pid)
            return 1;
    }
    return 0;
}
