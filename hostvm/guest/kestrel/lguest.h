/*
 * What this kernel must know of lguest: hypercalls, the page shared with the Host, the boot parameters.
 *
 * lguest had no stable interface, so a kernel is built for one generation of it. Five are described here:
 *
 *      LGUEST_GENERATION 302     Linux 2.6.38 to 3.9     the default
 *      LGUEST_GENERATION 237     Linux 2.6.33 to 2.6.37
 *      LGUEST_GENERATION 232     Linux 2.6.30 to 2.6.32
 *      LGUEST_GENERATION 206     Linux 2.6.25 to 2.6.29
 *      LGUEST_GENERATION 203     Linux 2.6.23
 *
 * All that differs stands in this file and in three places elsewhere: head.S (who makes the first page tables),
 * paravirt.c (which operations are patched in), and the drivers: 203 has lguest_bus.c and dma_*.c for virtio.c, console.c
 * and block.c.
 *
 * Included from C and from assembly. Source: lguest, include/linux/lguest.h and its hypercall header.
 */
#ifndef LGUEST_H
#define LGUEST_H

#ifndef LGUEST_GENERATION
#define LGUEST_GENERATION       302
#endif
#if LGUEST_GENERATION == 302
#define LGUEST_GENERATION_NAME  "3.2"
#elif LGUEST_GENERATION == 237
#define LGUEST_GENERATION_NAME  "2.6.37"
#elif LGUEST_GENERATION == 232
#define LGUEST_GENERATION_NAME  "2.6.32"
#elif LGUEST_GENERATION == 203
#define LGUEST_GENERATION_NAME  "2.6.23"
#else
#define LGUEST_GENERATION_NAME  "2.6.27"
#endif

/* Where the kernel runs; guest-physical address 0 is seen here. */
#define PAGE_OFFSET             0xC0000000
#define PAGE_SIZE               4096

/*
 * How hypercalls are made: the number in %eax, and arguments in three other registers. The gate is the same everywhere.
 * 232 asks by an instruction that the Host rewrites when it is first met; of 237's, one was left like that.
 */
#define LGUEST_TRAP_ENTRY       0x1f
#if LGUEST_GENERATION == 232
#define HCALL_INSN              vmcall
#else
#define HCALL_INSN              int $LGUEST_TRAP_ENTRY
#endif
#if LGUEST_GENERATION == 232 || LGUEST_GENERATION == 237
#define SEND_INTERRUPTS_INSN    vmcall
#else
#define SEND_INTERRUPTS_INSN    int $LGUEST_TRAP_ENTRY
#endif
#if LGUEST_GENERATION >= 232
#define HCALL_ARG1              ebx
#define HCALL_ARG2              ecx
#define HCALL_ARG3              edx
#else
#define HCALL_ARG1              edx
#define HCALL_ARG2              ebx
#define HCALL_ARG3              ecx
#endif

#define LHCALL_FLUSH_ASYNC      0
#define LHCALL_LGUEST_INIT      1       /* physical address of lguest_data */
#define LHCALL_SHUTDOWN         2       /* physical address of a text, how */
#define LHCALL_LOAD_GDT         3       /* physical address of a table, entries; up to generation 206 */
#define LHCALL_NEW_PGTABLE      4       /* physical address of a page directory */
#define LHCALL_FLUSH_TLB        5       /* 0: user space in the current tables; 1: everything */
#define LHCALL_LOAD_IDT_ENTRY   6       /* vector, first word, second word */
#define LHCALL_SET_STACK        7       /* segment, address, pages */
#define LHCALL_TS               8       /* whether using the FPU is to trap */
#define LHCALL_SET_CLOCKEVENT   9       /* nanoseconds until the timer interrupt */
#define LHCALL_HALT             10
#define LHCALL_BIND_DMA         12      /* key, physical address of an array, entries << 8 | irq; generation 203 only */
#define LHCALL_SEND_DMA         13      /* key, physical address of a buffer; generation 203 only */
#define LHCALL_SET_PTE          14      /* physical address of a page directory, address, entry */
#define LHCALL_SET_PGD          15      /* physical address of a page directory, index */
#define LHCALL_LOAD_TLS         16      /* physical address of three descriptors */
#define LHCALL_NOTIFY           17      /* physical address: of a text, a descriptor or a virtqueue; not in 203 */
#define LHCALL_LOAD_GDT_ENTRY   18      /* index, first word, second word; from generation 232 on */
#define LHCALL_SEND_INTERRUPTS  19      /* from generation 232 on */

#define LGUEST_SHUTDOWN_POWEROFF 1
#define LGUEST_SHUTDOWN_RESTART 2

/* The Guest kernel's ring is 1; the Host gives it the first two of these segments to begin with. */
#define KERNEL_RING             1
#define USER_RING               3
#define KERNEL_CS               0x61
#define KERNEL_DS               0x69
#define USER_CS                 0x73
#define USER_DS                 0x7b
#define GDT_ENTRIES             32
#define TLS_FIRST               6
#define TLS_ENTRIES             3

#define EFLAGS_TF               0x100
#define EFLAGS_IF               0x200

/* The Launcher's boot parameters: a page whose physical address is in %esi at the start. */
#define BOOT_PARAMS_SIZE        4096
#define BOOT_VERSION            0x206
#define BOOT_RAMDISK_IMAGE      0x218
#define BOOT_RAMDISK_SIZE       0x21c
#define BOOT_CMD_LINE_PTR       0x228
#define BOOT_HARDWARE_SUBARCH   0x23c
#define BOOT_E820_MAP           0x2d0
#define COMMAND_LINE_SIZE       2048
#define VERSION_WITH_SUBARCH    0x207
#define SUBARCH_LGUEST          1

