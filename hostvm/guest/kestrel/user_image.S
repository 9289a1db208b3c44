/*
 * The programs as they are to lie in memory. All that the Launcher of generation 203 loads must be as far from its
 * physical address as the kernel is, and the programs are not; so they travel in a section of the kernel's.
 */
        .section .user_image, "a", @progbits
        .incbin "programs.bin"

        .section .note.GNU-stack, "", @progbits
