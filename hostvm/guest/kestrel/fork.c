/*
 * fork, and clone as far as it is like fork: a second process that differs from the first in what fork returns. Memory is not copied but shared, read-only
 * for both, until one of them writes (paging.c, space.c).
 */
#include "kernel.h"

#define CLONE_VM                0x00000100
#define CLONE_VFORK             0x00004000
#define CLONE_THREAD            0x00010000
#define CLONE_SETTLS            0x00080000
#define CLONE_PARENT_SETTID     0x00100000
#define CLONE_CHILD_SETTID      0x01000000

/* The new process writes its number to `tid_address` in its own memory before it goes on, unless that is 0. */
u32 fork(const struct trap_frame *frame, u32 tid_address)
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
    child->tid_address = tid_address;
    fpu_copy(child);
    open_account(child);
    asm volatile("movl %%fs, %0\n\tmovl %%gs, %1" : "=r"(child->fs), "=r"(child->gs));
    child_frame.eax = 0;
    make_runnable(child, &child_frame, new_process_starts);
    return child->pid;
}

/*
 * Flags, stack pointer, where the parent finds the child's number, thread-local storage, where the child does. There are
 * no threads. Memory is shared only with a parent that waits meanwhile (vfork), and then a copy will do.
 */
u32 clone(const struct trap_frame *frame)
{
    struct trap_frame start = *frame;
    u32 flags = frame->ebx, pid;

    if (flags & (CLONE_THREAD | CLONE_SETTLS) || (flags & (CLONE_VM | CLONE_VFORK)) == CLONE_VM)
        return (u32)-ENOSYS;
    if (flags & CLONE_PARENT_SETTID && !user_range_ok(frame->edx, sizeof(u32), 1))
        return (u32)-EFAULT;
    if (frame->ecx)
        start.esp = frame->ecx;
    pid = fork(&start, flags & CLONE_CHILD_SETTID ? frame->edi : 0);
    if ((int)pid > 0 && flags & CLONE_PARENT_SETTID)
        *(u32 *)frame->edx = pid;
    return pid;
}

/* A new process's first work, in the kernel and with interrupts off. */
void process_begins(void)
{
    if (current->tid_address && user_range_ok(current->tid_address, sizeof(u32), 1))
        *(u32 *)current->tid_address = current->pid;
    wind_up_timer();
}
