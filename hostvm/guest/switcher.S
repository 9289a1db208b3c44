/*
 * The Switcher: the only code that is mapped at the same address in the Host and in every Guest, because it is what
 * runs while one becomes the other. It is the Host's assembly routine `switch_to_guest`, and 256 interrupt entry
 * points through which a Guest is left again.
 *
 * Why it is tricky: halfway through, CR3 changes, and everything that is not the Switcher's own disappears; loading
 * TR marks a descriptor busy in a page that the Guest's tables show read-only; and a non-maskable interrupt can come
 * between any two instructions.
 *
 * The world switch as its stack sees it. The Host arrives by `pushf; lcall`, which looks as if an interrupt had
 * called, so that an `iret` goes back; the Guest is entered and left over the regs page:
 *
 *      Host stack                      regs page (lguest_pages.h)
 *      ...                             TSS.esp0 ->
 *      eflags   \                      ss       \
 *      cs        | pushf, lcall        esp       |
 *      eip      /                      eflags    | popped by iret,
 *      es       \                      cs        | pushed by the CPU on a trap
 *      ds        |                     eip      /
 *      gs        | saved here          errcode  \  pushed by the CPU or by the entry stub
 *      fs        |                     trapnum  /  pushed by the entry stub
 *      ebp      /  <- host_sp          es       \
 *                                      ...       | REGS_ORDER, popped and pushed here
 *                                      eax      /  <- esp when the Guest's world is entered
 *
 * Read next: host.S, which calls this, and hostvm/switcher.py, which fills the pages.
 * Source: lguest, arch/x86/lguest/switcher_32.S (the idea and the layout; the text is our own).
 */
#include "lguest_pages.h"

        /* Push the named registers, the last one first: the mirror of popping them in order. */
        .macro  push_in_reverse first:req, rest:vararg
        .ifnb   \rest
        push_in_reverse \rest
        .endif
        pushl   %\first
        .endm

        .macro  pop_in_order regs:vararg
        .irp    reg, \regs
        popl    %\reg
        .endr
        .endm

        /* Mark the TSS in the GDT at \offset(\base) as not running; `ltr` refuses a busy one. */
        .macro  clear_tss_busy offset:req, base:req
        andb    $~TSS_BUSY & 0xff, \offset + TSS_TYPE_BYTE(\base)
        .endm

        .text
        .globl  start_switcher_text, switch_to_guest
start_switcher_text:

/*
 * Enter the Guest. %eax: address of struct lguest_pages; %ebx: host-physical address of the shadow page directory.
 * Comes back only as the `iret` of return_to_host, or of the Host's interrupt handler after deliver_to_host;
 * everything but the segment registers, %ebp and %esp is then lost.
 */
        .type   switch_to_guest, @function
switch_to_guest:
        /* Keep what the Host's loop relies on. */
        pushl   %es
        pushl   %ds
        pushl   %gs
        pushl   %fs
        pushl   %ebp
        movl    %esp, PAGES_HOST_SP(%eax)

        /* From here on this is the stack; if an NMI comes now, it pushes into the page's spare part. */
        leal    PAGES_REGS(%eax), %esp

        /*
         * The Guest's descriptor tables, the IDT first: its gate for an NMI uses LGUEST_CS, which is good in both GDTs,
         * while the Host's gate names a segment that is of ring 1 in the Guest's GDT. %cs is LGUEST_CS already.
         */
        lidt    PAGES_GUEST_IDT_DESC(%eax)
        lgdt    PAGES_GUEST_GDT_DESC(%eax)

        /* The Guest's TSS, for its stack pointers. Only now can the state page still be written. */
        movl    $TSS_SELECTOR, %edx
        ltr     %dx

        /* The Host's TSS must be free again when we come back, and by then it is too late to see to it. */
        movl    PAGES_HOST_GDT_DESC + DESC_ADDRESS(%eax), %edx
        clear_tss_busy 0, %edx

        /* The other world's memory. */
        movl    %ebx, %cr3

        /* The Guest's registers; trapnum and errcode are not registers. */
        pop_in_order REGS_ORDER
        addl    $8, %esp
        iret
        .size   switch_to_guest, . - switch_to_guest

