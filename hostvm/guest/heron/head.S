/*
 * The first instructions, for two ways to be started.
 *
 * A multiboot loader (QEMU's -kernel is one) jumps here in ring 0, without paging, with a magic number in %eax and the
 * address of its information in %ebx. lguest's Launcher jumps here in ring 1 with the boot parameters at %esi and the
 * rest zero. In both cases every address means the same physical one for now, while the kernel is linked at
 * PAGE_OFFSET; so each address is named minus PAGE_OFFSET until the last jump. The rest is the same for both, but for
 * who is told of the page tables.
 *
 * Read next: main.c. Source: Multiboot Specification 0.6.96; Linux 3.2's order of doing things.
 */
#include "../hello/lguest.h"

#define MULTIBOOT_HEADER        0x1badb002
#define MULTIBOOT_LOADER        0x2badb002
#define MULTIBOOT_WANTS_MEMORY  2

#define KERNEL_PTE      0x63
#define BOOT_TABLES     4
/* PG WP NE ET MP PE. */
#define CR0_AT_START    0x80010033

#define phys(address)   ((address) - PAGE_OFFSET)

        .section .multiboot, "a", @progbits
        .balign 4
        .long   MULTIBOOT_HEADER, MULTIBOOT_WANTS_MEMORY, -(MULTIBOOT_HEADER + MULTIBOOT_WANTS_MEMORY)

/* For the hypervisor: what this is, its version, where the entries are, and the page shared with the Host. */
        .section .vmi_header, "a", @progbits
        .ascii  "VMIHOOKS"
        .long   1, __vmi_hooks_start, __vmi_hooks_end, lguest_data

        .section .head.text, "ax", @progbits
        .globl  startup_32
        .type   startup_32, @function
startup_32:
        cld
        movl    %eax, %ebp

clear_bss:
        movl    $phys(__bss_start), %edi
        movl    $phys(__bss_end), %ecx
        subl    %edi, %ecx
        shrl    $2, %ecx
        xorl    %eax, %eax
        rep     stosl

        cmpl    $MULTIBOOT_LOADER, %ebp
        je      fill_tables
        movl    %esi, %edx
        cmpl    $SUBARCH_LGUEST, BOOT_HARDWARE_SUBARCH(%esi)
        je      say_hello
        /* Somebody else: there is nobody to tell. */
        ud2

say_hello:
        movl    $LHCALL_LGUEST_INIT, %eax
        movl    $phys(lguest_data), %ebx
        int     $LGUEST_TRAP_ENTRY
        movl    %edx, %ebx

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

        movl    %ebx, %edx
        movl    $phys(boot_pgdir), %ebx
        cmpl    $MULTIBOOT_LOADER, %ebp
        jne     tell_the_host
        movl    %ebx, %cr3
        movl    $CR0_AT_START, %eax
        movl    %eax, %cr0
        jmp     go_up
tell_the_host:
        movl    $LHCALL_NEW_PGTABLE, %eax
        int     $LGUEST_TRAP_ENTRY

/* start_kernel(whether there is a Host, physical address of what the loader left). */
go_up:
        movl    $boot_stack_top, %esp
        xorl    %eax, %eax
        cmpl    $MULTIBOOT_LOADER, %ebp
        setne   %al
        xorl    %ebp, %ebp
        movl    $start_kernel, %ecx
        call    *%ecx
        ud2
        .size   startup_32, . - startup_32

        .section .bss
        .balign PAGE_SIZE
        .globl  boot_pgdir, boot_stack_top
boot_pgdir:
        .skip   PAGE_SIZE
boot_tables:
        .skip   PAGE_SIZE * BOOT_TABLES
        .skip   PAGE_SIZE * 2
boot_stack_top:

        .section .note.GNU-stack, "", @progbits
