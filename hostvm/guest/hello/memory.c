/*
 * Pages and page tables. The tables are the Guest's own and lie in its memory, but the CPU never sees them: the Host
 * copies what is used into shadow tables. A new entry is found by the Host when the CPU faults; the hypercalls spare it
 * that, and a changed entry must be told, since the shadow keeps the old one.
 *
 * User space is the same for all programs: the text of user.c, a heap and a stack that fill with zeroed pages on
 * demand.
 */
#include "kernel.h"

#define PTE_PRESENT     0x01
#define PTE_WRITABLE    0x02
#define PTE_USER        0x04
#define PTE_USED        0x60            /* accessed and dirty */
#define PTE_ADDRESS     0xfffff000

/* Linker script. */
extern u8 __user_start[], __user_end[], __user_phys_start[];

struct region {
    u32 start, end;
};

static const struct region heap = { 0x10000000, 0x10400000 };
static const struct region stack = { 0xbfff0000, 0xc0000000 };

static u32 next_free, memory_end;

/* Physical memory from first_free to end is ours to give away. It is never given back. */
void init_memory(u32 first_free, u32 end)
{
    next_free = first_free;
    memory_end = end;
}

/* gcc calls this for what it finds to be clearing; so do we. */
void *memset(void *start, int value, u32 count)
{
    void *at = start;

    asm volatile("rep stosb" : "+D"(at), "+c"(count) : "a"(value) : "memory");
    return start;
}

void *alloc_pages(u32 count)
{
    void *pages = virtual(next_free);

    if (memory_end - next_free < count * PAGE_SIZE || memory_end < next_free)
        shutdown("hello: out of memory");
    next_free += count * PAGE_SIZE;
    return memset(pages, 0, count * PAGE_SIZE);
}

static void map_user_text(u32 *pgdir)
{
    u32 text = (u32)__user_phys_start;

    for (u32 at = (u32)__user_start; at < (u32)__user_end; at += PAGE_SIZE, text += PAGE_SIZE)
        map_user_page(pgdir, at, text | PTE_PRESENT | PTE_USER);
}

/* A directory with the kernel's part, which all share, and the programs' text. */
u32 *new_pgdir(void)
{
    u32 *pgdir = alloc_pages(1);

    for (u32 i = PAGE_OFFSET >> 22; i < 1024; i++)
        pgdir[i] = boot_pgdir[i];
    map_user_text(pgdir);
    return pgdir;
}

/* Put one entry into a page directory's tables, and tell the Host. */
void map_user_page(u32 *pgdir, u32 address, u32 entry)
{
    u32 *slot = &pgdir[address >> 22];
    u32 *table;

    if (!(*slot & PTE_PRESENT)) {
        *slot = physical(alloc_pages(1)) | PTE_PRESENT | PTE_WRITABLE | PTE_USER | PTE_USED;
        hcall(LHCALL_SET_PGD, physical(pgdir), address >> 22, 0);
    }
    table = virtual(*slot & PTE_ADDRESS);
    table[address >> 12 & 1023] = entry;
    hcall(LHCALL_SET_PTE, physical(pgdir), address & PTE_ADDRESS, entry);
}

static int in(struct region region, u32 address)
{
    return address >= region.start && address < region.end;
}

/* Give a program the page at `address` if it is in one of the regions that grow; whether it was. */
int demand_zero(u32 *pgdir, u32 address)
{
    u32 flags = PTE_PRESENT | PTE_WRITABLE | PTE_USER | PTE_USED;

    if (!in(heap, address) && !in(stack, address))
        return 0;
    map_user_page(pgdir, address, physical(alloc_pages(1)) | flags);
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
