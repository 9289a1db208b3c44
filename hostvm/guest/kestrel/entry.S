/*
 * Ways into the kernel and out of it. A trap arrives with a frame on the kernel's stack that looks the same whether the
 * Host built it (most traps, all interrupts) or the CPU did (trap gates, the system call's above all, bypass the Host):
 *
 *      ss  esp           only when a program was interrupted
 *      eflags  cs  eip
 *      error code        only with some vectors; the entries below push 0 with the others
 *
 * A program's frame is pushed into its struct process (frame.h), one of the kernel's own onto the kernel's stack.
 *
 * The way out is where paravirtualisation shows: `iret` cannot restore the interrupt flag in ring 1, because the flag
 * is not in EFLAGS but in lguest_data.
 *
 * Read next: traps.c.
 */
#include "lguest.h"
#include "frame.h"

#define DEBUG_VECTOR    1

        .macro  trap_entry vector
trap_entry_\vector:
        .if     !(\vector == 8 || (\vector >= 10 && \vector <= 14) || \vector == 17)
        pushl   $0
        .endif
        pushl   $\vector
        jmp     trap_common
        .pushsection .rodata
        .long   trap_entry_\vector
        .popsection
        .endm

/* An entry for each exception and each of lguest's 32 interrupts, and a table of their addresses. */
        .altmacro
        .macro  trap_entries first:req, last:req
        .set    .Lvector, \first
        .rept   \last - \first + 1
        trap_entry %.Lvector
        .set    .Lvector, .Lvector + 1
        .endr
        .endm

        .section .rodata
        .globl  trap_entries
        .balign 4
trap_entries:
        .text
        trap_entries 0, 63

        .type   syscall_entry, @function
syscall_entry:
        pushl   $0
        pushl   $0x80
        .size   syscall_entry, . - syscall_entry

/*
 * Complete the frame to struct trap_frame and hand it to C. The program may have left any flags: DF would turn string
 * moves round, NT would make our `iret` a task switch, TF would trap at each step. So they are all cleared.
 */
        .type   trap_common, @function
trap_common:
        pushl   %es
        pushl   %ds
        pushl   $0
        popfl
        pushal
        movl    $KERNEL_DS, %eax
        movl    %eax, %ds
        movl    %eax, %es
        movl    %esp, %ebx
        testb   $USER_RING & ~KERNEL_RING, FRAME_cs(%esp)
        jnz     1f
/* A program that steps itself takes TF along into a trap that the Host reflects: then *our* first step traps. */
        cmpl    $DEBUG_VECTOR, FRAME_vector(%esp)
        jne     2f
1:      movl    current, %eax
        movl    PROCESS_stack_top(%eax), %esp
2:      pushl   %ebx
        call    trap
        movl    %ebx, %esp
        .size   trap_common, . - trap_common

/* Fall through: leave the kernel by the struct trap_frame at %esp. Interrupts are off. */
        .type   trap_return, @function
trap_return:
        popal
        popl    %ds
        popl    %es
        addl    $8, %esp
        jmp     lguest_iret
        .size   trap_return, . - trap_return

/*
 * The window: between the labels the Host does not interrupt, whatever the flag in lguest_data says. There are two uses.
 *
 * A trap gate leaves interrupts on, and the CPU has begun to fill a program's frame; so the gates that it may use
 * directly lead here, where interrupts can be switched off in peace. %ds is the program's still, hence %ss.
 */
        .globl  lguest_noirq_start, lguest_noirq_end, direct_entries
#ifdef NO_WINDOW
lguest_noirq_end:
#endif
lguest_noirq_start:
        .macro  direct_entry vector, continue
direct_entry_\vector:
        movl    $0, %ss:lguest_data + LGUEST_DATA_irq_enabled
        jmp     \continue
        .pushsection .rodata
        .long   direct_entry_\vector
        .popsection
        .endm

        .section .rodata
        .balign 4
direct_entries:
        .text
        direct_entry 0, trap_entry_0
        direct_entry 1, trap_entry_1
        direct_entry 3, trap_entry_3
        direct_entry 4, trap_entry_4
        direct_entry 5, trap_entry_5
        direct_entry 128, syscall_entry

/*
 * The paravirtual `iret`: the frame's interrupt flag goes to lguest_data, and then the frame is returned by. Between
 * the two, interrupts are on while a half-used frame is on the stack.
 *
 * Two bugs for show: NO_WINDOW is a kernel that does not know of this, SHORT_WINDOW one whose window ends too early.
 */
        .globl  lguest_iret
        .type   lguest_iret, @function
lguest_iret:
        pushl   %eax
        movl    12(%esp), %eax
        andl    $EFLAGS_IF, %eax
        movl    %eax, %ss:lguest_data + LGUEST_DATA_irq_enabled
        popl    %eax
#ifdef SHORT_WINDOW
lguest_noirq_end:
#endif
        iret
#if !defined(NO_WINDOW) && !defined(SHORT_WINDOW)
lguest_noirq_end:
#endif
        .size   lguest_iret, . - lguest_iret

/* Where the first process begins: C fills its frame in. */
        .globl  first_process
        .type   first_process, @function
first_process:
        movl    current, %eax
        addl    $PROCESS_frame, %eax
        pushl   %eax
        call    become_init
        addl    $4, %esp
        .size   first_process, . - first_process

/* Where every other one begins. Interrupts are off. */
        .globl  new_process_starts
        .type   new_process_starts, @function
new_process_starts:
        call    process_begins
        movl    current, %esp
        addl    $PROCESS_frame, %esp
        jmp     trap_return
        .size   new_process_starts, . - new_process_starts

/*
 * void switch_context(u32 *old_esp, u32 new_esp): go on where another process called this. What C does not expect to
 * survive a call is not kept; the rest is on the stack, whose pointer is all there is to remember.
 */
        .globl  switch_context
        .type   switch_context, @function
switch_context:
        movl    4(%esp), %eax
        movl    8(%esp), %edx
        pushl   %ebp
        pushl   %ebx
        pushl   %esi
        pushl   %edi
        movl    %esp, (%eax)
        movl    %edx, %esp
        popl    %edi
        popl    %esi
        popl    %ebx
        popl    %ebp
        ret
        .size   switch_context, . - switch_context

        .section .note.GNU-stack, "", @progbits
