/*
 * The start: kestrel's, up to the point where there would be processes. Then one of the bugs.
 *
 * Command line: bug=NAME, or fix=NAME for the same done right; behind it hz=N (timer interrupts a second) and loops=N (how
 * much is done). Both words take the same number of steps, so two recordings can be compared tick by tick.
 */
#include "bugs.h"

/* Linker script (kestrel.lds). */
extern u8 __kernel_phys_end[];

/* The Launcher keeps pages for devices behind the Guest's memory. */
#define DEVICE_PAGES    256

/* For panic(), which wants to say in which process it happened. */
struct process idle_process;
struct process *current = &idle_process;

int is_fixed;

static const struct bug {
    const char *name;
    void (*show)(void);
} bugs[] = {
    { "sti", show_sti },
    { "more", show_more },
    { "iret", show_iret },
    { "cut", show_cut },
    { "entry", show_entry },
    { "direct", show_direct },
    { "gate", show_gate },
    { "halt", show_halt },
    { "step", show_step },
    { "stack", show_stack },
    { "tls", show_tls },
    { "wake", show_wake },
    { "pin", show_pin },
    { "nopage", show_nopage },
    { "double", show_double },
};

/* The Launcher describes one range of memory, from 0. */
u32 memory_size(void)
{
    return *(u32 *)(boot_params + BOOT_E820_MAP + 8);
}

/* What follows `name` on the command line, or 0. */
const char *option(const char *name)
{
    for (const char *at = command_line; *at; at++) {
        u32 i = 0;

        while (name[i] && at[i] == name[i])
            i++;
        if (!name[i] && (at == command_line || at[-1] == ' '))
            return at + i;
    }
    return 0;
}

u32 number_option(const char *name, u32 otherwise)
{
    const char *digit = option(name);
    u32 value = 0;

    for (; digit && *digit >= '0' && *digit <= '9'; digit++)
        value = value * 10 + (u32)(*digit - '0');
    return value ? value : otherwise;
}

static void show(const char *name)
{
    for (u32 i = 0; i < sizeof(bugs) / sizeof(bugs[0]); i++) {
        u32 length = 0;

        while (bugs[i].name[length] && bugs[i].name[length] == name[length])
            length++;
        if (bugs[i].name[length] || (name[length] && name[length] != ' '))
            continue;
        print("kestrel: the %s of %s\n", is_fixed ? "fix" : "bug", bugs[i].name);
        bugs[i].show();
        power_off();
    }
    panic(0, "bug=NAME or fix=NAME: which?");
}

/* The early console: NOTIFY with the address of a text. print() puts a NUL behind it. */
void console_write(const char *text, u32 length)
{
    (void)length;
    hcall(LHCALL_NOTIFY, physical(text), 0, 0);
}

/* alloc_page() would sacrifice a process. There is memory for what is done here. */
void exit_process(u32 status)
{
    panic(0, "there are no processes to end with %u", status);
}

void start_kernel(void)
{
    copy_name(idle_process.name, "the kernel");
    is_fixed = command_line[0] == 'f';
    init_pages((u32)__kernel_phys_end, memory_size());
    init_paging(memory_size() + DEVICE_PAGES * PAGE_SIZE);
    init_segments();
    init_traps();
    show(command_line[0] ? command_line + sizeof("bug=") - 1 : "");
}
