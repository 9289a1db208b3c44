/*
 * The one program. Its memory is mapped before it starts, so it never faults unless it wants to.
 */
#include "bugs.h"

/* Linker script (kestrel.lds): where the programs are linked and where they were loaded. */
extern u8 __user_text_start[], __user_text_end[], __user_text_phys[];
extern u8 __user_data_start[], __user_bss_end[], __user_data_phys[];

#define USER_PAGE       (PTE_PRESENT | PTE_USED | PTE_USER)
#define WORKSPACE_PAGES 2       /* it may lie across the end of one */

struct workspace workspace;
u32 *program_pgdir;

static void map_range(u32 *pgdir, const u8 *start, const u8 *end, const u8 *from, u32 flags)
{
    u32 offset = (u32)from - (u32)start;

    for (u32 at = (u32)start & PTE_ADDRESS; at < (u32)end; at += PAGE_SIZE)
        map_user_page(pgdir, at, ((at + offset) & PTE_ADDRESS) | flags);
}

/* Its page directory is the current one from now on. */
void load_program(void)
{
    u32 *pgdir = program_pgdir = new_pgdir();

    map_range(pgdir, __user_text_start, __user_text_end, __user_text_phys, USER_PAGE);
    map_range(pgdir, __user_data_start, __user_bss_end, __user_data_phys, USER_PAGE | PTE_WRITABLE);
    map_user_page(pgdir, USER_END - PAGE_SIZE, physical(alloc_page()) | USER_PAGE | PTE_WRITABLE);
    hcall(LHCALL_NEW_PGTABLE, physical(pgdir), 0, 0);
    hcall(LHCALL_SET_STACK, KERNEL_DS, (u32)(&workspace.frame + 1), WORKSPACE_PAGES);
    for (u32 i = 0; i < sizeof(workspace.seal) / sizeof(u32); i++)
        workspace.seal[i] = i;
}

/* As if it had been interrupted at its first instruction. */
void start_program(const void *entry, u32 argument)
{
    struct trap_frame *frame = &workspace.frame;

    irq_disable();
    *frame = (struct trap_frame){
        .eax = argument, .ds = USER_DS, .es = USER_DS, .eip = (u32)entry, .cs = USER_CS,
        .eflags = EFLAGS_IF | 2, .esp = USER_END, .ss = USER_DS,
    };
    asm volatile("movl %0, %%esp\n\tjmp trap_return" : : "r"(frame));
    __builtin_unreachable();
}

/* What lies below the frame is nobody's to push over. */
void check_seal(const struct trap_frame *frame)
{
    for (u32 i = 0; i < sizeof(workspace.seal) / sizeof(u32); i++) {
        if (workspace.seal[i] != i)
            panic(frame, "somebody pushed over the workspace: word %u is %x", i, workspace.seal[i]);
    }
}
