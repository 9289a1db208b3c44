/*
 * What the programs and the kernel have in common: numbers of system calls, and where each program begins.
 */
#ifndef PROGRAM_H
#define PROGRAM_H

#define SYS_EXIT        1
#define SYS_WORK        2

#define PROGRAM         __attribute__((regparm(1), noreturn)) void
PROGRAM program_of_sti(u32 loops);
PROGRAM program_of_window(u32 loops);
PROGRAM program_of_step(u32 argument);
PROGRAM program_of_stack(u32 argument);
PROGRAM program_of_pin(u32 system_calls);

/* Length of its division. */
#define DIVIDE_BYTES    2

#endif
