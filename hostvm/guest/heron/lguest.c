/*
 * A Host of lguest's: tables and devices are asked for by hypercalls. The interrupt flag is not here: it lies in
 * lguest_data too, but only the Host's replacements of the hooks write it.
 */
#include "../hello/lguest.h"
#include "kernel.h"

#define NS_PER_SECOND   1000000000

static u32 timer_period_ns;

/* The window in which the Host does not interrupt is the Host's own, so none is named. */
volatile struct lguest_data lguest_data = {
    .blocked_interrupts = 1,
    .hcall_status = { [0 ... HCALL_RING_SIZE - 1] = HCALL_FREE },
    .kernel_address = PAGE_OFFSET,
    .syscall_vec = SYSCALL_VECTOR,
};

static u32 start(const void *from_loader)
{
    return *(const u32 *)((const u8 *)from_loader + BOOT_E820_MAP + 8);
}

static const char *command_line(const void *from_loader)
{
    return virtual(*(const u32 *)((const u8 *)from_loader + BOOT_CMD_LINE_PTR));
}

static void set_segment(u32 selector, u32 lo, u32 hi)
{
    hcall(LHCALL_LOAD_GDT_ENTRY, selector >> 3, lo, hi);
}

static void set_gate(u32 vector, u32 lo, u32 hi)
{
    hcall(LHCALL_LOAD_IDT_ENTRY, vector, lo, hi);
}

static void load_tables(void)
{
}

static void load_pgdir(u32 *pgdir)
{
    hcall(LHCALL_NEW_PGTABLE, physical(pgdir), 0, 0);
}

static void new_table(u32 *pgdir, u32 address)
{
    hcall(LHCALL_SET_PGD, physical(pgdir), address >> 22, 0);
}

static void new_page(u32 *pgdir, u32 address, u32 entry)
{
    hcall(LHCALL_SET_PTE, physical(pgdir), address, entry);
}

static u32 fault_address(void)
{
    return lguest_data.cr2;
}

static void set_stack(u32 top)
{
    hcall(LHCALL_SET_STACK, KERNEL_DS, top, KERNEL_STACK_SIZE / PAGE_SIZE);
}

static void set_ts(int on)
{
    hcall(LHCALL_TS, (u32)on, 0, 0);
}

static void start_timer(u32 hz)
{
    timer_period_ns = NS_PER_SECOND / hz;
    lguest_data.blocked_interrupts = 0;
    hcall(LHCALL_SET_CLOCKEVENT, timer_period_ns, 0, 0);
}

/* The Host's timer rings once, so it is wound up again. */
static void timer_interrupt(void)
{
    hcall(LHCALL_SET_CLOCKEVENT, timer_period_ns, 0, 0);
}

/* The interrupt that ends the sleep switches interrupts on. */
static void wait(void)
{
    hcall(LHCALL_HALT, 0, 0, 0);
    lguest_data.irq_enabled = 0;
}

/* An address that belongs to no device is that of a text for the early console. */
static void print_early(const char *text)
{
    hcall(LHCALL_NOTIFY, physical(text), 0, 0);
}

static void power_off(const char *message)
{
    hcall(LHCALL_SHUTDOWN, physical(message), LGUEST_SHUTDOWN_POWEROFF, 0);
}

const struct platform lguest = {
    .start = start,
    .command_line = command_line,
    .set_segment = set_segment,
    .set_gate = set_gate,
    .load_tables = load_tables,
    .load_pgdir = load_pgdir,
    .new_table = new_table,
    .new_page = new_page,
    .fault_address = fault_address,
    .set_stack = set_stack,
    .set_ts = set_ts,
    .start_timer = start_timer,
    .timer_interrupt = timer_interrupt,
    .wait = wait,
    .print = print_early,
    .power_off = power_off,
};
