/*
 * The kernel heron in one page: who offers what. Files in reading order: mach_asm.h with entry.S, what it is all about;
 * head.S, main.c, traps.c, spinlock.h, process.c, memory.c, print.c; platform.h with native.c and lguest.c; and user.c
 * for the programs that it runs.
 */
#ifndef KERNEL_H
#define KERNEL_H

#include "frame.h"
#include "platform.h"
#include "syscalls.h"

#define FIRST_EXTERNAL_VECTOR   32
#define VECTORS                 48
#define KERNEL_STACK_SIZE       (2 * PAGE_SIZE)

/* What entry.S pushes, below what the processor or the Host has pushed. The last two only if a program was interrupted. */
struct trap_frame {
    u32 edi, esi, ebp, unused_esp, ebx, edx, ecx, eax;
    u32 ds, es;
    u32 vector, error_code;
    u32 eip, cs, eflags;
    u32 esp, ss;
};

_Static_assert(__builtin_offsetof(struct trap_frame, cs) == FRAME_cs, "FRAME_cs");

#define regparm __attribute__((regparm(3)))

/* entry.S */
extern void (*const trap_entries[VECTORS])(void);
void syscall_entry(void);
void sysenter_entry(void);
void restore_all(void);
regparm u32 get_cr0(void);
regparm int read_msr(u32 number, u32 *value);
regparm int write_msr(u32 number, u32 value);
regparm void cpuid(u32 leaf, u32 answer[4]);
regparm void switch_context(u32 *old_esp, u32 new_esp);

/* main.c: whether the processor lets programs enter by `sysenter`. */
extern int has_sysenter;

/* print.c: the formats are %s %u %x. */
void print(const char *format, ...) __attribute__((format(printf, 1, 2)));
void panic(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

/* traps.c */
void init_traps(void);
regparm void trap(struct trap_frame *frame);

/* memory.c: page directories and tables are arrays of 1024 words. */
extern u32 boot_pgdir[1024];
void init_memory(u32 end);
void *alloc_pages(u32 count);
u32 *new_pgdir(void);
int demand_zero(u32 *pgdir, u32 address);
int user_range_ok(u32 address, u32 length);

/* process.c. The sysenter entry finds the stack's top in `stack_top`; programs see `clock_page`, which holds the ticks. */
extern int need_resched;
extern u32 stack_top;
extern volatile u32 clock_page[1024];
void init_processes(void);
void start_process(const char *name, u32 entry, u32 argument);
const char *current_name(void);
u32 *current_pgdir(void);
int processes_left(void);
void timer_tick(void);
void count_page_fault(void);
void schedule(void);
void exit_process(u32 status);
void kill_process(const char *reason, u32 value);
void fpu_trap(void);
int fpu_changed_hands(void);
void sleep(u32 ticks);
void write_text(const char *text, u32 length);
void wait_for_door(void);

#endif
