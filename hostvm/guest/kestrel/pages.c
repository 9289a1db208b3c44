/*
 * Frames of memory. Each has a count of the page tables that name it, so that processes can share one after a fork, and
 * the last one to leave gives it back. Addresses here are physical, except that alloc_page gives the virtual one.
 */
#include "kernel.h"

struct free_frame {
    struct free_frame *next;
};

static struct free_frame *free_list;
static u32 next_fresh, memory_end;
static u16 *counts;

u32 free_frames;

/* Physical memory from first_free to end is ours to give away. */
void init_pages(u32 first_free, u32 end)
{
    u32 table = end / PAGE_SIZE * sizeof(*counts);

    counts = virtual(first_free);
    memset(counts, 0, table);
    next_fresh = (first_free + table + PAGE_SIZE - 1) & PTE_ADDRESS;
    memory_end = end;
    if (next_fresh >= memory_end)
        panic(0, "no memory for programs");
    free_frames = (memory_end - next_fresh) / PAGE_SIZE;
}

static u16 *count_of(u32 address)
{
    return &counts[address / PAGE_SIZE];
}

static void *take_frame(void)
{
    struct free_frame *frame = free_list;

    if (frame) {
        free_list = frame->next;
        return frame;
    }
    frame = virtual(next_fresh);
    next_fresh += PAGE_SIZE;
    return frame;
}

/* A page of zeros. There is always one: if not, whoever asked is sacrificed, and not even that helps with init. */
void *alloc_page(void)
{
    void *page;

    if (!free_frames) {
        if (current->pid <= 1)
            panic(0, "out of memory");
        print("kestrel: out of memory, so %s[%u] has to go\n", current->name, current->pid);
        exit_process(9);
    }
    free_frames--;
    page = take_frame();
    *count_of(physical(page)) = 1;
    return memset(page, 0, PAGE_SIZE);
}

void share_page(u32 address)
{
    ++*count_of(address);
}

int page_is_shared(u32 address)
{
    return *count_of(address) > 1;
}

void release_page(u32 address)
{
    struct free_frame *frame = virtual(address & PTE_ADDRESS);

    if (--*count_of(address))
        return;
    frame->next = free_list;
    free_list = frame;
    free_frames++;
}
