/*
 * Segments: four flat ones, and three entries of the GDT that belong to the running process, for thread-local storage.
 *
 * The Host loads %fs and %gs with our selectors each time it enters us, and cannot forgive if one names an entry that
 * has just gone. So both are cleared before entries change and loaded again afterwards, if they still mean something.
 */
#include "kernel.h"

/* Words of a flat 4 GiB segment, present, already accessed. */
#define FLAT_LO         0x0000ffff
#define FLAT_CODE_HI    0x00cf9b00
#define FLAT_DATA_HI    0x00cf9300
#define DPL(ring)       ((ring) << 13)

#define DESC_PRESENT    0x8000
#define DESC_DATA       0x1100          /* no system segment; accessed */
#define DESC_WRITABLE   0x0200
#define DESC_DOWN       0x0400

/* Flags of struct user_desc, and what Linux calls "contents". */
#define SEG_32BIT       0x01
#define CONTENTS(flags) ((flags) >> 1 & 3)
#define READ_ONLY       0x08
#define LIMIT_IN_PAGES  0x10
#define NOT_PRESENT     0x20
#define USEABLE         0x40
#define CONTENTS_DOWN   1
#define EMPTY_SEGMENT   (READ_ONLY | NOT_PRESENT)

struct user_desc {
    u32 entry, base, limit, flags;
};

static struct descriptor gdt[GDT_ENTRIES] = {
    [KERNEL_CS >> 3] = { FLAT_LO, FLAT_CODE_HI | DPL(KERNEL_RING) },
    [KERNEL_DS >> 3] = { FLAT_LO, FLAT_DATA_HI | DPL(KERNEL_RING) },
    [USER_CS >> 3] = { FLAT_LO, FLAT_CODE_HI | DPL(USER_RING) },
    [USER_DS >> 3] = { FLAT_LO, FLAT_DATA_HI | DPL(USER_RING) },
};

void init_segments(void)
{
#if LGUEST_GENERATION >= 232
    for (u32 i = 0; i < GDT_ENTRIES; i++)
        hcall(LHCALL_LOAD_GDT_ENTRY, i, gdt[i].lo, gdt[i].hi);
#else
    hcall(LHCALL_LOAD_GDT, physical(gdt), GDT_ENTRIES, 0);
#endif
}

/* Whether loading `selector` into a data segment register would succeed in user mode. */
static int selector_ok(const struct process *process, u32 selector)
{
    u32 index = (selector & 0xffff) >> 3;

    if (selector & 4)
        return 0;
    if (index >= TLS_FIRST && index < TLS_FIRST + TLS_ENTRIES)
        return (process->tls[index - TLS_FIRST].hi & DESC_PRESENT) != 0;
    return index == USER_DS >> 3 || index == USER_CS >> 3;
}

static void load_fs_gs(u32 fs, u32 gs)
{
    asm volatile("movl %0, %%fs\n\tmovl %1, %%gs" : : "r"(fs), "r"(gs));
}

/* Queue the process's entries. */
void load_tls_of(const struct process *process)
{
    hcall_later(LHCALL_LOAD_TLS, physical(process->tls), 0, 0);
}

void leave_tls(struct process *process)
{
    asm volatile("movl %%fs, %0\n\tmovl %%gs, %1" : "=r"(process->fs), "=r"(process->gs));
    load_fs_gs(0, 0);
}

/* The entries must have reached the Host. */
void enter_tls(const struct process *process)
{
    load_fs_gs(selector_ok(process, process->fs) ? process->fs : 0,
               selector_ok(process, process->gs) ? process->gs : 0);
}

/* Flat bits of the second word. Code segments are not to be had: a program could take one away below itself. */
static u32 attributes(u32 flags)
{
    u32 hi = DESC_PRESENT | DESC_DATA | DPL(USER_RING);

    if (!(flags & READ_ONLY))
        hi |= DESC_WRITABLE;
    if (CONTENTS(flags) == CONTENTS_DOWN)
        hi |= DESC_DOWN;
    return hi | (flags & SEG_32BIT) << 22 | (flags & LIMIT_IN_PAGES) << 19 | (flags & USEABLE) << 14;
}

static struct descriptor descriptor_of(const struct user_desc *wish)
{
    struct descriptor result = { 0, 0 };

    if ((wish->flags & EMPTY_SEGMENT) == EMPTY_SEGMENT || wish->flags & NOT_PRESENT)
        return result;
    result.lo = wish->base << 16 | (wish->limit & 0xffff);
    result.hi = (wish->base & 0xff000000) | (wish->base >> 16 & 0xff) | (wish->limit & 0xf0000) |
                attributes(wish->flags);
    return result;
}

static int find_entry(const struct process *process)
{
    for (int i = 0; i < TLS_ENTRIES; i++) {
        if (!process->tls[i].hi)
            return i;
    }
    return -1;
}

static void mend_selectors(struct trap_frame *frame)
{
    if (!selector_ok(current, frame->ds))
        frame->ds = 0;
    if (!selector_ok(current, frame->es))
        frame->es = 0;
    if (!selector_ok(current, frame->ss))
        frame->ss = USER_DS;
}

int set_thread_area(struct trap_frame *frame, u32 *user_desc)
{
    struct user_desc *wish = (struct user_desc *)user_desc;
    int entry = wish->entry == ~0u ? find_entry(current) : (int)wish->entry - TLS_FIRST;

    if (entry < 0 && wish->entry == ~0u)
        return -ESRCH;
    if (entry < 0 || entry >= TLS_ENTRIES || CONTENTS(wish->flags) > CONTENTS_DOWN)
        return -EINVAL;
    wish->entry = (u32)entry + TLS_FIRST;
    leave_tls(current);
    current->tls[entry] = descriptor_of(wish);
    load_tls_of(current);
    hcall_flush();
    mend_selectors(frame);
    enter_tls(current);
    return 0;
}
