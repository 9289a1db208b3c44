/*
 * Where a built-in program begins: argc and argv are on the stack as in any program, the main to call is in %ebx.
 */
        .text
        .globl  user_start
        .type   user_start, @function
user_start:
        xorl    %ebp, %ebp
        movl    (%esp), %eax
        leal    4(%esp), %edx
        subl    $8, %esp
        pushl   %edx
        pushl   %eax
        call    *%ebx
        pushl   %eax
        call    exit
        .size   user_start, . - user_start

        .section .note.GNU-stack, "", @progbits
