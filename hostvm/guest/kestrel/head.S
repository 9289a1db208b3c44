/*
 * The first instructions, in Linux's order.
 *
 * The Launcher has put our segments where their physical addresses say, and jumps to startup_32 by *its* physical
 * address. Every virtual address means the same physical one for now, while the kernel is linked at PAGE_OFFSET; so each
 * address here is named minus PAGE_OFFSET until the last jump.
 *
 * On entry: ring 1, %esi = physical address of the boot parameters, no stack.
 *   (i)   startup_32: clear the bss, bring boot parameters and command line to safety, look for whom we boot;
 *   (ii)  lguest_entry: say hello to the Host, which will not accept any other hypercall before;
 *   (iii) have the first megabytes mapped at PAGE_OFFSET as well. Here the generations differ: in 206 the Launcher has
 *         made page tables, and we find out where and add to them; in the next two the Host has made them, and they
 *         are complete; in the newest one we make our own. In 203, the oldest, the Launcher's tables map PAGE_OFFSET
 *         and nothing else; so there every address is the linker's from the start, and the Launcher finds the first
 *         instruction not by its address but by the text before it;
 *   (iv)  take a stack and go up to the C code at PAGE_OFFSET.
 *
 * Read next: main.c. Source: Linux, arch/x86/kernel/head_32.S and lguest's part of it (the steps; the text is ours).
 */
#include "lguest.h"

/* Present, writable, and already accessed and dirty: the Host need not fault in each page twice to find out. */
#define KERNEL_PTE      0x63

/* Page tables for 4 MiB each, enough for the kernel until it has made its final ones. */
#define BOOT_TABLES     2

/* What of the Launcher's page directory is copied: 128 MiB. */
#define COPIED_ENTRIES  32

#define phys(address)   ((address) - PAGE_OFFSET)

/* What names a place before the last jump. */
#if LGUEST_GENERATION == 203
#define here(address)   (address)
#else
#define here(address)   phys(address)
#endif

        .section .head.text, "ax", @progbits
#if LGUEST_GENERATION == 203
        .ascii  "GenuineLguest"
#endif
        .globl  startup_32
        .type   startup_32, @function
startup_32:
        cld

clear_bss:
        movl    $here(__bss_start), %edi
        movl    $here(__bss_end), %ecx
        subl    %edi, %ecx
        shrl    $2, %ecx
        xorl    %eax, %eax
        rep     stosl

copy_boot_params:
#if LGUEST_GENERATION == 203
        addl    $PAGE_OFFSET, %esi
#endif
        movl    $here(boot_params), %edi
        movl    $BOOT_PARAMS_SIZE / 4, %ecx
        rep     movsl
        movl    here(boot_params) + BOOT_CMD_LINE_PTR, %esi
#if LGUEST_GENERATION == 203
        addl    $PAGE_OFFSET, %esi
#endif
        movl    $here(command_line), %edi
        movl    $COMMAND_LINE_SIZE / 4, %ecx
        rep     movsl

/* Other subarchitectures than lguest's we do not know, and without one there is nobody to tell. */
check_subarch:
#if LGUEST_GENERATION != 203
        cmpw    $VERSION_WITH_SUBARCH, here(boot_params) + BOOT_VERSION
        jb      bad_subarch
#endif
        cmpl    $SUBARCH_LGUEST, here(boot_params) + BOOT_HARDWARE_SUBARCH
        je      lguest_entry
bad_subarch:
        ud2
        .size   startup_32, . - startup_32

        .globl  lguest_entry
        .type   lguest_entry, @function
lguest_entry:
        movl    $LHCALL_LGUEST_INIT, %eax
        movl    $phys(lguest_data), %HCALL_ARG1
        HCALL_INSN

#if LGUEST_GENERATION == 206

/* The Host has put the address of the Launcher's page directory into lguest_data. */
copy_directory:
        movl    phys(lguest_data) + LGUEST_DATA_pgdir, %esi
        leal    (PAGE_OFFSET >> 22) * 4(%esi), %edi
        movl    $COPIED_ENTRIES, %ecx
        rep     movsl

#elif LGUEST_GENERATION == 302

/* The tables lie one after the other, so one loop fills them all. */
fill_tables:
        movl    $phys(boot_tables), %edi
        movl    $KERNEL_PTE, %eax
        movl    $1024 * BOOT_TABLES, %ecx
1:      stosl
        addl    $PAGE_SIZE, %eax
        loop    1b

fill_directory:
        movl    $phys(boot_pgdir), %edi
        movl    $phys(boot_tables) + KERNEL_PTE, %eax
        movl    $BOOT_TABLES, %ecx
1:      movl    %eax, (PAGE_OFFSET >> 22) * 4(%edi)
        stosl
        addl    $PAGE_SIZE, %eax
        loop    1b

        movl    $LHCALL_NEW_PGTABLE, %eax
        movl    $phys(boot_pgdir), %HCALL_ARG1
        HCALL_INSN

#endif

go_up:
        movl    $boot_stack_top, %esp
        xorl    %ebp, %ebp
        movl    $start_kernel, %eax
        call    *%eax
        ud2
        .size   lguest_entry, . - lguest_entry

        .section .bss
        .balign PAGE_SIZE
        .globl  boot_params, command_line, boot_stack_top
boot_params:
        .skip   BOOT_PARAMS_SIZE
command_line:
        .skip   COMMAND_LINE_SIZE
#if LGUEST_GENERATION == 302
        .balign PAGE_SIZE
boot_pgdir:
        .skip   PAGE_SIZE
boot_tables:
        .skip   PAGE_SIZE * BOOT_TABLES
#endif
        /* Two pages, like every kernel stack: the Host is told so. */
        .balign PAGE_SIZE * 2
        .skip   PAGE_SIZE * 2
boot_stack_top:

        .section .note.GNU-stack, "", @progbits
