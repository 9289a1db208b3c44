/*
 * Page tables. They are the Guest's own and lie in its memory, but the CPU never sees them: the Host copies what is used
 * into shadow tables. What is new there the Host finds out by itself, when the CPU faults; what *changes* it must be
 * told, since the shadow keeps the old entry:
 *
 *      SET_PTE      this entry is now so; the Host may use it at once
 *      SET_PGD      this whole page of entries is gone or new
 *      NEW_PGTABLE  from now on these tables
 *
 * A page directory is given back only after the Host has been told that each of its entries is gone. Otherwise the next
 * process with a directory in the same place would find itself among the shadows of the last one.
 */
#include "kernel.h"

/* The kernel's own table; every other has the same entries from PAGE_OFFSET on. */
u32 swapper_pgdir[PTES] __attribute__((aligned(PAGE_SIZE)));

#define KERNEL_PTE      (PTE_PRESENT | PTE_WRITABLE | PTE_USED)
#define USER_TABLE      (PTE_PRESENT | PTE_WRITABLE | PTE_USER | PTE_USED)
#define PAGE_TABLE_SPAN (PTES * PAGE_SIZE)
#define SLOT(address)   ((address) >> 22)
#define ENTRY(address)  ((address) >> 12 & (PTES - 1))

static u32 *table_of(u32 slot)
{
    return virtual(slot & PTE_ADDRESS);
}

/* All of physical memory up to `end` at PAGE_OFFSET, and nothing anywhere else any more. */
void init_paging(u32 end)
{
    for (u32 at = 0; at < end; at += PAGE_TABLE_SPAN) {
        u32 *table = alloc_page();

        for (u32 i = 0; i < PTES && at + i * PAGE_SIZE < end; i++)
            table[i] = (at + i * PAGE_SIZE) | KERNEL_PTE;
        swapper_pgdir[SLOT(PAGE_OFFSET + at)] = physical(table) | KERNEL_PTE;
    }
    hcall(LHCALL_NEW_PGTABLE, physical(swapper_pgdir), 0, 0);

    /* The Launcher's tables are memory like any other from here on: let no shadow of them stay. */
    hcall(LHCALL_FLUSH_TLB, 1, 0, 0);
}

u32 *new_pgdir(void)
{
    u32 *pgdir = alloc_page();

    for (u32 i = SLOT(PAGE_OFFSET); i < PTES; i++)
        pgdir[i] = swapper_pgdir[i];
    return pgdir;
}

/* The entry for `address`, or 0 if there is no page of entries for it. */
u32 *find_pte(u32 *pgdir, u32 address)
{
    u32 slot = pgdir[SLOT(address)];

    return slot & PTE_PRESENT ? &table_of(slot)[ENTRY(address)] : 0;
}

static u32 *make_pte(u32 *pgdir, u32 address)
{
    u32 *slot = &pgdir[SLOT(address)];

    if (!(*slot & PTE_PRESENT)) {
        *slot = physical(alloc_page()) | USER_TABLE;
        hcall_later(LHCALL_SET_PGD, physical(pgdir), SLOT(address), 0);
    }
    return &table_of(*slot)[ENTRY(address)];
}

/* Put one entry into a page directory's tables, and tell the Host. */
void map_user_page(u32 *pgdir, u32 address, u32 entry)
{
    *make_pte(pgdir, address) = entry;
    hcall(LHCALL_SET_PTE, physical(pgdir), address & PTE_ADDRESS, entry);
}

void unmap_user_pages(u32 *pgdir, u32 start, u32 end)
{
    for (u32 at = start & PTE_ADDRESS; at < end; at += PAGE_SIZE) {
        u32 *pte = find_pte(pgdir, at);

        if (!pte || !(*pte & PTE_PRESENT))
            continue;
        release_page(*pte);
        *pte = 0;
        hcall_later(LHCALL_SET_PTE, physical(pgdir), at, 0);
    }
    hcall_flush();
}

/* Share one page between two processes: neither may write any more without asking. */
static void share_pte(u32 *to, u32 *from, u32 address, u32 *pte)
{
    if (*pte & PTE_WRITABLE) {
        *pte &= ~PTE_WRITABLE;
        hcall_later(LHCALL_SET_PTE, physical(from), address, *pte);
    }
    share_page(*pte);
    *make_pte(to, address) = *pte;
}

/* `to` becomes a copy-on-write image of `from`. A burst of hypercalls, so they are queued. */
void copy_user_pages(u32 *to, u32 *from)
{
    for (u32 slot = 0; slot < SLOT(PAGE_OFFSET); slot++) {
        u32 *table = table_of(from[slot]);

        if (!(from[slot] & PTE_PRESENT))
            continue;
        for (u32 i = 0; i < PTES; i++) {
            if (table[i] & PTE_PRESENT)
                share_pte(to, from, slot << 22 | i << 12, &table[i]);
        }
    }
    hcall_flush();
}

static void release_table(u32 *table)
{
    for (u32 i = 0; i < PTES; i++) {
        if (table[i] & PTE_PRESENT)
            release_page(table[i]);
    }
    release_page(physical(table));
}

/* The directory must not be the current one. */
void release_pgdir(u32 *pgdir)
{
    for (u32 slot = 0; slot < SLOT(PAGE_OFFSET); slot++) {
        if (!(pgdir[slot] & PTE_PRESENT))
            continue;
        release_table(table_of(pgdir[slot]));
        pgdir[slot] = 0;
        hcall_later(LHCALL_SET_PGD, physical(pgdir), slot, 0);
    }
    hcall_flush();
    release_page(physical(pgdir));
}
