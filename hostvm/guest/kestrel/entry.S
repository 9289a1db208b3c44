/*
 * Ways into the kernel and out of it. A trap arrives with a frame on the kernel's stack that looks the same whether the
 * Host built it (most traps, all interrupts) or the CPU did (trap gates, the system call's above all, bypass the Host):
 *
 *      ss  esp           only when a program was interrupted
 *      eflags  cs  eip
 *      error code        only with some vectors; the entries below push 0 with the others
 *
 * The way out is where paravirtualisation shows: `iret` cannot restore the interrupt flag in ring 1, because the flag
 * is not in EFLAGS but in lguest_data.
 *
 * Read next: traps.c.
 */
#include "lguest.h"

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

        .globl  syscall_entry
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
        pushal
        pushl   $0
        popfl
        movl    $KERNEL_DS, %eax
        movl    %eax, %ds
        movl    %eax, %es
        pushl   %esp
        call    trap
        addl    $4, %esp
        .size   trap_common, . - trap_common

/* Fall through: leave the kernel by the struct trap_frame at %esp. Interrupts are off. */
        .type   trap_return, @function
trap_return:
        popal
        popl    %ds
        popl    %es
        addl    $8, %esp
        .size   trap_return, . - trap_return

/*
 * The paravirtual `iret`: the frame's interrupt flag goes to lguest_data, and then the frame is returned by. Between
 * the two, interrupts are on while a half-used frame is on the stack; so the Host is told not to interrupt between the
 * labels. %ds is the program's already, hence %ss.
 */
        .globl  lguest_iret, lguest_noirq_start, lguest_noirq_end
        .type   lguest_iret, @function
lguest_iret:
        pushl   %eax
        movl    12(%esp), %eax
        andl    $EFLAGS_IF, %eax
lguest_noirq_start:
        movl    %eax, %ss:lguest_data + LGUEST_DATA_irq_enabled
        popl    %eax
        iret
lguest_noirq_end:
        .size   lguest_iret, . - lguest_iret

/* Where the first process begins, with room for its frame on the stack: C fills it in. */
        .globl  first_process
        .type   first_process, @function
first_process:
        pushl   %esp
        call    become_init
        addl    $4, %esp
        .size   first_process, . - first_process

/* Where every other one begins. Interrupts are off. */
        .globl  new_process_starts
        .type   new_process_starts, @function
new_process_starts:
        call    process_begins
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