/* Offsets in struct lguest_data, for assembly. */
#define LGUEST_DATA_irq_enabled 0
#if LGUEST_GENERATION >= 232
#define LGUEST_DATA_irq_pending 20
#else
#define LGUEST_DATA_pgdir       1116
#endif

#ifndef __ASSEMBLER__

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define HCALL_RING_SIZE         64
#define HCALL_FREE              0xff

/* A queued hypercall, in the order in which the generation's Host keeps registers. */
struct hcall_slot {
#if LGUEST_GENERATION >= 232
    u32 number, arg1, arg2, arg3, arg4;
#elif LGUEST_GENERATION == 203
    u32 number, arg1, arg2, arg3;
#else
    u32 number, arg2, arg3, arg1;
#endif
};

/* The one structure that both sides write. The Guest tells the Host its address in the first hypercall. */
struct lguest_data {
    u32 irq_enabled;            /* EFLAGS_IF or 0: what the Guest takes for the interrupt flag */
    u32 blocked_interrupts;     /* a bit for each interrupt that the Guest does not want now */
    u32 cr2;                    /* address of the last page fault, from the Host */
    u32 time_sec, time_nsec;    /* the Host's clock at the last interrupt, from the Host */
#if LGUEST_GENERATION >= 232
    u32 irq_pending;            /* EFLAGS_IF if the Host would have liked to interrupt */
#endif

    /* Hypercalls that can wait: a ring, each slot with a status. */
    u8 hcall_status[HCALL_RING_SIZE];
    struct hcall_slot hcalls[HCALL_RING_SIZE];

    u32 reserve_mem;            /* bytes at the top of the address space that are the Switcher's, from the Host */
#if LGUEST_GENERATION == 203
    u16 guestid;                /* this Guest's number, from the Host */
#endif
    u32 tsc_khz;                /* from the Host; 0 if the time stamp counter is no clock */
#if LGUEST_GENERATION < 302 && LGUEST_GENERATION > 203
    u32 pgdir;                  /* physical address of the page directory that was made for us, from the Host */
#endif

    u32 noirq_start, noirq_end; /* the Host does not interrupt here */
#if LGUEST_GENERATION > 203
    u32 kernel_address;         /* lowest address that all page directories share */
    u32 syscall_vec;            /* the software interrupt that may bypass the Host */
#endif
};

#define OFFSET(field, offset) \
    _Static_assert(__builtin_offsetof(struct lguest_data, field) == (offset), #field)
OFFSET(irq_enabled, LGUEST_DATA_irq_enabled);
#if LGUEST_GENERATION >= 232
OFFSET(irq_pending, LGUEST_DATA_irq_pending);
OFFSET(hcall_status, 24);
OFFSET(hcalls, 88);
OFFSET(reserve_mem, 1368);
#endif
#if LGUEST_GENERATION == 302
OFFSET(noirq_start, 1376);
OFFSET(syscall_vec, 1388);
_Static_assert(sizeof(struct lguest_data) == 1392, "struct lguest_data");
#elif LGUEST_GENERATION >= 232
OFFSET(pgdir, 1376);
OFFSET(noirq_start, 1380);
OFFSET(syscall_vec, 1392);
_Static_assert(sizeof(struct lguest_data) == 1396, "struct lguest_data");
#elif LGUEST_GENERATION == 203
OFFSET(hcall_status, 20);
OFFSET(hcalls, 84);
OFFSET(reserve_mem, 1108);
OFFSET(guestid, 1112);
OFFSET(noirq_start, 1120);
_Static_assert(sizeof(struct lguest_data) == 1128, "struct lguest_data");
#else
OFFSET(hcall_status, 20);
OFFSET(hcalls, 84);
OFFSET(reserve_mem, 1108);
OFFSET(pgdir, LGUEST_DATA_pgdir);
OFFSET(noirq_start, 1120);
OFFSET(syscall_vec, 1132);
_Static_assert(sizeof(struct lguest_data) == 1136, "struct lguest_data");
#endif

extern volatile struct lguest_data lguest_data;

static inline u32 physical(const volatile void *pointer)
{
    return (u32)pointer - PAGE_OFFSET;
}

static inline void *virtual(u32 physical_address)
{
    return (void *)(physical_address + PAGE_OFFSET);
}

/* Not by HCALL_INSN, which is assembly's: to C, a dollar sign is part of a name. */
#if LGUEST_GENERATION == 232
#define HCALL_TEXT              "vmcall"
#else
#define HCALL_TEXT              "int %0"
#endif

/* Call the Host at once. "memory": the Host may read what we have just stored, or change it. */
static inline void hcall(u32 number, u32 arg1, u32 arg2, u32 arg3)
{
#if LGUEST_GENERATION >= 232
    asm volatile(HCALL_TEXT
                 :
                 : "i"(LGUEST_TRAP_ENTRY), "a"(number), "b"(arg1), "c"(arg2), "d"(arg3), "S"(0)
                 : "memory");
#else
    asm volatile(HCALL_TEXT
                 :
                 : "i"(LGUEST_TRAP_ENTRY), "a"(number), "d"(arg1), "b"(arg2), "c"(arg3)
                 : "memory");
#endif
}

#endif
#endif
