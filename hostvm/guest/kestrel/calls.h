/*
 * System calls that stand in files of their own; syscalls.c has the others, and the table of all.
 */
#ifndef CALLS_H
#define CALLS_H

#include "kernel.h"

typedef u32 system_call_t(struct trap_frame *frame);

/* times.c */
system_call_t sys_time, sys_gettimeofday, sys_clock_gettime, sys_clock_gettime64, sys_clock_getres, sys_clock_getres64;
system_call_t sys_nanosleep, sys_clock_nanosleep, sys_clock_nanosleep64, sys_times, sys_getrusage, sys_sysinfo;

/* stat.c */
system_call_t sys_stat64, sys_fstat64, sys_fstatat64, sys_access, sys_readlink, sys_chdir, sys_getcwd;

#endif
