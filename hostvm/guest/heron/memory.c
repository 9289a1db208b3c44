/*
 * Pages and page tables. User space is the same for all programs: the text of user.c, a page that shows the time, a heap
 * and a stack that fill with zeroed pages on demand.
 */
#include "kernel.h"

#define PTE_PRESENT     0x01
#define PTE_WRITABLE    0x02
#define PTE_USER        0x04
#define PTE_USED        0x60            /* accessed and dirty */
#define PTE_ADDRESS     0xfffff000
#define USER_PAGE       (PTE_PRESENT | PTE_WRITABLE | PTE_USER | PTE_USED)

/* heron.lds */
extern u8 __user_start[], __user_end[], __user_phys_start[], __user_phys_end[];

struct region {
    u32 start, end;
};

static const struct region heap = { 0x10000000, 0x10400000 };
static const struct region stack = { 0xbfff0000, 0xc0000000 };
static const struct region clock = { 0x0f000000, 0x0f001000 };

static u32 next_free, memory_end;

/* What lies behind the programs is ours to give away, up to physical address `end`; it is never given back. */
void init_memory(u32 end)
{
    next_free = (u32)__user_phys_end;
    memory_end = end;
}

/* gcc calls these. */
void *memset(void *start, int value, u32 count)
{
    void *at = start;

    asm volatile("rep stosb" : "+D"(at), "+c"(count) : "a"(value) : "memory");
    return start;
}

void *memcpy(void *to, const void *from, u32 count)
{
    void *at = to;

    asm volatile("rep movsb" : "+D"(at), "+S"(from), "+c"(count) : : "memory");
    return to;
}

void *alloc_pages(u32 count)
{
    u32 size = count * PAGE_SIZE, start = next_free;

    if (start + size > memory_end)
        panic("heron: out of memory");
    next_free += size;
    return memset((void *)(start + PAGE_OFFSET), 0, size);
}

static void map_user_page(u32 *pgdir, u32 address, u32 entry)
{
    u32 *slot = &pgdir[address >> 22];
    u32 *table;

    if (!(*slot & PTE_PRESENT)) {
        *slot = ((u32)alloc_pages(1) - PAGE_OFFSET) | USER_PAGE;
        platform->new_table(pgdir, address);
    }
    table = (u32 *)((*slot & PTE_ADDRESS) + PAGE_OFFSET);
    table[address >> 12 & 1023] = entry;
    platform->new_page(pgdir, address, entry);
}

/* A directory with the kernel's part, which all share, the programs' text and the time. */
u32 *new_pgdir(void)
{
    u32 *pgdir = alloc_pages(1);
    u32 text = (u32)__user_phys_start;

    for (u32 i = PAGE_OFFSET >> 22; i < 1024; i++)
        pgdir[i] = boot_pgdir[i];
    for (u32 at = (u32)__user_start; at < (u32)__user_end; at += PAGE_SIZE, text += PAGE_SIZE)
        map_user_page(pgdir, at, text | PTE_PRESENT | PTE_USER);
    map_user_page(pgdir, clock.start, ((u32)clock_page - PAGE_OFFSET) | PTE_PRESENT | PTE_USER);
    return pgdir;
}

static int in(struct region region, u32 address)
{
    return address >= region.start && address < region.end;
}

/* Give a program the page at `address` if it is in one of the regions that grow; whether it was. */
int demand_zero(u32 *pgdir, u32 address)
{
    if (!in(heap, address) && !in(stack, address))
        return 0;
    map_user_page(pgdir, address & PTE_ADDRESS, ((u32)alloc_pages(1) - PAGE_OFFSET) | USER_PAGE);
    return 1;
}

/* Whether a program may name these bytes to the kernel: all of them must be in one region. */
int user_range_ok(u32 address, u32 length)
{
    const struct region text = { (u32)__user_start, (u32)__user_end };
    const struct region regions[] = { text, heap, stack };

    for (u32 i = 0; i < 3; i++) {
        if (in(regions[i], address) && length <= regions[i].end - address)
            return 1;
    }
    return 0;
}
