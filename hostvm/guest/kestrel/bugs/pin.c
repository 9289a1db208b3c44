/*
 * The stack that a direct trap pushes to: the Host is told of it, maps it, and sees to it that it stays mapped.
 *
 * bug=pin: the Host is told of a stack of no pages, so it maps none. The CPU cannot push, and faults; that is a page fault
 * and no more, the Host maps the page and the program's `int` is made again. bug=nopage: nor has the kernel a page there.
 * The Host cannot mend that, and has no stack to hand the fault to. bug=double: the stack's *segment* is not there. A
 * division by zero that meets this is a double fault, which no guest can handle.
 */
#include "bugs.h"

#define STACK_PAGES     1
#define NOWHERE         (PAGE_OFFSET + (256u << 20))
#define ABSENT_SELECTOR (9 << 3 | KERNEL_RING)
#define FLUSH_ALL       1

static u8 other_stack[STACK_PAGES * PAGE_SIZE] __attribute__((aligned(PAGE_SIZE)));

static void do_nothing(struct trap_frame *frame)
{
    (void)frame;
}

static int skip_division(struct trap_frame *frame)
{
    if (frame->vector != DIVIDE_ERROR)
        return 0;
    print("kestrel: a division by zero\n");
    frame->eip += DIVIDE_BYTES;
    return 1;
}

static void run_on(u32 segment, u32 top, u32 pages, u32 system_calls)
{
    on_system_call = do_nothing;
    on_trap = skip_division;
    load_program();
    hcall(LHCALL_SET_STACK, segment, top, pages);
    hcall(LHCALL_FLUSH_TLB, FLUSH_ALL, 0, 0);
    start_program(program_of_pin, system_calls);
}

void show_pin(void)
{
    run_on(KERNEL_DS, (u32)other_stack + sizeof(other_stack), is_fixed ? STACK_PAGES : 0, 1);
}

void show_nopage(void)
{
    run_on(KERNEL_DS, is_fixed ? (u32)other_stack + sizeof(other_stack) : NOWHERE, 0, 1);
}

void show_double(void)
{
    run_on(is_fixed ? KERNEL_DS : ABSENT_SELECTOR, (u32)other_stack + sizeof(other_stack), STACK_PAGES, 0);
}
