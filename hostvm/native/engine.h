/*
 * What the compiled part knows of the CPU engine: its processor state, its translated blocks, and the record that is
 * shared with Python (hostvm/native/__init__.py has the same fields in the same order).
 *
 * The engine's headers are not needed to build this. The layouts are those of one release of the engine; Python compares
 * every offset with what it has found at run time, and does without the compiled part where one differs.
 */
#ifndef LGREPLAY_ENGINE_H
#define LGREPLAY_ENGINE_H

#include <stdint.h>

enum { REGS = 8, SEGMENTS = 6, CS = 1, SS = 2, DS = 3, ES = 0, ESP = 4 };
enum { PAGE_SHIFT = 12, PAGE_SIZE = 1 << PAGE_SHIFT };
enum { RING = 3, FLAGS_ARE_EXPLICIT = 1, DEBUG_TRAP = 1, PAGE_FAULT = 14, HLT = 0xf4, IRET = 0xcf };

/* CF, PF, AF, ZF, SF, OF; and DF: the engine keeps these apart from the other flags. */
#define ARITHMETIC_FLAGS 0x8d5u
#define DIRECTION_FLAG 0x400u
#define RESUME_FLAG 0x10000u
#define FLAGS_IN_HFLAGS 0x43000u

struct segment {
    uint32_t selector, pad;
    uint64_t base;
    uint32_t limit, flags;
};

struct env {
    uint64_t regs[16];
    uint64_t eip, eflags, cc_dst, cc_src, cc_src2;
    uint32_t cc_op;
    int32_t df;
    uint32_t hflags, hflags2;
    struct segment segs[SEGMENTS], ldt, tr, gdt, idt;
    uint64_t cr[9];
    uint8_t to_error[5384 - 496];
    int32_t error_code, exception_is_int;
    uint64_t exception_next_eip;
    uint8_t to_old_exception[5496 - 5400];
    int32_t old_exception;
    uint8_t to_retaddr[5560 - 5500];
    uint64_t retaddr;
};

/* A translated block. Behind its code stands a table of the instructions in it (count.c). */
struct block {
    uint64_t pc, cs_base;
    uint32_t flags;
    uint16_t size, instructions;
    uint32_t compile_flags, trace_state;
    uint64_t code, code_bytes;
    uint64_t original, page_next[2], pages[2];
};
#define AT_MOST 0x7fffu /* in compile_flags: instructions allowed, 0 for any number */
#define INVALID 0x40000u

/* Forms of the flags: nothing known when the block was made, or all of them in cc_src. */
enum { UNKNOWN_FORM, EXPLICIT_FORM };

/* A hook as the engine keeps it. */
struct hook {
    uint32_t kind, others[5];
    uint64_t begin, end;
};
#define NOWHERE (~(uint64_t)0)

/* Why the engine came back. */
enum why { LEFT, BUDGET, TOO_LONG, EARLY_FETCH, LATE_FETCH, MISFIT, NOT_HOOKED, HALTED };

typedef int (*start_function)(void *, uint64_t, uint64_t, uint64_t, uint64_t);
typedef int (*stop_function)(void *);
typedef int (*read_function)(void *, int, void *);
typedef void (*interrupt_function)(void *, uint32_t, void *);
typedef void (*made_function)(void *, void *, void *, void *);
typedef int (*control_function)(void *, uint32_t, ...);
typedef void (*code_function)(void *, uint64_t, uint32_t, void *);

enum { MOST_WRITTEN = 64, VECTORS = 256 };

struct machine {
    /* Set by Python, once. */
    void *uc;
    struct env *env;
    uint8_t *memory, *code_pages;
    uint64_t memory_base, memory_size;
    uint32_t *next_block_flags;
    struct block **recent_blocks;
    uint64_t block_header, first_page;
    start_function start;
    stop_function stop;
    read_function read_register;
    interrupt_function python_interrupt, python_delivery;
    made_function python_block;
    code_function python_suspect;
    control_function control;
    uint64_t eflags_register, remove_block;
    struct plans *plans;

    /* Set by Python at any time. */
    uint64_t by_instruction; /* The engine and Python count. */
    struct hook *hook;

    /* The run under way. */
    uint64_t steps, limit;
    struct block *block, *not_hooked;
    uint64_t limited, why, status, looked_at;
    uint64_t saved_cr2, saved_error_code;

    /* What Python has to take note of. */
    uint64_t written_count;
    uint64_t written[MOST_WRITTEN];
    uint64_t direct_traps[VECTORS];
    uint64_t delivered;
};

int find_instruction(const struct block *block, uint64_t address);
uint8_t code_byte(const struct machine *machine, const struct block *block, uint64_t address);
int is_for_python(const struct machine *machine, const struct block *block, uint64_t address);
int is_plain_iret(const struct machine *machine, const struct block *block, uint64_t address);
uint64_t steps_begun(const struct machine *machine, uint64_t address);
int follow_plan(struct machine *machine, uint32_t vector, uint32_t source, uint32_t error_code);

static inline uint64_t linear_eip(const struct env *env)
{
    return (env->eip + env->segs[CS].base) & 0xffffffffu;
}

#endif
