/*
 * Address spaces: what a process may touch, as a short list of regions. Pages come into being when they are touched: as
 * zeros, as bytes of a program's file, or as a copy of a page that was shared since a fork. The kernel reads and writes
 * its callers' memory in the same way, after a look at the list; so there is one place where memory is given out.
 *
 * Two segments of a program may meet within a page. So a page belongs to every region that it overlaps.
 */
#include "kernel.h"

#define MAP_AREA_END    (USER_END - STACK_SIZE - (1u << 20))
#define MAP_AREA_START  0x40000000

#define NOT_MAPPED      0
#define READABLE        1
#define WRITABLE        2

u32 page_faults, copies;

static u32 round_up(u32 address)
{
    return (address + PAGE_SIZE - 1) & PTE_ADDRESS;
}

static int overlaps(const struct region *region, u32 start, u32 end)
{
    return (region->start & PTE_ADDRESS) < end && round_up(region->end) > start;
}

/* An empty space with a stack. */
int init_space(struct space *space)
{
    memset(space, 0, sizeof(*space));
    space->pgdir = new_pgdir();
    return add_region(space, (struct region){ .start = USER_END - STACK_SIZE, .end = USER_END, .writable = 1 });
}

int add_region(struct space *space, struct region region)
{
    if (space->regions_used == MAX_REGIONS || region.start >= region.end || region.end > USER_END)
        return 0;
    space->regions[space->regions_used++] = region;
    return 1;
}

static u32 access_to(const struct space *space, u32 page)
{
    u32 access = NOT_MAPPED;

    for (u32 i = 0; i < space->regions_used; i++) {
        if (overlaps(&space->regions[i], page, page + PAGE_SIZE))
            access |= space->regions[i].writable ? READABLE | WRITABLE : READABLE;
    }
    return access;
}

static u32 max(u32 a, u32 b)
{
    return a > b ? a : b;
}

static u32 min(u32 a, u32 b)
{
    return a < b ? a : b;
}

/* What of the region's data belongs into the page at `page` comes into `frame`. */
static void fill_from(const struct region *region, u32 page, u8 *frame)
{
    u32 start = max(page, region->data_start);
    u32 end = min(page + PAGE_SIZE, region->data_start + region->data_bytes);

    if (start < end)
        memcpy(frame + (start - page), region->data + (start - region->data_start), end - start);
}

static u32 new_entry(const struct space *space, u32 page, u32 access)
{
    u8 *frame = alloc_page();

    for (u32 i = 0; i < space->regions_used; i++)
        fill_from(&space->regions[i], page, frame);
    page_faults++;
    return physical(frame) | PTE_PRESENT | PTE_USER | PTE_USED | (access & WRITABLE ? PTE_WRITABLE : 0);
}

/* A page of one's own instead of a shared one; the last sharer can keep it. */
static u32 own_entry(u32 entry)
{
    u8 *frame;

    if (!page_is_shared(entry))
        return entry | PTE_WRITABLE;
    frame = alloc_page();
    memcpy(frame, virtual(entry & PTE_ADDRESS), PAGE_SIZE);
    release_page(entry);
    copies++;
    return physical(frame) | (entry & ~PTE_ADDRESS) | PTE_WRITABLE;
}

/* Make `address` accessible, if the space has it; whether it is. */
int space_fault(struct space *space, u32 address, int is_write)
{
    u32 page = address & PTE_ADDRESS;
    u32 access = access_to(space, page);
    u32 *pte = find_pte(space->pgdir, page);

    if (access == NOT_MAPPED || (is_write && !(access & WRITABLE)))
        return 0;
    if (!pte || !(*pte & PTE_PRESENT))
        map_user_page(space->pgdir, page, new_entry(space, page, access));
    else if (is_write && !(*pte & PTE_WRITABLE))
        map_user_page(space->pgdir, page, own_entry(*pte));
    else
        hcall(LHCALL_SET_PTE, physical(space->pgdir), page, *pte);
    return 1;
}

/* Whether the caller of the kernel may name these bytes. */
int user_range_ok(u32 address, u32 length, int is_write)
{
    u32 wanted = is_write ? WRITABLE : READABLE;

    if (address >= USER_END || length > USER_END - address)
        return 0;
    if (!length)
        return 1;
    for (u32 page = address & PTE_ADDRESS; page < address + length; page += PAGE_SIZE) {
        if (!(access_to(&current->space, page) & wanted))
            return 0;
    }
    return 1;
}

