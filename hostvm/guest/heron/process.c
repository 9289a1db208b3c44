/*
 * Processes: a page directory, a kernel stack and a place in a table. Process 0 is the idle loop. A program is preempted
 * when the timer ticks, the kernel never is.
 *
 * Programs run side by side, and what they say must not tell in which order. So each one's text is kept until those
 * before it in the table have ended.
 */
#include "kernel.h"
#include "spinlock.h"

#define MAX_PROCESSES   9
#define USER_STACK_TOP  0xc0000000
#define FPU_STATE_SIZE  108
#define TEXT_SIZE       1024
#define CR0_EM          4

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
    u32 page_faults;
    int has_fpu_state;
    u8 fpu_state[FPU_STATE_SIZE];
    u32 text_length;
    char text[TEXT_SIZE + 1];
};

static struct process processes[MAX_PROCESSES];
static struct process *current = &processes[0], *fpu_owner;
static u32 shown = 1, fpu_switches;

/* The text buffers, which somebody may want to have for himself. */
static struct spinlock text_lock = { 1, 0 };

/* A door that another processor opens and closes; the timer plays that one. */
static struct spinlock door = { 1, 0 };
static volatile int door_wanted, door_held;

extern u8 boot_stack_top[];

int need_resched;
u32 stack_top;
volatile u32 clock_page[1024] __attribute__((aligned(PAGE_SIZE)));

void init_processes(void)
{
    current->name = "idle";
    current->state = RUNNABLE;
    current->stack_top = (u32)boot_stack_top;
    current->pgdir = boot_pgdir;
}

/*
 * The new process's kernel stack looks as if it had been interrupted at its first instruction and had then called
 * switch_context: four registers and a return address below a frame.
 */
void start_process(const char *name, u32 entry, u32 argument)
{
    struct process *process = &processes[1];
    struct trap_frame *frame;
    u32 *context;

    while (process->state != UNUSED)
        process++;
    process->name = name;
    process->stack_top = (u32)alloc_pages(KERNEL_STACK_SIZE / PAGE_SIZE) + KERNEL_STACK_SIZE;
    process->pgdir = new_pgdir();

    frame = (struct trap_frame *)process->stack_top - 1;
    frame->eip = entry;
    frame->eax = argument;
    frame->cs = USER_CODE;
    frame->ds = frame->es = frame->ss = USER_DATA;
    frame->eflags = EFLAGS_IF;
    frame->esp = USER_STACK_TOP;

    context = (u32 *)frame - 5;
    context[4] = (u32)restore_all;
    process->esp = (u32)context;
    process->state = RUNNABLE;
}

const char *current_name(void)
{
    return current->name;
}

u32 *current_pgdir(void)
{
    return current->pgdir;
}

void count_page_fault(void)
{
    current->page_faults++;
}

int processes_left(void)
{
    for (u32 i = 1; i < MAX_PROCESSES; i++) {
        if (processes[i].state == RUNNABLE || processes[i].state == SLEEPING)
            return 1;
    }
    return 0;
}

/* Somebody goes through the door if it is wanted, and leaves it again with the next tick. */
static void play_another_processor(void)
{
    if (door_held) {
        door_held = 0;
        spin_unlock(&door);
    } else if (door_wanted && spin_trylock(&door)) {
        door_wanted = 0;
        door_held = 1;
    }
}

/* Whoever has slept long enough may run, and whoever runs has run long enough. Interrupts are off. */
void timer_tick(void)
{
    clock_page[0]++;
    for (u32 i = 1; i < MAX_PROCESSES; i++) {
        if (processes[i].state == SLEEPING && (int)(clock_page[0] - processes[i].wake_at) >= 0)
            processes[i].state = RUNNABLE;
    }
    play_another_processor();
    need_resched = 1;
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

/* Let another process run, if one can; returns when this one is picked again. Interrupts are off. */
void schedule(void)
{
    struct process *previous = current;
    struct process *next = pick();

    need_resched = 0;
    if (next == previous)
        return;
    current = next;
    stack_top = next->stack_top;
    platform->load_pgdir(next->pgdir);
    platform->set_stack(next->stack_top);
    platform->set_ts(next != fpu_owner);
    switch_context(&previous->esp, next->esp);
}

/* Text of programs before which no other text can come any more. */
static void show_texts(void)
{
    for (; shown < MAX_PROCESSES && processes[shown].state == EXITED; shown++) {
        processes[shown].text[processes[shown].text_length] = 0;
        platform->print(processes[shown].text);
        print("heron: %s had %u page faults\n", processes[shown].name, processes[shown].page_faults);
    }
}

static void __attribute__((noreturn)) end_process(void)
{
    if (fpu_owner == current)
        fpu_owner = 0;
    current->state = EXITED;
    show_texts();
    schedule();
    panic("heron: a process came back from the dead");
}

static void add_text(const char *text, u32 length)
{
    while (length-- && current->text_length < TEXT_SIZE)
        current->text[current->text_length++] = *text++;
}

static void add_string(const char *string)
{
    u32 length = 0;

    while (string[length])
        length++;
    add_text(string, length);
}

static void add_number(u32 value)
{
    char digits[8];

    for (u32 i = 0; i < 8; i++)
        digits[i] = "0123456789abcdef"[value >> (28 - 4 * i) & 15];
    add_text(digits, 8);
}

static void __attribute__((noreturn)) end_process_saying(const char *how, const char *why, u32 value)
{
    irq_disable();
    add_string("heron: ");
    add_string(current->name);
    add_string(how);
    add_string(why);
    add_string(" ");
    add_number(value);
    add_string("\n");
    end_process();
}

void exit_process(u32 status)
{
    end_process_saying(" is done, ", "status", status);
}

void kill_process(const char *reason, u32 value)
{
    end_process_saying(" is killed: ", reason, value);
}

/* Copying may fault a page in, so it is done before the lock is taken; interrupts stay on for it. */
void write_text(const char *text, u32 length)
{
    char part[64];

    while (length) {
        u32 size = length < sizeof(part) ? length : sizeof(part);

        for (u32 i = 0; i < size; i++)
            part[i] = text[i];
        spin_lock_irq(&text_lock);
        add_text(part, size);
        spin_unlock_irq(&text_lock);
        text += size;
        length -= size;
    }
}

/* Go through the door, and do so until it was somebody else's when we came. */
void wait_for_door(void)
{
    u32 waited;

    do {
        door_wanted = 1;
        while (!door_held)
            asm volatile("pause");
        waited = door.waited;
        spin_lock_irq(&door);
        spin_unlock_irq(&door);
    } while (door.waited == waited);
}

/* The FPU was used and holds somebody else's numbers: put those away and bring ours. Interrupts are off. */
void fpu_trap(void)
{
    if (get_cr0() & CR0_EM)
        panic("heron: there is no FPU, and nothing that emulates it");
    platform->set_ts(0);
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

/* More often than because two programs used it for the first time. */
int fpu_changed_hands(void)
{
    return fpu_switches > 2;
}

void sleep(u32 ticks)
{
    irq_disable();
    current->wake_at = clock_page[0] + ticks;
    current->state = SLEEPING;
    schedule();
    irq_enable();
}
