/*
 * kestrel-bugs in one page. It boots, prints and keeps page tables with kestrel's own files, and has no processes: the
 * kernel, at most one program, and one of lguest's bugs, which `bug=NAME` on the command line names. With `fix=NAME` the
 * same is done right. Each bug is a file of its own; the others, in reading order:
 *
 *      main.c                  the start, options, the table of bugs
 *      flags.S  entry.S        interrupt flag, ways in and out, as lguest's Guests have them, and as they should be
 *      traps.c                 gates, and who deals with what
 *      program.c  user.c       the one program: how it is entered, and what it does
 *      accounts.c              something that must not be interrupted, and that shows if it was
 */
#ifndef BUGS_H
#define BUGS_H

#include "../kernel.h"
#include "program.h"

/* main.c */
extern int is_fixed;
u32 memory_size(void);
const char *option(const char *name);
u32 number_option(const char *name, u32 otherwise);

/* flags.S: what irq_enable() does, chosen at the start as Linux chooses its paravirt operations. */
extern void (*sti_operation)(void);
void sti_as_written(void);
void sti_as_meant(void);

/* entry.S: likewise for the way out. The window is the same whatever is chosen, and lguest_iret_cut sticks out of it. */
extern void (*iret_operation)(void);
void lguest_iret(void);
void lguest_iret_masked(void);
void lguest_iret_cut(void);
void trap_return(void);
extern void (*const window_entries[])(void);
extern void (*const bare_entries[])(void);
#define DIRECT_SYSCALL  3

/* traps.c: what a bug wants to deal with itself; 0 if it does not. */
enum vector {
    DIVIDE_ERROR = 0, DEBUG = 1, BREAKPOINT = 3, OVERFLOW = 4, BOUND = 5, STACK_FAULT = 12, GENERAL_PROTECTION = 13,
    PAGE_FAULT = 14,
};
#define GATE_INTERRUPT  0xe
#define GATE_TRAP       0xf

extern void (*on_timer)(struct trap_frame *frame);
extern void (*on_system_call)(struct trap_frame *frame);
extern void (*on_exit)(void);
extern void (*on_interrupt)(struct trap_frame *frame);
extern int (*on_trap)(struct trap_frame *frame);
void set_gate(u32 vector, void (*entry)(void), u32 type, u32 ring);
void remove_gate(u32 vector);
void wind_up(u32 nanoseconds);
void start_timer(u32 hz);
extern u32 timer_period;        /* ns */
extern int timer_winds_itself;  /* or the bug does */

/* program.c. The Host is told that the kernel's stack ends with the frame, so that is where traps of ring 3 push. */
struct workspace {
    u32 seal[24];               /* nobody's to write to; see check_seal() */
    u8 room[FRAME_ROOM];        /* see ../frame.h */
    struct trap_frame frame;
};
extern struct workspace workspace;
extern u32 *program_pgdir;
void load_program(void);
void start_program(const void *entry, u32 argument) __attribute__((noreturn));
void check_seal(const struct trap_frame *frame);

/* accounts.c */
void move_money(u32 amount, void (*in_between)(void));
void audit(const struct trap_frame *frame);

/* One for each bug. */
void show_sti(void);
void show_more(void);
void show_iret(void);
void show_cut(void);
void show_entry(void);
void show_direct(void);
void show_gate(void);
void show_halt(void);
void show_step(void);
void show_stack(void);
void show_tls(void);
void show_wake(void);
void show_pin(void);
void show_nopage(void);
void show_double(void);

#endif
