/*
 * Ways into the kernel and out of it, with the frame of ../entry.S and its reason for a window: the CPU pushes a
 * program's frame into `workspace`, and what is pushed while the kernel is still there goes over the things below.
 *
 * There are three ways out. lguest_iret is lguest's own. The other two store the interrupt flag alone, and the last one's
 * `iret` is the first instruction behind the window.
 */
#include "../lguest.h"
#include "../frame.h"

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
        cmpl    $DEBUG_VECTOR, FRAME_vector(%esp)
        jne     2f
1:      movl    $boot_stack_top, %esp
2:      pushl   %ebx
        call    trap
        movl    %ebx, %esp
        .size   trap_common, . - trap_common

/* Fall through: leave the kernel by the struct trap_frame at %esp. Interrupts are off. */
        .globl  trap_return
        .type   trap_return, @function
trap_return:
        popal
        popl    %ds
        popl    %es
        addl    $8, %esp
        jmp     *%ss:iret_operation
        .size   trap_return, . - trap_return

/* Gates that the CPU uses directly lead to one of these. They switch interrupts off, which the gate itself cannot. */
        .macro  direct_entry kind, vector, continue
        .type   \kind\()_entry_\vector, @function
\kind\()_entry_\vector:
        movl    $0, %ss:lguest_data + LGUEST_DATA_irq_enabled
        jmp     \continue
        .size   \kind\()_entry_\vector, . - \kind\()_entry_\vector
        .pushsection .rodata
        .long   \kind\()_entry_\vector
        .popsection
        .endm

        .macro  direct_entries kind
        .section .rodata
        .globl  \kind\()_entries
        .balign 4
\kind\()_entries:
        .text
        direct_entry \kind, 0, trap_entry_0
        direct_entry \kind, 1, trap_entry_1
        direct_entry \kind, 3, trap_entry_3
        direct_entry \kind, 128, syscall_entry
        .endm

/* Wrong: here the Host may interrupt before the first instruction. */
        direct_entries bare

/* The window. */
        .globl  lguest_noirq_start, lguest_noirq_end
lguest_noirq_start:
        direct_entries window

        .macro  store_flag mask
        pushl   %eax
        movl    12(%esp), %eax
        .if     \mask
        andl    $EFLAGS_IF, %eax
        .endif
        movl    %eax, %ss:lguest_data + LGUEST_DATA_irq_enabled
        popl    %eax
        .endm

        .globl  lguest_iret
        .type   lguest_iret, @function
lguest_iret:
        store_flag 0
        iret
        .size   lguest_iret, . - lguest_iret

        .globl  lguest_iret_masked
        .type   lguest_iret_masked, @function
lguest_iret_masked:
        store_flag 1
        iret
        .size   lguest_iret_masked, . - lguest_iret_masked

        .globl  lguest_iret_cut
        .type   lguest_iret_cut, @function
lguest_iret_cut:
        store_flag 1
lguest_noirq_end:
        iret
        .size   lguest_iret_cut, . - lguest_iret_cut

        .data
        .balign 4
        .globl  iret_operation
iret_operation:
        .long   lguest_iret_masked

        .section .note.GNU-stack, "", @progbits
