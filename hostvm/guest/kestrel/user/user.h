/*
 * The small library under the built-in programs.
 */
#ifndef USER_H
#define USER_H

#include "program.h"

typedef unsigned char u8;
typedef unsigned int u32;

#define PAGE_SIZE 4096

#define SYS_EXIT        1
#define SYS_FORK        2
#define SYS_READ        3
#define SYS_WRITE       4
#define SYS_OPEN        5
#define SYS_WAITPID     7
#define SYS_EXECVE      11
#define SYS_LSEEK       19
#define SYS_GETPID      20
#define SYS_BRK         45
#define SYS_OLD_MMAP    90
#define SYS_MUNMAP      91
#define SYS_UNAME       122
#define SYS_YIELD       158
#define SYS_NANOSLEEP   162
#define SYS_MMAP2       192

u32 syscall(u32 number, u32 arg1, u32 arg2, u32 arg3);

void exit(u32 status) __attribute__((noreturn));
int split(void);
int wait_child(int pid, u32 *status);
void sleep_ms(u32 milliseconds);
void *grow_heap(u32 bytes);

/* The formats are %s %u %x. */
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The number that argv[1] is, or `otherwise`. */
u32 count_from(int argc, char **argv, u32 otherwise);

u32 crc(u32 crc, u32 value);

program_main init_main, crunch_main, mix_main, fpu_main, calls_main, cow_main, echo_main, disk_main, wild_main, idle_main,
    batch_main, talk_main;

#endif
