/*
 * kestrel, a small kernel that boots and lives under lguest as Linux does: from physical addresses to PAGE_OFFSET, from
 * the Launcher's page tables to its own, with processes that are preempted, fork and touch memory that is not there yet.
 *
 * Its first process is /init of the initial ramdisk, which may be one ELF program or a cpio archive; without a ramdisk it
 * is the built-in `init`, which starts the other built-in programs. When process 1 ends, so does the machine.
 *
 * Command line: init=NAME (another first program), hz=N (timer interrupts a second, default 1000), loops=N (for built-in
 * programs, default 4), argv0=NAME (what init is told that it is called), tty (the console is a terminal, see tty.c),
 * quiet (nothing is said of the ends of processes but the first), crash=write, crash=storm or crash=stale (show how the
 * kernel dies), split (see dma_net.c); what follows " -- " are init's arguments.
 */
#include "kernel.h"

/* Linker script (kestrel.lds). */
extern u8 __kernel_phys_end[];

/* As far as memory can be mapped at PAGE_OFFSET, leaving room at the top for the Host. */
#define LOW_MEMORY      (896u << 20)

/* The Launcher keeps pages for devices behind the Guest's memory. */
#define DEVICE_PAGES    256

#define NS_PER_SECOND   1000000000u
#define MIN_HZ          10
#define MAX_HZ          10000
#define TIMER_IRQ       0

#define PORT_POST       0x80
#define PORT_KEYBOARD   0x64

u32 timer_hz;

/* What follows `name` on the command line, up to " -- ". */
static const char *find_option(const char *name)
{
    for (const char *at = command_line; *at; at++) {
        u32 i = 0;

        if (at != command_line && at[-1] != ' ')
            continue;
        if (at[0] == '-' && at[1] == '-' && at[2] == ' ')
            return 0;
        while (name[i] && at[i] == name[i])
            i++;
        if (!name[i])
            return at + i;
    }
    return 0;
}

/* What follows "-- ": the first program's arguments. */
const char *init_words(void)
{
    for (const char *at = command_line; *at; at++) {
        if ((at == command_line || at[-1] == ' ') && at[0] == '-' && at[1] == '-' && at[2] == ' ')
            return at + 3;
    }
    return "";
}

u32 command_line_number(const char *name, u32 otherwise)
{
    const char *digit = find_option(name);
    u32 value = 0;

    if (!digit)
        return otherwise;
    for (; *digit >= '0' && *digit <= '9'; digit++)
        value = value * 10 + (u32)(*digit - '0');
    return value;
}

int command_line_word(const char *name, char *word, u32 size)
{
    const char *from = find_option(name);
    u32 i = 0;

    if (!from)
        return 0;
    for (; i < size - 1 && from[i] && from[i] != ' '; i++)
        word[i] = from[i];
    word[i] = 0;
    return 1;
}

/* Whether `name` stands there as a word of its own. */
int command_line_flag(const char *name)
{
    const char *behind = find_option(name);

    return behind && (*behind == ' ' || !*behind);
}

static u32 min(u32 a, u32 b)
{
    return a < b ? a : b;
}

/* The Launcher describes one range of memory, from 0. */
static u32 memory_size(void)
{
    return *(u32 *)(boot_params + BOOT_E820_MAP + 8);
}

/* The ramdisk lies at the end, and we leave it there. */
static u32 usable_memory(void)
{
    u32 ramdisk = *(u32 *)(boot_params + BOOT_RAMDISK_IMAGE);

    return min(ramdisk ? ramdisk : memory_size(), LOW_MEMORY);
}

/*
 * The Host's timer rings once, and is wound up again when a program goes on, not before: so a program always gets a full
 * period, also if the machine is so slow that the kernel's own work takes longer than that.
 */
static int timer_stands_still;

void wind_up_timer(void)
{
    if (!timer_stands_still)
        return;
    timer_stands_still = 0;
    hcall(LHCALL_SET_CLOCKEVENT, NS_PER_SECOND / timer_hz, 0, 0);
}

static void stop_timer(void)
{
    timer_stands_still = 1;
    hcall(LHCALL_SET_CLOCKEVENT, 0, 0, 0);
}

static void timer_interrupt(void)
{
    timer_stands_still = 1;
    ticks++;
    timer_tick();
}

static void start_timer(void)
{
    u32 hz = command_line_number("hz=", 1000);

    timer_hz = hz < MIN_HZ ? MIN_HZ : min(hz, MAX_HZ);
    timer_stands_still = 1;
    request_irq(TIMER_IRQ, timer_interrupt);
}

static u8 inb(u16 port)
{
    u8 value;

    asm volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static void outb(u16 port, u8 value)
{
    asm volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

/* Every driver of a PC pokes at ports. We may not: the Host skips the instruction, and what we read is an empty bus. */
static void look_for_a_pc(void)
{
    outb(PORT_POST, 0);
    if (inb(PORT_KEYBOARD) != 0xff)
        print("kestrel: something is at port %x\n", PORT_KEYBOARD);
    else
        print("kestrel: no PC around us\n");
}

/*
 * What becomes of a kernel with a bug: a wild write, a fault that nothing helps against, or a wild write long before it
 * shows (alarm.c).
 */
static void crash_if_wanted(void)
{
    char how[8];

    if (!command_line_word("crash=", how, sizeof(how)))
        return;
    if (strings_equal(how, "write"))
        *(volatile u32 *)0xdeadbee0 = 1;
    if (strings_equal(how, "storm")) {
        ignore_page_faults = 1;
        *(volatile u32 *)PAGE_SIZE = 1;
    }
    if (strings_equal(how, "stale"))
        alarms_wanted = 1;
}

/*
 * Process 0 from here on: let the others run, sleep while none of them can. If nobody waits for a time to come, the
 * clock is stopped meanwhile, and `ticks` stands still. An interrupt that ends the sleep has switched interrupts on, so
 * they are switched off again before we look.
 */
static __attribute__((noreturn)) void idle(void)
{
    for (;;) {
        irq_disable();
        schedule();
        if (somebody_sleeps())
            wind_up_timer();
        else
            stop_timer();
        hcall(LHCALL_HALT, 0, 0, 0);
    }
}

void start_kernel(void)
{
    patch_paravirt();
    print("kestrel: in ring 1 under lguest, generation %s, %u KiB of memory\n",
          LGUEST_GENERATION_NAME, memory_size() >> 10);
    print("kestrel: command line is \"%s\"\n", command_line);

    init_pages((u32)__kernel_phys_end, usable_memory());
    init_paging(memory_size() + DEVICE_PAGES * PAGE_SIZE);
    init_segments();
    init_traps();
    init_processes();
    look_for_a_pc();
    init_devices(memory_size());
    init_files();
    start_init();
    start_timer();
    crash_if_wanted();
    idle();
}
