/*
 * The operations on the interrupt flag as lguest's Guests have had them since 2.6.31. kestrel's own (../flags.S) take
 * `irq_pending` back before they ask the Host, because the Host forgets to; these do not, being lguest's.
 *
 * Nothing is patched here: each is called. `sti` is one of two, the one that works unless the bug is about it.
 */
#include "../lguest.h"

#define IRQ_ENABLED     lguest_data + LGUEST_DATA_irq_enabled
#define IRQ_PENDING     lguest_data + LGUEST_DATA_irq_pending

        .macro  operation name:req
        .globl  \name
        .type   \name, @function
\name:
        .endm

        .text
        operation lguest_cli
        movl    $0, IRQ_ENABLED
        ret
        .size   lguest_cli, . - lguest_cli

        operation lguest_pushf
        movl    IRQ_ENABLED, %eax
        ret
        .size   lguest_pushf, . - lguest_pushf

/* Interrupts may be what they were, and one may be waiting: only both together are worth a hypercall. */
        operation lguest_popf
        movl    %eax, IRQ_ENABLED
        testl   %eax, IRQ_PENDING
        jnz     send_interrupts
        ret
        .size   lguest_popf, . - lguest_popf

        operation lguest_sti
        jmp     *sti_operation
        .size   lguest_sti, . - lguest_sti

/* The same question with a constant. The constant is the one to compare with, the instruction is AND: never. */
        operation sti_as_written
        movl    $EFLAGS_IF, IRQ_ENABLED
        testl   $0, IRQ_PENDING
        jnz     send_interrupts
        ret
        .size   sti_as_written, . - sti_as_written

        operation sti_as_meant
        movl    $EFLAGS_IF, IRQ_ENABLED
        cmpl    $0, IRQ_PENDING
        jne     send_interrupts
        ret
        .size   sti_as_meant, . - sti_as_meant

/* A hypercall that does nothing but let the Host look again. */
        .type   send_interrupts, @function
send_interrupts:
        movl    $LHCALL_SEND_INTERRUPTS, %eax
        SEND_INTERRUPTS_INSN
        ret
        .size   send_interrupts, . - send_interrupts

        .data
        .balign 4
        .globl  sti_operation
sti_operation:
        .long   sti_as_meant

        .section .note.GNU-stack, "", @progbits
