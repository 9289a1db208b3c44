/*
 * Ways into the kernel and out of it, written for a processor: `cli`, `sti`, `iret`, `sysexit` are what they are. That
 * each of them is a hook (mach_asm.h) shows nowhere but in their capital letters.
 *
 * A trap arrives with ss esp (from a program only), eflags cs eip and sometimes an error code on the kernel's stack. What
 * must not go wrong is the way out: a program may be due (`need_resched`), and an interrupt that finds this out after
 * the last look must not find us still here. So interrupts are off from that look until `iret` switches them on, in the
 * same instruction that leaves the kernel. trap() checks it: no program may ever run while another is due.
 *
 * RAW_IRET is a bug for show: a kernel that switches interrupts on by STI and then leaves by an `iret` that is no hook.
 *
 * Read next: traps.c. Source: the hooks of the VMI patch for Linux 2.6.16; the code around them is ours.
 */
#include "frame.h"
#include "mach_asm.h"

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

/* One for each exception, and for the 16 interrupts of a PC. */
        .section .rodata
        .globl  trap_entries
        .balign 4
trap_entries:
        .text
        trap_entries 0, 47
        .noaltmacro

        .globl  syscall_entry
        .type   syscall_entry, @function
syscall_entry:
        pushl   $0
        pushl   $SYSCALL_VECTOR
        .size   syscall_entry, . - syscall_entry

        .macro  save_all
        pushl   %es
        pushl   %ds
        pushal
        cld
        movl    $KERNEL_DATA, %eax
        movl    %eax, %ds
        movl    %eax, %es
        movl    %esp, %eax
        .endm

        .type   trap_common, @function
trap_common:
        save_all
        call    trap

/* Leave by the frame at %esp. Nothing may be missed between the last look at need_resched and the IRET. */
ret_from_trap:
        CLI
        testb   $RING_IS_USERS, FRAME_cs(%esp)
        jz      restore_all
resume_userspace:
        cmpl    $0, need_resched
        jne     work_resched
        .globl  restore_all
restore_all:
        popal
        popl    %ds
        popl    %es
        addl    $8, %esp
#ifdef RAW_IRET
        testl   $EFLAGS_IF, RETURN_eflags(%esp)
        jz      1f
        STI
1:      iret
#else
1:      IRET
#endif
/*
 * The frame may be one by which nobody can return, if a program had its way with it. Then IRET faults, in the kernel;
 * trap() finds the address in this table and goes on here, where the frame is made into one of a trap of the program.
 */
        .pushsection .fixup, "ax", @progbits
iret_exc:
        STI
        pushl   $0
        pushl   $BAD_IRET_VECTOR
        jmp     trap_common
        .popsection
        .pushsection __ex_table, "a", @progbits
        .long   1b, iret_exc
        .popsection

work_resched:
        call    schedule
        CLI
        jmp     resume_userspace
        .size   trap_common, . - trap_common

/*
 * SYSENTER arrives with interrupts off and a stack pointer that points to where the stack's top is told. The program's
 * own is in %ebp, and where it goes on is known.
 */
        .globl  sysenter_entry
        .type   sysenter_entry, @function
sysenter_entry:
        movl    (%esp), %esp
sysenter_past_esp:
        STI
        pushl   $USER_DATA
        pushl   %ebp
        pushfl
        pushl   $USER_CODE
        pushl   $sysenter_return
        pushl   $0
        pushl   $SYSENTER_VECTOR
        save_all
        call    trap
        CLI
        cmpl    $0, need_resched
        jne     work_resched
        popal
        popl    %ds
        popl    %es
        addl    $8, %esp
        movl    RETURN_eip(%esp), %edx
        movl    RETURN_esp(%esp), %ecx
        STI_SYSEXIT
        .size   sysenter_entry, . - sysenter_entry

/* u32 get_cr0(void): as the trap for the FPU wants it. */
        .globl  get_cr0
        .type   get_cr0, @function
get_cr0:
        GET_CR0
        ret
        .size   get_cr0, . - get_cr0

/* int read_msr(u32 number, u32 *value): 0, or -1 if the processor has no such register; both by __ex_table. */
        .globl  read_msr, write_msr
        .type   read_msr, @function
read_msr:
        pushl   %edx
        movl    %eax, %ecx
        xorl    %eax, %eax
1:      RDMSR
        popl    %ecx
        movl    %eax, (%ecx)
        xorl    %eax, %eax
        ret
        .pushsection .fixup, "ax", @progbits
2:      popl    %ecx
        movl    $-1, %eax
        ret
        .popsection
        .pushsection __ex_table, "a", @progbits
        .long   1b, 2b
        .popsection
        .size   read_msr, . - read_msr

/* int write_msr(u32 number, u32 value). */
        .type   write_msr, @function
write_msr:
        movl    %eax, %ecx
        movl    %edx, %eax
        xorl    %edx, %edx
1:      WRMSR
        xorl    %eax, %eax
        ret
        .pushsection .fixup, "ax", @progbits
2:      movl    $-1, %eax
        ret
        .popsection
        .pushsection __ex_table, "a", @progbits
        .long   1b, 2b
        .popsection
        .size   write_msr, . - write_msr

/* void cpuid(u32 leaf, u32 answer[4]): eax, ebx, ecx, edx. */
        .globl  cpuid
        .type   cpuid, @function
cpuid:
        pushl   %ebx
        pushl   %esi
        movl    %edx, %esi
        xorl    %ecx, %ecx
        CPUID
        movl    %eax, (%esi)
        movl    %ebx, 4(%esi)
        movl    %ecx, 8(%esi)
        movl    %edx, 12(%esi)
        popl    %esi
        popl    %ebx
        ret
        .size   cpuid, . - cpuid

/* void switch_context(u32 *old_esp, u32 new_esp): go on where another process called this. */
        .globl  switch_context
        .type   switch_context, @function
switch_context:
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
