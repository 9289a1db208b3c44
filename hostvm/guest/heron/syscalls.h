/* The system calls, for kernel and programs: number in %eax, arguments in %ebx and %ecx, the result in %eax. */
#ifndef SYSCALLS_H
#define SYSCALLS_H

#define SYS_EXIT                1       /* status */
#define SYS_WRITE               4       /* text, length */
#define SYS_SLEEP               162     /* ticks */
#define SYS_DOOR                200     /* wait for a lock */
#define SYS_HOW_ENTERED         201     /* the vector by which the kernel was entered */
#define SYS_HAS_SYSENTER        202
#define SYS_SET_RETURN_SEGMENT  203     /* the stack segment to return with */
#define SYS_SET_THREAD_SEGMENT  204     /* two words of a descriptor */

#endif
