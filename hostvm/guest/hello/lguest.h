/*
 * What a Guest kernel of Linux 3.2's generation must know of lguest: hypercalls, the page shared with the Host, the
 * boot parameters, and how interrupts are switched off without being allowed to.
 *
 * Included from C and from assembly. Source: lguest, include/linux/lguest.h and arch/x86/include/asm/lguest_hcall.h.
 */
#ifndef LGUEST_H
#define LGUEST_H

/* Where the kernel runs; guest-physical address 0 is seen here. */
#define PAGE_OFFSET             0xC0000000
#define PAGE_SIZE               4096

/* The gate through which hypercalls go: number in %eax, arguments in %ebx %ecx %edx %esi. */
#define LGUEST_TRAP_ENTRY       0x1f

#define LHCALL_FLUSH_ASYNC      0
#define LHCALL_LGUEST_INIT      1       /* physical address of lguest_data */
#define LHCALL_SHUTDOWN         2       /* physical address of a text, how */
#define LHCALL_NEW_PGTABLE      4       /* physical address of a page directory */
#define LHCALL_LOAD_IDT_ENTRY   6       /* vector, first word, second word */
#define LHCALL_SET_STACK        7       /* segment, address, pages */
#define LHCALL_TS               8       /* whether using the FPU is to trap */
#define LHCALL_SET_CLOCKEVENT   9       /* nanoseconds until the timer interrupt */
#define LHCALL_HALT             10
#define LHCALL_SET_PTE          14      /* physical address of a page directory, address, entry */
#define LHCALL_SET_PGD          15      /* physical address of a page directory, index */
#define LHCALL_NOTIFY           17      /* physical address: of a text, for the early console */
#define LHCALL_LOAD_GDT_ENTRY   18      /* index, first word, second word */
#define LHCALL_SEND_INTERRUPTS  19

#define LGUEST_SHUTDOWN_POWEROFF 1

/* The Guest kernel's ring is 1; the Host gives it these two segments to begin with. */
#define KERNEL_RING             1
#define KERNEL_CS               0x61
#define KERNEL_DS               0x69
#define USER_CS                 0x73
#define USER_DS                 0x7b

#define EFLAGS_IF               0x200

/* The Launcher's boot parameters lie at physical 0. */
#define BOOT_E820_MAP           0x2d0
#define BOOT_CMD_LINE_PTR       0x228
#define BOOT_HARDWARE_SUBARCH   0x23c
#define SUBARCH_LGUEST          1

/* Offset of irq_enabled in struct lguest_data. */
#define LGUEST_DATA_IRQ_ENABLED 0

#ifndef __ASSEMBLER__

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;

#define HCALL_RING_SIZE         64
#define HCALL_FREE              0xff

/*
 * The one structure that both sides write. The Guest tells the Host its address in the first hypercall.
 */
struct lguest_data {
    u32 irq_enabled;            /* EFLAGS_IF or 0: what the Guest takes for the interrupt flag */
    u32 blocked_interrupts;     /* a bit for each interrupt the Guest does not want now */
    u32 cr2;                    /* address of the last page fault, from the Host */
    u32 time_sec, time_nsec;    /* the Host's clock at the last interrupt, from the Host */
    u32 irq_pending;            /* EFLAGS_IF if the Host would have liked to interrupt */

    /* Hypercalls that can wait: a ring, each slot with a status and five words. */
    u8 hcall_status[HCALL_RING_SIZE];
    u32 hcalls[HCALL_RING_SIZE][5];

    u32 reserve_mem;            /* bytes at the top of the address space that are the Switcher's, from the Host */
    u32 tsc_khz;                /* from the Host; 0 if the time stamp counter is no clock */

    u32 noirq_start, noirq_end; /* the Host does not interrupt here */
    u32 kernel_address;         /* lowest address that all page directories share */
    u32 syscall_vec;            /* the software interrupt that may bypass the Host */
};

#define OFFSET(field, offset) \
    _Static_assert(__builtin_offsetof(struct lguest_data, field) == (offset), #field)
OFFSET(irq_enabled, LGUEST_DATA_IRQ_ENABLED);
OFFSET(irq_pending, 20);
OFFSET(hcall_status, 24);
OFFSET(hcalls, 88);
OFFSET(reserve_mem, 1368);
OFFSET(noirq_start, 1376);
OFFSET(kernel_address, 1384);
OFFSET(syscall_vec, 1388);
_Static_assert(sizeof(struct lguest_data) == 1392, "struct lguest_data");

extern volatile struct lguest_data lguest_data;

static inline u32 physical(const volatile void *pointer)
{
    return (u32)pointer - PAGE_OFFSET;
}

static inline void *virtual(u32 physical_address)
{
    return (void *)(physical_address + PAGE_OFFSET);
}

/* Call the Host at once. "memory": the Host may read what we have just stored, or change it. */
static inline void hcall(u32 number, u32 arg1, u32 arg2, u32 arg3)
{
    asm volatile("int %0"
                 :
                 : "i"(LGUEST_TRAP_ENTRY), "a"(number), "b"(arg1), "c"(arg2), "d"(arg3), "S"(0)
                 : "memory");
}

/*
 * The four operations on the interrupt flag. In ring 1 `cli` and `sti` are refused and `popf` does nothing, so the
 * flag that counts is a word in memory which the Host looks at before it interrupts.
 */
static inline u32 irq_save(void)
{
    u32 flags = lguest_data.irq_enabled;

    lguest_data.irq_enabled = 0;
    asm volatile("" : : : "memory");
    return flags;
}

static inline void irq_disable(void)
{
    (void)irq_save();
}

/*
 * An interrupt may have come while the flag was off. The Host has said so in irq_pending; the hypercall does nothing
 * but let the Host look again. The Host never takes its remark back, so we do, before we ask.
 */
static inline void irq_enable(void)
{
    asm volatile("" : : : "memory");
    lguest_data.irq_enabled = EFLAGS_IF;
    if (lguest_data.irq_pending) {
        lguest_data.irq_pending = 0;
        hcall(LHCALL_SEND_INTERRUPTS, 0, 0, 0);
    }
}

static inline void irq_restore(u32 flags)
{
    if (flags & EFLAGS_IF)
        irq_enable();
}

#endif
#endif
