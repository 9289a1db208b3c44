/*
 * struct lguest_pages: what a CPU's two pages hold, as offsets from the first of them.
 *
 * The first page is the regs page. It is nothing but a small stack with `struct lguest_regs` at its end: entering a
 * Guest pops the structure, leaving it pushes the structure. The second is the state page: descriptor tables and TSS.
 *
 *      0 +---------------------------+ <- %eax at switch_to_guest
 *        | spare: stack for an NMI   |
 *   4024 +---------------------------+
 *        | struct lguest_regs        |    the registers of REGS_ORDER, then
 *        |                           |    trapnum errcode eip cs eflags esp ss
 *   4096 +---------------------------+ <- TSS.esp0 while a Guest runs
 *        | struct lguest_ro_state    |
 *   8192 +---------------------------+
 *
 * Two things differ between lguest's generations, and are parameters here: the order of the registers (2.6.23 keeps
 * %eax behind %gs) and the room given to a descriptor (2.6.23 pads its 6 bytes to 8). hostvm/switcher.py knows the
 * same numbers; switcher.S exports the ones here as symbols, and a test compares.
 */
#ifndef LGUEST_PAGES_H
#define LGUEST_PAGES_H

#ifndef REGS_ORDER
#define REGS_ORDER eax, ebx, ecx, edx, esi, edi, ebp, gs, fs, ds, es
#endif

#ifndef DESCRIPTOR_ROOM
#define DESCRIPTOR_ROOM 6
#endif

#define PAGE_SIZE               4096

#define REGS_WORDS              18
#define PAGES_REGS              (PAGE_SIZE - 4 * REGS_WORDS)
#define PAGES_REGS_TRAPNUM      (PAGES_REGS + 4 * 11)

#define PAGES_HOST_CR3          PAGE_SIZE
#define PAGES_HOST_IDT_DESC     (PAGES_HOST_CR3 + 4)
#define PAGES_HOST_GDT_DESC     (PAGES_HOST_IDT_DESC + DESCRIPTOR_ROOM)
#define PAGES_HOST_SP           (PAGES_HOST_GDT_DESC + DESCRIPTOR_ROOM)
#define PAGES_GUEST_IDT_DESC    (PAGES_HOST_SP + 4)
#define PAGES_GUEST_GDT_DESC    (PAGES_GUEST_IDT_DESC + DESCRIPTOR_ROOM)
#define PAGES_GUEST_TSS         (PAGES_GUEST_GDT_DESC + DESCRIPTOR_ROOM)
#define PAGES_GUEST_IDT         (PAGES_GUEST_TSS + TSS_SIZE)
#define PAGES_GUEST_GDT         (PAGES_GUEST_IDT + 8 * IDT_ENTRIES)

#define TSS_SIZE                104
#define IDT_ENTRIES             256

/* A descriptor is a 16-bit limit and then the table's address. */
#define DESC_ADDRESS            2

#define LGUEST_CS               0x50
#define LGUEST_DS               0x58
#define TSS_SELECTOR            0x80

/* The byte of a TSS descriptor that holds its type, and the busy bit in it. */
#define TSS_TYPE_BYTE           (TSS_SELECTOR + 5)
#define TSS_BUSY                0x02

#endif