/*
 * Leave the Guest: everything from a complete struct lguest_regs on the stack, down to the Host's own stack.
 * Afterwards %eax is struct lguest_pages and %ebx the vector.
 */
        .macro  switch_to_host
        push_in_reverse REGS_ORDER

        /* The Guest may have left anything in %ds. The other segment registers are not used before they are popped. */
        movl    $LGUEST_DS, %eax
        movl    %eax, %ds

        /* The structure ends with its page, and the state page follows. */
        movl    %esp, %eax
        andl    $-PAGE_SIZE, %eax

        /* This Guest's regs page is gone with its page tables, so fetch the vector first. */
        movl    PAGES_REGS_TRAPNUM(%eax), %ebx
        movl    PAGES_HOST_CR3(%eax), %edx
        movl    %edx, %cr3

        /* Now the state page can be written: this frees the Guest's TSS for its next entry. */
        clear_tss_busy PAGES_GUEST_GDT, %eax

        /* The other way round than before, for the same reason. */
        lgdt    PAGES_HOST_GDT_DESC(%eax)
        lidt    PAGES_HOST_IDT_DESC(%eax)
        movl    PAGES_HOST_SP(%eax), %esp
        movl    $TSS_SELECTOR, %edx
        ltr     %dx

        popl    %ebp
        popl    %fs
        popl    %gs
        popl    %ds
        popl    %es
        .endm

/*
 * A trap or a hypercall: nobody but the Host's loop has to know. An `iret` within ring 0 leaves %ss alone, so the Host
 * goes on with LGUEST_DS there, which is as flat as its own.
 */
        .type   return_to_host, @function
return_to_host:
        switch_to_host
        iret
        .size   return_to_host, . - return_to_host

/*
 * A real interrupt arrived while the Guest ran. The device waits for the Host's handler, so go there as if the
 * interrupt had hit the Host's loop: what is left on the stack is just what the handler's `iret` needs.
 */
        .type   deliver_to_host, @function
deliver_to_host:
        switch_to_host
        movl    PAGES_HOST_IDT_DESC + DESC_ADDRESS(%eax), %edx
        leal    (%edx,%ebx,8), %eax
        movl    4(%eax), %edx
        movw    (%eax), %dx
        jmp     *%edx
        .size   deliver_to_host, . - deliver_to_host

/* A non-maskable interrupt: the Host cannot be reached safely from here, so go on where we were. */
        .type   ignore_nmi, @function
ignore_nmi:
        addl    $8, %esp
        iret
        .size   ignore_nmi, . - ignore_nmi

        /* So that `%expression` is a macro argument's value: the entry points get numbers for names. */
        .altmacro

/* Each entry point completes the CPU's frame to struct lguest_regs: an error code if the CPU gave none, the vector. */
        .macro  entry_point vector:req, where:req
        .pushsection .rodata
        .long   entry_\vector
        .popsection
entry_\vector:
        .if     !(\vector == 8 || (\vector >= 10 && \vector <= 14) || \vector == 17)
        pushl   $0
        .endif
        pushl   $\vector
        jmp     \where
        .endm

        .macro  entry_points first:req, last:req, where:req
        .set    .Lvector, \first
        .rept   \last - \first + 1
        entry_point %.Lvector, \where
        .set    .Lvector, .Lvector + 1
        .endr
        .endm

/* The addresses of the entry points in the order of their vectors. Not part of what is copied to the Switcher page. */
        .section .rodata
        .globl  default_idt_entries
        .balign 4
        .type   default_idt_entries, @object
default_idt_entries:
        .size   default_idt_entries, 4 * IDT_ENTRIES

        .text
        entry_points 0, 1, return_to_host
        entry_points 2, 2, ignore_nmi
        entry_points 3, 31, return_to_host
        entry_points 32, 127, deliver_to_host
        /* The system call, whenever the Guest does not take it directly. */
        entry_points 128, 128, return_to_host
        entry_points 129, 255, deliver_to_host

        .globl  end_switcher_text
end_switcher_text:

/* The layout as symbols, for the test that compares it with hostvm/switcher.py. */
        .macro  export name:req, value:req
        .globl  lguest_pages_\name
        .set    lguest_pages_\name, \value
        .endm

        export  regs, PAGES_REGS
        export  regs_trapnum, PAGES_REGS_TRAPNUM
        export  host_cr3, PAGES_HOST_CR3
        export  host_idt_desc, PAGES_HOST_IDT_DESC
        export  host_gdt_desc, PAGES_HOST_GDT_DESC
        export  host_sp, PAGES_HOST_SP
        export  guest_idt_desc, PAGES_GUEST_IDT_DESC
        export  guest_gdt_desc, PAGES_GUEST_GDT_DESC
        export  guest_tss, PAGES_GUEST_TSS
        export  guest_idt, PAGES_GUEST_IDT
        export  guest_gdt, PAGES_GUEST_GDT

        .section .note.GNU-stack, "", @progbits
