/*
 * The hello kernel in one page: who offers what. Files in reading order: head.S, main.c, console.c, traps.c with
 * entry.S, memory.c, process.c, and user.c for the two programs that it runs.
 */
#ifndef KERNEL_H
#define KERNEL_H

#include "lguest.h"

#define KERNEL_STACK_PAGES 2

/* What entry.S pushes, below what the CPU or the Host has pushed. The last two only when a program was interrupted. */
struct trap_frame {
    u32 edi, esi, ebp, unused_esp, ebx, edx, ecx, eax;
    u32 ds, es;
    u32 vector, error_code;
    u32 eip, cs, eflags;
    u32 esp, ss;
};

/* main.c */
extern u32 timer_period_ns;

/* console.c: the formats are %s %u %x. */
void print(const char *format, ...) __attribute__((format(printf, 1, 2)));
void write_console(const char *text, u32 length);
void shutdown(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

/* traps.c */
extern volatile u32 ticks;
void init_traps(void);
void trap(struct trap_frame *frame);

/* entry.S: one entry for each of the vectors 0..32, and the system call's. */
#define TIMER_VECTOR   32
#define SYSCALL_VECTOR 0x80
extern void (*const trap_entries[TIMER_VECTOR + 1])(void);
void syscall_entry(void);
void trap_return(void);
void switch_context(u32 *old_esp, u32 new_esp);

/* memory.c: page directories and tables are arrays of 1024 words. */
extern u32 boot_pgdir[1024];
void init_memory(u32 first_free, u32 end);
void *alloc_pages(u32 count);
u32 *new_pgdir(void);
void map_user_page(u32 *pgdir, u32 address, u32 entry);
int demand_zero(u32 *pgdir, u32 address);
int user_range_ok(u32 address, u32 length);

/* process.c */
struct process;
extern struct process *current;
extern u32 syscalls, page_faults, fpu_switches;
void init_processes(void);
void start_process(const char *name, u32 entry, u32 argument);
u32 *current_pgdir(void);
int processes_left(void);
void timer_tick(void);
void schedule(void);
void schedule_if_needed(void);
void exit_process(u32 status);
void fpu_trap(void);
void system_call(struct trap_frame *frame);

#endif
