/*
 * The operations on the interrupt flag, as functions and as templates. Linux calls the first through a table and copies
 * the second over the calls; so do we (paravirt.h). All registers but %eax survive them.
 *
 * Switching interrupts on is where the generations differ. An interrupt may have come while the flag was off. The older
 * Host delivers it whenever the kernel next leaves for another reason. The newer one has left word in irq_pending, and
 * the kernel makes a hypercall that does nothing but let the Host look again; so there the operation is too long to be
 * patched in. The newer Host never takes its word back, so we do, before we call.
 */
#include "lguest.h"

#define IRQ_ENABLED     lguest_data + LGUEST_DATA_irq_enabled

        .macro  template name:req, insn:vararg
        .globl  lgstart_\name, lgend_\name
lgstart_\name:
        \insn
lgend_\name:
        .endm

        .macro  operation name:req
        .globl  lguest_\name
        .type   lguest_\name, @function
lguest_\name:
        .endm

        .text
        template cli, movl $0, IRQ_ENABLED
        template sti, movl $EFLAGS_IF, IRQ_ENABLED
        template popf, movl %eax, IRQ_ENABLED
        template pushf, movl IRQ_ENABLED, %eax

        operation cli
        movl    $0, IRQ_ENABLED
        ret
        .size   lguest_cli, . - lguest_cli

        operation pushf
        movl    IRQ_ENABLED, %eax
        ret
        .size   lguest_pushf, . - lguest_pushf

        operation sti
        movl    $EFLAGS_IF, %eax
        .size   lguest_sti, . - lguest_sti

        operation popf
        movl    %eax, IRQ_ENABLED
#if LGUEST_GENERATION >= 232
        testl   %eax, lguest_data + LGUEST_DATA_irq_pending
        jz      1f
        movl    $0, lguest_data + LGUEST_DATA_irq_pending
        movl    $LHCALL_SEND_INTERRUPTS, %eax
        SEND_INTERRUPTS_INSN
1:
#endif
        ret
        .size   lguest_popf, . - lguest_popf

        .section .note.GNU-stack, "", @progbits
