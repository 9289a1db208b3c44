/*
 * The four operations on the interrupt flag, named after the instructions that they stand for.
 *
 * In ring 1 `cli` and `sti` are refused and `popf` ignores the flag, so the flag that counts is a word in lguest_data.
 * Each use below is a *call site*: a call of the operation (flags.S), padded with nops, and an entry in a table of
 * all sites. At boot paravirt.c goes through the table and writes the operation itself over the call, where it fits.
 */
#ifndef PARAVIRT_H
#define PARAVIRT_H

#define PARAVIRT_CLI            0
#define PARAVIRT_STI            1
#define PARAVIRT_POPF           2
#define PARAVIRT_PUSHF          3

/* Bytes of a call, and the nops behind it that the longest replacement needs. */
#define PARAVIRT_CALL           5
#define PARAVIRT_SITE           10

#ifndef __ASSEMBLER__
#include "lguest.h"

struct paravirt_site {
    u8 *at;
    u32 operation;
};

#define PARAVIRT(operation, function)                                                             \
    "771:\n\tcall " function "\n\t.skip %c[site] - %c[call], 0x90\n\t"                            \
    ".pushsection .parainstructions, \"a\"\n\t.long 771b, %c[" operation "]\n\t.popsection"
#define PARAVIRT_NUMBERS                                                                          \
    [site] "i"(PARAVIRT_SITE), [call] "i"(PARAVIRT_CALL), [cli] "i"(PARAVIRT_CLI),                \
        [sti] "i"(PARAVIRT_STI), [popf] "i"(PARAVIRT_POPF), [pushf] "i"(PARAVIRT_PUSHF)

/* The operations keep all registers but %eax. */
static inline void irq_disable(void)
{
    asm volatile(PARAVIRT("cli", "lguest_cli") : : PARAVIRT_NUMBERS : "eax", "memory", "cc");
}

static inline void irq_enable(void)
{
    asm volatile(PARAVIRT("sti", "lguest_sti") : : PARAVIRT_NUMBERS : "eax", "memory", "cc");
}

static inline void irq_restore(u32 flags)
{
    asm volatile(PARAVIRT("popf", "lguest_popf") : "+a"(flags) : PARAVIRT_NUMBERS : "memory", "cc");
}

static inline u32 irq_save(void)
{
    u32 flags;

    asm volatile(PARAVIRT("pushf", "lguest_pushf") : "=a"(flags) : PARAVIRT_NUMBERS : "memory", "cc");
    irq_disable();
    return flags;
}

#endif
#endif
