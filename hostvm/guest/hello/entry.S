/*
 * Ways into the kernel and out of it. A trap arrives with a frame on the kernel's stack that looks the same whether the
 * Host built it (most traps, all interrupts) or the CPU did (the system call, which bypasses the Host):
 *
 *      ss  esp           only when a program was interrupted
 *      eflags  cs  eip
 *      error code        only with some vectors; the entries below push 0 with the others
 *
 * The way out is where paravirtualisation shows: `iret` cannot restore the interrupt flag in ring 1, because the flag
 * is not in EFLAGS but in lguest_data.
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

        .section .rodata
        .globl  trap_entries
        .balign 4
trap_entries:
        .text
        .irp    vector, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
        trap_entry \vector
        .endr
        .irp    vector, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32
        trap_entry \vector
        .endr

        .globl  syscall_entry
        .type   syscall_entry, @function
syscall_entry:
        pushl   $0
        pushl   $0x80
        .size   syscall_entry, . - syscall_entry

/* Complete the frame to struct trap_frame and hand it to C. The program may have left any flags and segments. */
        .type   trap_common, @function
trap_common:
        pushl   %es
        pushl   %ds
        pushal
        cld
        movl    $KERNEL_DS, %eax
        movl    %eax, %ds
        movl    %eax, %es
        pushl   %esp
        call    trap
        addl    $4, %esp
        .size   trap_common, . - trap_common

/* Leave the kernel by the struct trap_frame at %esp. Interrupts are off. */
        .globl  trap_return, lguest_noirq_start, lguest_noirq_end
        .type   trap_return, @function
trap_return:
        popal
        popl    %ds
        popl    %es
        addl    $8, %esp

        /*
         * The paravirtual `iret`: the frame's interrupt flag goes to lguest_data, and then the frame is returned by.
         * Between the two, interrupts are on while a half-used frame is on the stack; so the Host is told not to
         * interrupt between the labels. %ds is the program's already, hence %ss.
         */
        pushl   %eax
        movl    12(%esp), %eax
        andl    $EFLAGS_IF, %eax
lguest_noirq_start:
        movl    %eax, %ss:lguest_data + LGUEST_DATA_IRQ_ENABLED
        popl    %eax
        iret
lguest_noirq_end:
        .size   trap_return, . - trap_return

/*
 * void switch_context(u32 *old_esp, u32 new_esp): go on where another process called this. What C does not expect to
 * survive a call is not kept; the rest is on the stack whose pointer is all there is to remember.
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
