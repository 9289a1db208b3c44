/*
 * A PC: 8259 interrupt controllers, an 8254 timer, a serial port. Here nothing is a hook: on a Host nobody comes here.
 *
 * Source: Intel's data sheets of 8259A and 8254, National's of the 16550; Intel SDM 3A for the tables.
 */
#include "kernel.h"

#define PIC1                    0x20
#define PIC2                    0xa0
#define PIC_EOI                 0x20
#define TIMER                   0x40
#define TIMER_HZ                1193182
#define SERIAL                  0x3f8
#define SERIAL_READY            0x20

/* Two ways to be switched off that QEMU has: a device for the purpose, and the power management of its PC. */
#define DEBUG_EXIT              0xf4
#define ACPI_CONTROL            0x604
#define ACPI_OFF                0x2000

#define INFO_HAS_MEMORY         1
#define INFO_HAS_COMMAND_LINE   4
#define COMMAND_LINE_SIZE       256
#define CR0_TS                  8
#define TSS_AVAILABLE           0x8900

struct multiboot_info {
    u32 flags, memory_lower, memory_upper, boot_device, command_line;
};

struct task_state {
    u32 link, esp0, ss0, rest[22];
    u16 trap, io_bitmap;
};

struct table {
    u16 limit;
    u32 base;
} __attribute__((packed));

static u32 gdt[32][2], idt[256][2];
static struct task_state tss;
static char line[COMMAND_LINE_SIZE];

static void out8(u16 port, u8 value)
{
    asm volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static void out16(u16 port, u16 value)
{
    asm volatile("outw %0, %1" : : "a"(value), "Nd"(port));
}

static u8 in8(u16 port)
{
    u8 value;

    asm volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

/* The loader's information may lie where we are going to give memory away. */
static u32 start(const void *from_loader)
{
    const struct multiboot_info *info = from_loader;

    if (info->flags & INFO_HAS_COMMAND_LINE) {
        const char *from = (const char *)(info->command_line + PAGE_OFFSET);

        for (u32 i = 0; i < sizeof(line) - 1 && from[i]; i++)
            line[i] = from[i];
    }
    return info->flags & INFO_HAS_MEMORY ? (info->memory_upper << 10) + (1 << 20) : 0;
}

static const char *command_line(const void *from_loader)
{
    (void)from_loader;
    return line;
}

static void set_segment(u32 selector, u32 lo, u32 hi)
{
    gdt[selector >> 3][0] = lo;
    gdt[selector >> 3][1] = hi;
}

static void set_gate(u32 vector, u32 lo, u32 hi)
{
    idt[vector][0] = lo;
    idt[vector][1] = hi;
}

static void load_tables(void)
{
    static int done;
    const struct table gdt_register = { sizeof(gdt) - 1, (u32)gdt };
    const struct table idt_register = { sizeof(idt) - 1, (u32)idt };
    u32 address = (u32)&tss;

    if (done)
        return;
    done = 1;
    tss.ss0 = KERNEL_DATA;
    tss.io_bitmap = sizeof(tss);
    set_segment(TSS_SEGMENT, address << 16 | (sizeof(tss) - 1),
                (address & 0xff000000) | (address >> 16 & 0xff) | TSS_AVAILABLE);
    asm volatile("lgdt %0\n\t"
                 "ljmp %1, $1f\n"
                 "1:\tmovl %2, %%ds\n\t"
                 "movl %2, %%es\n\t"
                 "movl %2, %%ss\n\t"
                 "movl %3, %%fs\n\t"
                 "movl %3, %%gs\n\t"
                 "ltr %w4\n\t"
                 "lidt %5"
                 :
                 : "m"(gdt_register), "i"(KERNEL_CODE), "r"(KERNEL_DATA), "r"(0), "r"(TSS_SEGMENT), "m"(idt_register)
                 : "memory");
}

static void load_pgdir(u32 *pgdir)
{
    asm volatile("movl %0, %%cr3" : : "r"((u32)pgdir - PAGE_OFFSET) : "memory");
}

/* The processor does not remember what is not there. */
static void new_table(u32 *pgdir, u32 address)
{
    (void)pgdir;
    (void)address;
}

static void new_page(u32 *pgdir, u32 address, u32 entry)
{
    (void)pgdir;
    (void)address;
    (void)entry;
}

static u32 fault_address(void)
{
    u32 address;

    asm volatile("movl %%cr2, %0" : "=r"(address));
    return address;
}

static void set_stack(u32 top)
{
    tss.esp0 = top;
}

static void set_ts(int on)
{
    if (on)
        asm volatile("movl %0, %%cr0" : : "r"(get_cr0() | CR0_TS));
    else
        asm volatile("clts");
}

static void start_controllers(void)
{
    out8(PIC1, 0x11);
    out8(PIC2, 0x11);
    out8(PIC1 + 1, FIRST_EXTERNAL_VECTOR);
    out8(PIC2 + 1, FIRST_EXTERNAL_VECTOR + 8);
    out8(PIC1 + 1, 4);
    out8(PIC2 + 1, 2);
    out8(PIC1 + 1, 1);
    out8(PIC2 + 1, 1);
    /* Only the timer's line is open. */
    out8(PIC1 + 1, 0xfe);
    out8(PIC2 + 1, 0xff);
}

static void start_timer(u32 hz)
{
    u32 period = TIMER_HZ / hz;

    start_controllers();
    out8(TIMER + 3, 0x34);
    out8(TIMER, (u8)period);
    out8(TIMER, (u8)(period >> 8));
}

static void timer_interrupt(void)
{
    out8(PIC1, PIC_EOI);
}

static void wait(void)
{
    asm volatile("sti; hlt; cli" : : : "memory");
}

static void print_serial(const char *text)
{
    for (; *text; text++) {
        while (!(in8(SERIAL + 5) & SERIAL_READY))
            ;
        out8(SERIAL, (u8)*text);
    }
}

static void power_off(const char *message)
{
    (void)message;
    out8(DEBUG_EXIT, 0);
    out16(ACPI_CONTROL, ACPI_OFF);
    for (;;)
        asm volatile("cli; hlt");
}

const struct platform native = {
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
    .print = print_serial,
    .power_off = power_off,
};
