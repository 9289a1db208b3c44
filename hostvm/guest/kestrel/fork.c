/*
 * fork: a second process that differs from the first in what fork returns. Memory is not copied but shared, read-only
 * for both, until one of them writes (paging.c, space.c).
 */
#include "kernel.h"

u32 fork(const struct trap_frame *frame)
{
    struct trap_frame child_frame = *frame;
    struct process *child = new_process(current->name);

    if (!child)
        return (u32)-EAGAIN;
    child->space = current->space;
    child->space.pgdir = new_pgdir();
    copy_user_pages(child->space.pgdir, current->space.pgdir);
    memcpy(child->files, current->files, sizeof(child->files));
    memcpy(child->tls, current->tls, sizeof(child->tls));
    fpu_copy(child);
    asm volatile("movl %%fs, %0\n\tmovl %%gs, %1" : "=r"(child->fs), "=r"(child->gs));
    child_frame.eax = 0;
    make_runnable(child, &child_frame, new_process_starts);
    return child->pid;
}
