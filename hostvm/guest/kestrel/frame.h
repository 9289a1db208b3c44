/*
 * Where entry.S finds things: offsets in struct trap_frame and struct process, which kernel.h checks.
 *
 * What a program was doing stands in its struct process, not on a stack: the Host is told that the kernel's stack ends
 * with the `frame` there, so a trap in ring 3 begins to push just there, and the kernel goes on on a stack of its own. A
 * trap in ring 1 is pushed where the kernel is. That must not happen while the kernel is *in* a process's frame: below
 * it are other things. Interrupts are off on the way in, and on the way out until the frame is done with, which is what
 * the window at lguest_iret is for. A debug trap is the exception (entry.S); for that there are FRAME_ROOM bytes.
 */
#ifndef FRAME_H
#define FRAME_H

#define FRAME_vector            40
#define FRAME_cs                52
#define FRAME_SIZE              68
#define FRAME_ROOM              20

#define PROCESS_stack_top       592
#define PROCESS_frame           1212

#endif
