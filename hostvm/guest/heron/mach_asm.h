/*
 * The hook points: where a hypervisor may put something else in place of an instruction.
 *
 * A kernel on a processor of its own switches interrupts off by `cli`. In ring 1 it cannot; but if the places are known
 * and there is room, whoever loads the kernel can write there what does the same. So each use of a name below is a
 * *site*: the instruction as the processor knows it, nops up to a length in which most replacements fit, and an entry in
 * the section .vmi_hooks. Where nobody looks at that section the image runs as it stands: a nop is no harm, except
 * behind `sti`. That holds interrupts off for one instruction, and one nop would use this up: so STI_SYSEXIT is one hook
 * and not two.
 *
 * An entry is 8 bytes: the address, the kind (1 byte), the length (1 byte), and what the site can spare besides
 * what the instruction itself changes (2 bytes, HOOK_SPARES_ below). The header of the section is in head.S. Source: the
 * VMI patch for Linux 2.6.16 (the ten hooks; lengths and annotations are ours). Read next: entry.S; hostvm/vmi_sites.py,
 * which reads the entries.
 */
#ifndef MACH_ASM_H
#define MACH_ASM_H

#define HOOK_CLI                1
#define HOOK_STI                2
#define HOOK_STI_SYSEXIT        3
#define HOOK_IRET               4
#define HOOK_GET_CR0            5
#define HOOK_RDMSR              6
#define HOOK_WRMSR              7
#define HOOK_CPUID              8

#define HOOK_SPARES_NOTHING     0
#define HOOK_SPARES_FLAGS       1

#ifdef __ASSEMBLER__

        .macro  vmi_hook kind, length, spares, instructions
.Lhook\@:
        \instructions
        .skip   \length - (. - .Lhook\@), 0x90
        .pushsection .vmi_hooks, "a", @progbits
        .long   .Lhook\@
        .byte   \kind, \length
        .short  \spares
        .popsection
        .endm

#define CLI         vmi_hook HOOK_CLI, 11, HOOK_SPARES_FLAGS, "cli"
#define STI         vmi_hook HOOK_STI, 5, HOOK_SPARES_NOTHING, "sti"
#define STI_SYSEXIT vmi_hook HOOK_STI_SYSEXIT, 5, HOOK_SPARES_NOTHING, "sti; sysexit"
#define IRET        vmi_hook HOOK_IRET, 5, HOOK_SPARES_NOTHING, "iret"
#define GET_CR0     vmi_hook HOOK_GET_CR0, 6, HOOK_SPARES_FLAGS, "movl %cr0, %eax"
#define RDMSR       vmi_hook HOOK_RDMSR, 7, HOOK_SPARES_FLAGS, "rdmsr"
#define WRMSR       vmi_hook HOOK_WRMSR, 13, HOOK_SPARES_FLAGS, "wrmsr"
#define CPUID       vmi_hook HOOK_CPUID, 9, HOOK_SPARES_FLAGS, "cpuid"

#else

/* The same for a string of assembly in C, in which labels must be numbers. */
#define VMI_STRING_OF(x)        #x
#define VMI_STRING(x)           VMI_STRING_OF(x)
#define VMI_HOOK_STRING(kind, length, instruction)                                                \
    "661:\n\t" instruction "\n\t"                                                                 \
    ".skip " #length " - (. - 661b), 0x90\n\t"                                                    \
    ".pushsection .vmi_hooks, \"a\", @progbits\n\t"                                               \
    ".long 661b\n\t"                                                                              \
    ".byte " VMI_STRING(kind) ", " #length "\n\t"                                                 \
    ".short " VMI_STRING(HOOK_SPARES_FLAGS) "\n\t"                                                \
    ".popsection"

#define CLI_STRING VMI_HOOK_STRING(HOOK_CLI, 11, "cli")
#define STI_STRING VMI_HOOK_STRING(HOOK_STI, 5, "sti")

#endif
#endif
