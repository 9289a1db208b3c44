/*
 * bug=iret: a kernel that has interrupts off faults, and comes back with interrupts on.
 *
 * Money is moved with interrupts off, and what is moved is noted in memory that has addresses and no pages yet, as
 * vmalloc's has in a page table that is not the one it was made in. The frame of the fault shows interrupts off: the Host
 * saw to that. lguest_iret stores all of its EFLAGS, 0x46 say, and any bit that is set means on.
 */
#include "bugs.h"

#define NOTES           (PAGE_OFFSET + (256u << 20))
#define MOST_NOTES      512
#define KERNEL_PAGE     (PTE_PRESENT | PTE_WRITABLE | PTE_USED)

static u32 notes;

static void note(void)
{
    volatile u32 *page = (volatile u32 *)(NOTES + notes++ * PAGE_SIZE);

    *page = ticks;
}

static int give_page(struct trap_frame *frame)
{
    if (frame->vector != PAGE_FAULT || lguest_data.cr2 - NOTES >= MOST_NOTES * PAGE_SIZE)
        return 0;
    map_user_page(swapper_pgdir, lguest_data.cr2, physical(alloc_page()) | KERNEL_PAGE);
    return 1;
}

void show_iret(void)
{
    u32 loops = number_option("loops=", 100);

    iret_operation = is_fixed ? lguest_iret_masked : lguest_iret;
    on_trap = give_page;
    on_timer = (void (*)(struct trap_frame *))audit;
    start_timer(number_option("hz=", 4000));
    while (notes < loops) {
        move_money(1, note);
        for (volatile u32 i = 0; i < 200; i++)
            ;
    }
    print("kestrel: %u movements, %u timer interrupts\n", notes, ticks);
}
