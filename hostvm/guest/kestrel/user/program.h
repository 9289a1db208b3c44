/*
 * The built-in programs: what the kernel knows of them, and what they have in common. They are linked together, each with
 * a main of its own, and use nothing of the kernel's but its system calls.
 */
#ifndef PROGRAM_H
#define PROGRAM_H

typedef int program_main(int argc, char **argv);

struct program {
    char name[12];
    program_main *main;
};

/* programs.c, the last one without a name; start.S, with the main to call in %ebx. */
extern const struct program programs[];
void user_start(void);

#endif