/* Length of the string, or -EFAULT if it is not there, or -E2BIG. */
int copy_user_string(char *to, u32 from, u32 size)
{
    for (u32 i = 0; i < size; i++) {
        if ((i == 0 || (from + i) % PAGE_SIZE == 0) && !user_range_ok(from + i, 1, 0))
            return -EFAULT;
        to[i] = *(const char *)(from + i);
        if (!to[i])
            return (int)i;
    }
    return -E2BIG;
}

static int is_free(const struct space *space, u32 start, u32 end)
{
    for (u32 i = 0; i < space->regions_used; i++) {
        if (overlaps(&space->regions[i], start, end))
            return 0;
    }
    return 1;
}

static void drop_region(struct space *space, u32 index)
{
    space->regions[index] = space->regions[--space->regions_used];
}

/* The heap is one region, made when it is first wanted. */
static struct region *heap_of(struct space *space)
{
    for (u32 i = 0; i < space->regions_used; i++) {
        if (space->regions[i].start == space->heap_start && !space->regions[i].data_bytes)
            return &space->regions[i];
    }
    return 0;
}

/* brk: the end of the heap, moved if that is possible. */
u32 set_heap_end(struct space *space, u32 end)
{
    struct region *heap = heap_of(space);
    u32 old_end = space->heap_end;
    u32 top = round_up(end), old_top = round_up(old_end);

    if (end < space->heap_start || end > MAP_AREA_START || (top > old_top && !is_free(space, old_top, top)))
        return old_end;
    if (!heap && end > space->heap_start) {
        if (!add_region(space, (struct region){ .start = space->heap_start, .end = end, .writable = 1 }))
            return old_end;
    } else if (heap && end == space->heap_start) {
        drop_region(space, (u32)(heap - space->regions));
    } else if (heap) {
        heap->end = end;
    }
    space->heap_end = end;
    if (top < old_top)
        unmap_user_pages(space->pgdir, top, old_top);
    return end;
}

/* A free place for `length` bytes: the highest one below the last map, so that maps in a row can become one region. */
static u32 find_place(const struct space *space, u32 length)
{
    u32 start = MAP_AREA_END - length;
    u32 i = 0;

    while (i < space->regions_used) {
        const struct region *region = &space->regions[i++];

        if (start < MAP_AREA_START || start > MAP_AREA_END)
            return 0;
        if (overlaps(region, start, start + length)) {
            start = (region->start & PTE_ADDRESS) - length;
            i = 0;
        }
    }
    return start < MAP_AREA_START || start > MAP_AREA_END ? 0 : start;
}

/* Grow an anonymous region downwards if one begins where this one ends. */
static int add_anonymous(struct space *space, u32 start, u32 end)
{
    for (u32 i = 0; i < space->regions_used; i++) {
        struct region *region = &space->regions[i];

        if (region->start == end && end < MAP_AREA_END && region->writable && !region->data_bytes) {
            region->start = start;
            return 1;
        }
    }
    return add_region(space, (struct region){ .start = start, .end = end, .writable = 1 });
}

/* mmap of zeros: the address, or an error. */
u32 map_anonymous(struct space *space, u32 wish, u32 length, int fixed)
{
    u32 start = wish & PTE_ADDRESS;

    length = round_up(length);
    if (!length || length > MAP_AREA_END)
        return (u32)-EINVAL;
    if (fixed) {
        u32 result = unmap(space, start, length);

        if (result)
            return result;
    } else if (!start || start < MAP_AREA_START || start + length > MAP_AREA_END || start + length < start ||
               !is_free(space, start, start + length)) {
        start = find_place(space, length);
    }
    if (!start || !add_anonymous(space, start, start + length))
        return (u32)-ENOMEM;
    return start;
}

/* Cut a range out of one region: nothing, one piece or two pieces stay. Whether there was room for the second one. */
static int cut(struct space *space, u32 index, u32 start, u32 end)
{
    struct region *region = &space->regions[index];
    struct region rest = *region;

    rest.start = end;
    if ((region->start & PTE_ADDRESS) < start) {
        region->end = start;
        return round_up(rest.end) <= end || add_region(space, rest);
    }
    if (round_up(region->end) > end)
        region->start = end;
    else
        drop_region(space, index);
    return 1;
}

u32 unmap(struct space *space, u32 start, u32 length)
{
    u32 end = start + round_up(length);
    u32 i = 0;

    if (start % PAGE_SIZE || end <= start || end > USER_END)
        return (u32)-EINVAL;
    while (i < space->regions_used) {
        u32 used = space->regions_used;

        if (overlaps(&space->regions[i], start, end) && !cut(space, i, start, end))
            return (u32)-ENOMEM;
        /* A dropped region's place is taken by the last one, which has to be looked at. */
        i += space->regions_used >= used;
    }
    unmap_user_pages(space->pgdir, start, end);
    return 0;
}
