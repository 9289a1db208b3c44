/*
 * The Host's own code in the machine. The Host proper is written in Python and acts while the CPU stands on the `hlt`
 * below: it looks at why the Guest came out, decides, and fills in %eax and %ebx for the next entry.
 *
 * Besides the loop there is an IDT for real interrupts. The Switcher sends those that hit a running Guest to the
 * handler found here; the Python side has noticed the interrupt already, so all handlers only return. Vectors with an
 * error code never come here: in the Host's world nothing faults, and what faults in a Guest's world goes elsewhere.
 *
 * Read next: switcher.S. Source: lguest, drivers/lguest/core.c (run_guest, run_guest_once).
 */
        .text
        .globl  host_loop, host_turn_done
        .type   host_loop, @function
host_loop:
        hlt
/* %eax: struct lguest_pages, %ebx: host-physical address of the shadow directory. */
host_turn_done:
        pushf
        lcall   *lguest_entry
        jmp     host_loop
        .size   host_loop, . - host_loop

/* One handler for each vector, so that a trace of the CPU tells which interrupt it was. */
        .balign 4
        .globl  host_interrupt_handlers
        .type   host_interrupt_handlers, @function
host_interrupt_handlers:
        .rept   256
        iret
        .balign 4, 0xcc
        .endr
        .size   host_interrupt_handlers, . - host_interrupt_handlers

/* Far pointer to switch_to_guest through the one code segment that both worlds share; the Host fills in the address. */
        .section .rodata
        .balign 4
        .globl  lguest_entry
        .type   lguest_entry, @object
lguest_entry:
        .long   0
        .word   0x50
        .size   lguest_entry, . - lguest_entry

        .section .note.GNU-stack, "", @progbits
