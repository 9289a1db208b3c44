/*
 * The smallest kernel that does what lguest is about: it boots as Linux would, takes timer interrupts, and runs two
 * programs in ring 3 that are preempted, make system calls and touch memory that they do not have yet. When both are
 * done it says what it has seen and switches itself off.
 *
 * Command line: loops=N (how much the programs do, default 8) and hz=N (timer interrupts a second, default 1000).
 */
#include "kernel.h"

/* Linker script (hello.lds). */
extern u8 __user_phys_end[];

/* user.c; these are addresses in user space. */
void crunch(u32 loops);
void mix(u32 loops);

/* The memory that head.S has mapped. */
#define MAPPED_END (16u << 20)

#define NS_PER_SECOND 1000000000u
#define MAX_HZ 100000

extern u8 lguest_noirq_start[], lguest_noirq_end[];

volatile struct lguest_data lguest_data = {
    .blocked_interrupts = 1,    /* the timer's, until we have a handler */
    .hcall_status = { [0 ... HCALL_RING_SIZE - 1] = HCALL_FREE },
    .noirq_start = (u32)lguest_noirq_start,
    .noirq_end = (u32)lguest_noirq_end,
    .kernel_address = PAGE_OFFSET,
    .syscall_vec = SYSCALL_VECTOR,
};

u32 timer_period_ns;

/* The number behind `name` on the command line, or `otherwise`. */
static u32 option(const char *line, const char *name, u32 otherwise)
{
    for (u32 start = 0; line[start]; start++) {
        u32 i = 0, value = 0;

        while (name[i] && line[start + i] == name[i])
            i++;
        if (name[i] || (start && line[start - 1] != ' '))
            continue;
        for (const char *digit = &line[start + i]; *digit >= '0' && *digit <= '9'; digit++)
            value = value * 10 + (u32)(*digit - '0');
        return value;
    }
    return otherwise;
}

static u32 min(u32 a, u32 b)
{
    return a < b ? a : b;
}

/* The Launcher describes one range of memory, from 0. */
static u32 memory_size(void)
{
    const u32 *e820_size = virtual(BOOT_E820_MAP + 8);

    return *e820_size;
}

static const char *command_line(void)
{
    const u32 *pointer = virtual(BOOT_CMD_LINE_PTR);

    return virtual(*pointer);
}

/* Between one tick a second and so many that nothing else would get done. */
static void start_timer(u32 hz)
{
    timer_period_ns = NS_PER_SECOND / (hz ? min(hz, MAX_HZ) : 1);
    lguest_data.blocked_interrupts = 0;
    hcall(LHCALL_SET_CLOCKEVENT, timer_period_ns, 0, 0);
}

/*
 * Process 0: run the others while there are any, sleep while none of them can run. An interrupt that ends the sleep
 * has switched interrupts on, so they are switched off again before we look.
 */
static void idle(void)
{
    irq_disable();
    schedule();
    while (processes_left()) {
        hcall(LHCALL_HALT, 0, 0, 0);
        irq_disable();
        schedule();
    }
}

void start_kernel(void)
{
    const char *line = command_line();
    u32 loops = option(line, "loops=", 8);
    u32 start_sec, start_nsec, ms;

    print("hello: in ring 1 under lguest, %u KiB of memory\n", memory_size() >> 10);
    print("hello: command line is \"%s\"\n", line);

    init_memory((u32)__user_phys_end, min(memory_size(), MAPPED_END));
    init_traps();
    init_processes();
    start_process("crunch", (u32)crunch, loops);
    start_process("mix", (u32)mix, loops);

    start_sec = lguest_data.time_sec;
    start_nsec = lguest_data.time_nsec;
    start_timer(option(line, "hz=", 1000));
    idle();

    ms = (lguest_data.time_sec - start_sec) * 1000 + lguest_data.time_nsec / 1000000 - start_nsec / 1000000;
    print("hello: %u ticks in %u ms, %u system calls, %u page faults, %u FPU switches\n", ticks, ms, syscalls,
          page_faults, fpu_switches);
    shutdown("Power down");
}
