/*
 * What entry.S and C must agree on: segments, and where things lie in a frame (kernel.h checks). Also for user.c.
 */
#ifndef FRAME_H
#define FRAME_H

/* Without a ring: on a processor of our own it is 0, under lguest 1, and both load these. */
#define KERNEL_CODE     0x60
#define KERNEL_DATA     0x68
#define USER_CODE       0x73
#define USER_DATA       0x7b
#define TSS_SEGMENT     0x80
/* One more segment, for a program that asks for it. */
#define THREAD_SEGMENT  0x33

/* Of a selector: set in ring 3, clear in rings 0 and 1. */
#define RING_IS_USERS   2

#define EFLAGS_IF       0x200

#define SYSCALL_VECTOR  0x80
#define TIMER_VECTOR    32
/* Not from the processor: a system call by `sysenter`, and an `iret` that faulted. */
#define SYSENTER_VECTOR 0x100
#define BAD_IRET_VECTOR 0x101

/* struct trap_frame. */
#define FRAME_cs        52

/* Of what the processor has pushed, when that is all there is on the stack. */
#define RETURN_eip      0
#define RETURN_eflags   8
#define RETURN_esp      12

#endif
