/*
 * The first instructions. The Launcher has put our segments where their physical addresses say and jumps to startup_32
 * by *its* physical address: until we have page tables of our own, every virtual address means the same physical one,
 * while the kernel is linked at PAGE_OFFSET. So each address here is named minus PAGE_OFFSET, until the last jump.
 *
 * On entry: ring 1, %esi = physical address of the boot parameters, no stack. The steps are Linux 3.2's:
 *   (i)   make sure that the Launcher is lguest's, and clear the bss;
 *   (ii)  say hello to the Host: it will not accept any other hypercall before;
 *   (iii) map the first megabytes of memory twice, where they are and at PAGE_OFFSET;
 *   (iv)  make that the page table, take a stack, and go up to the C code at PAGE_OFFSET.
 */
#include "lguest.h"

/* Present, writable, and already accessed and dirty: the Host need not fault in each page twice to find out. */
#define KERNEL_PTE      0x63

/* Page tables for 4 MiB each. */
#define BOOT_TABLES     4

#define phys(address)   ((address) - PAGE_OFFSET)

        .section .head.text, "ax", @progbits
        .globl  startup_32
        .type   startup_32, @function
startup_32:
        cld
        cmpl    $SUBARCH_LGUEST, BOOT_HARDWARE_SUBARCH(%esi)
        je      clear_bss
        /* Not under lguest there is nobody to tell. */
        ud2

clear_bss:
        movl    $phys(__bss_start), %edi
        movl    $phys(__bss_end), %ecx
        subl    %edi, %ecx
        shrl    $2, %ecx
        xorl    %eax, %eax
        rep     stosl

say_hello:
        movl    $LHCALL_LGUEST_INIT, %eax
        movl    $phys(lguest_data), %ebx
        int     $LGUEST_TRAP_ENTRY

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

go_up:
        movl    $LHCALL_NEW_PGTABLE, %eax
        movl    $phys(boot_pgdir), %ebx
        int     $LGUEST_TRAP_ENTRY
        movl    $boot_stack_top, %esp
        xorl    %ebp, %ebp
        movl    $start_kernel, %eax
        call    *%eax
        ud2
        .size   startup_32, . - startup_32

        .section .bss
        .balign PAGE_SIZE
        .globl  boot_pgdir, boot_stack_top
boot_pgdir:
        .skip   PAGE_SIZE
boot_tables:
        .skip   PAGE_SIZE * BOOT_TABLES
        /* Two pages, like every kernel stack: the Host is told so. */
        .skip   PAGE_SIZE * 2
boot_stack_top:

        .section .note.GNU-stack, "", @progbits
