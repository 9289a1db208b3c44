/*
 * Counting instructions by blocks, exactly.
 *
 * The engine calls `lg_on_block` where each translated block begins. All instructions of the block are counted there; if
 * they are more than the budget has left, the run stops before the block, and run.c has the rest of it made as a block
 * of just so many instructions. Where a block is left in its middle - a fault, an instruction that is carried out by
 * Python, a store into the block itself - the instructions that were not begun are taken off again: the engine keeps,
 * behind the code of each block, the addresses of the instructions in it.
 *
 * A store into its own block makes the engine leave the block before the store, and carry the store out again as a block
 * of one instruction. Such a block is told by its limit of one, which nobody else asked for.
 */
#include <string.h>

#include "engine.h"

enum { LINE = 64, LINES_BEFORE_CALL = 4 };

/* Paging in CR0, large pages in CR4 and in an entry; the size of a stack; VM in the third byte of the flags. */
#define PAGING 0x80000000u
#define PAGE_MASK 0xfffff000u
enum { PRESENT = 1, LARGE_PAGES = 0x10, LARGE_PAGE = 0x80, BIG_STACK = 1 << 22, VM_IN_ITS_BYTE = 2 };

/* The block whose code has just called us. Its header stands at a fixed distance before its code, which is aligned. */
static struct block *calling_block(const struct machine *machine, uint64_t from, uint64_t address)
{
    uint64_t code = from & ~(uint64_t)(LINE - 1);
    for (int line = 0; line < LINES_BEFORE_CALL; line++, code -= LINE) {
        struct block *block = (struct block *)(code - machine->block_header);
        if (block->code == code && block->pc == address)
            return block;
    }
    return 0;
}

static int64_t next_difference(const uint8_t **at)
{
    uint64_t value = 0;
    unsigned shift = 0;
    uint8_t byte;
    do {
        byte = *(*at)++;
        value |= (uint64_t)(byte & 0x7f) << shift;
        shift += 7;
    } while (byte & 0x80 && shift < 64);
    if (shift < 64 && byte & 0x40)
        value |= ~(uint64_t)0 << shift;
    return (int64_t)value;
}

/* A line of the table of a block's instructions: address, form of the flags before it, end of its code, as differences. */
struct line {
    const uint8_t *at;
    uint64_t address;
    int64_t form;
};

static void next_line(struct line *line)
{
    line->address += (uint64_t)next_difference(&line->at);
    line->form += next_difference(&line->at);
    next_difference(&line->at);
}

static struct line table_of(const struct block *block)
{
    return (struct line){(const uint8_t *)(block->code + block->code_bytes), block->pc, 0};
}
/* Number of the instruction at a linear address within the block, or -1. */
int find_instruction(const struct block *block, uint64_t address)
{
    struct line line = table_of(block);
    for (int number = 0; number < block->instructions; number++) {
        next_line(&line);
        if ((uint32_t)line.address == (uint32_t)address)
            return number;
    }
    return -1;
}

/* Steps of this run, when the instruction at `address` in the block under way is the last that was begun. */
uint64_t steps_begun(const struct machine *machine, uint64_t address)
{
    const struct block *block = machine->block;
    int number = block ? find_instruction(block, address) : -1;
    return number < 0 ? machine->steps : machine->steps - block->instructions + number + 1;
}

/* A store is about to be carried out again: take off what was counted for it and what follows it in its block. */
static void begin_again(struct machine *machine, const struct block *again)
{
    if ((again->compile_flags & AT_MOST) != 1 || machine->limited || !machine->block)
        return;
    if (find_instruction(machine->block, again->pc) >= 0)
        machine->steps = steps_begun(machine, again->pc) - 1;
    machine->block = 0;
}

static void stop(struct machine *machine, enum why why)
{
    machine->why = why;
    machine->stop(machine->uc);
}

/* UC_HOOK_BLOCK, called from translated code. */
__attribute__((visibility("default"))) void lg_on_block(void *uc, uint64_t address, uint32_t size, void *data)
{
    struct machine *machine = data;
    (void)uc, (void)size;
    if (machine->by_instruction)
        return;
    struct block *block = calling_block(machine, (uint64_t)__builtin_return_address(0), address);
    if (!block) {
        stop(machine, MISFIT);
        return;
    }
    if (block->compile_flags & AT_MOST)
        begin_again(machine, block);
    machine->limited = 0;
    if (machine->steps + block->instructions > machine->limit) {
        machine->block = 0;
        stop(machine, TOO_LONG);
        return;
    }
    machine->steps += block->instructions;
    machine->block = block;
    machine->looked_at = NOWHERE;
}

/* ---- blocks as they are made ---- */

enum { JUMP_CACHE_BITS = 12, JUMP_PAGE_BITS = 6 };

static struct block *recent_block(const struct machine *machine, uint64_t pc)
{
    unsigned shift = JUMP_CACHE_BITS - JUMP_PAGE_BITS;
    uint64_t mixed = pc ^ pc >> shift, low = (1u << JUMP_PAGE_BITS) - 1;
    uint64_t slot = (mixed >> shift & ((1u << JUMP_CACHE_BITS) - 1) & ~low) | (mixed & low);
    return machine->recent_blocks[slot];
}

/* A byte of the block's code in the machine's memory; 0x90 where there is none. */
uint8_t code_byte(const struct machine *machine, const struct block *block, uint64_t address)
{
    int second = (address ^ block->pc) >> PAGE_SHIFT != 0;
    uint64_t at = block->pages[second] - machine->first_page + (address & (PAGE_SIZE - 1));
    return at < machine->memory_size ? machine->memory[at] : 0x90;
}

static uint32_t memory_word(const struct machine *machine, uint64_t address)
{
    uint64_t at = address - machine->memory_base;
    uint32_t word = 0;
    if (at + sizeof word <= machine->memory_size)
        memcpy(&word, machine->memory + at, sizeof word);
    return word;
}

static int is_prefix(uint8_t byte)
{
    switch (byte) {
    case 0x26: case 0x2e: case 0x36: case 0x3e: case 0x64: case 0x65: case 0x66: case 0x67:
    case 0xf0: case 0xf2: case 0xf3:
        return 1;
    }
    return 0;
}

static uint64_t behind_prefixes(const struct machine *machine, const struct block *block, uint64_t address)
{
    for (int length = 0; length < 15 && is_prefix(code_byte(machine, block, address)); length++)
        address++;
    return address;
}

/* Instructions that Python must look at before they are carried out: ports, fast system calls, LOOPE, LOOPNE, IRET outside of
   ring 0, some of the x87's. */
int is_for_python(const struct machine *machine, const struct block *block, uint64_t address)
{
    address = behind_prefixes(machine, block, address);
    uint8_t first = code_byte(machine, block, address), second = code_byte(machine, block, address + 1);
    if ((first >= 0x6c && first <= 0x6f) || (first >= 0xe4 && first <= 0xe7) || (first >= 0xec && first <= 0xef))
        return 1;
    if (first == 0x0f)
        return second == 0x05 || second == 0x34;
    if (first == 0xe0 || first == 0xe1)
        return 1;
    if (first == IRET)
        return (machine->env->hflags & RING) != 0;
    return first == 0xd9 && second >= 0xf0 && second != 0xf4 && second != 0xf6 && second != 0xf7 && second != 0xfa
        && second != 0xfc && second != 0xfd;
}

/* What a linear address holds, by the page tables; 0 where nothing is mapped. */
static uint8_t mapped_byte(const struct machine *machine, uint32_t linear)
{
    const struct env *env = machine->env;
    uint64_t at = linear;
    if (env->cr[0] & PAGING) {
        uint32_t entry = memory_word(machine, (env->cr[3] & PAGE_MASK) + (linear >> 22 << 2));
        int is_large = entry & LARGE_PAGE && env->cr[4] & LARGE_PAGES;
        if (entry & PRESENT && !is_large)
            entry = memory_word(machine, (entry & PAGE_MASK) + (linear >> 10 & 0xffc));
        if (!(entry & PRESENT))
            return 0;
        uint32_t within = is_large ? 0x3fffff : PAGE_SIZE - 1;
        at = (entry & ~within) | (linear & within);
    }
    at -= machine->memory_base;
    return at < machine->memory_size ? machine->memory[at] : 0;
}

/* Whether an IRET finds flags without VM, as nearly all do. */
int is_plain_iret(const struct machine *machine, const struct block *block, uint64_t address)
{
    const struct env *env = machine->env;
    if (code_byte(machine, block, behind_prefixes(machine, block, address)) != IRET)
        return 0;
    uint32_t esp = (uint32_t)env->regs[ESP] + 10;
    if (!(env->segs[SS].flags & BIG_STACK))
        esp &= 0xffff;
    return !(mapped_byte(machine, (uint32_t)env->segs[SS].base + esp) & VM_IN_ITS_BYTE);
}

/*
 * Instructions that need the flags in their explicit form. What BT leaves in the flags that it does not define depends on
 * the form; RCL, RCR and SETcc make the flags explicit before they touch memory, and if that faults, the engine says that
 * they still have the form of before.
 */
static int needs_flags(const struct machine *machine, const struct block *block, uint64_t address, int64_t form)
{
    if (form == EXPLICIT_FORM)
        return 0;
    address = behind_prefixes(machine, block, address);
    uint8_t first = code_byte(machine, block, address), second = code_byte(machine, block, address + 1);
    if (first == 0x0f) {
        if (second == 0xa3 || second == 0xab || second == 0xb3 || second == 0xbb || second == 0xba)
            return form != UNKNOWN_FORM;
        return second >= 0x90 && second <= 0x9f && code_byte(machine, block, address + 2) < 0xc0;
    }
    if ((first == 0xc4 || first == 0xc5) && second >= 0xc0)
        return 1; /* any of these, behind a VEX prefix */
    int is_rotation = first == 0xc0 || first == 0xc1 || (first >= 0xd0 && first <= 0xd3);
    return is_rotation && second < 0xc0 && (second >> 3 & 6) == 2;
}

static void note_code(struct machine *machine, uint64_t page)
{
    uint64_t at = page - machine->first_page;
    if (at < machine->memory_size)
        machine->code_pages[at >> PAGE_SHIFT] = 1;
}

/*
 * UC_HOOK_EDGE_GENERATED: a block has been translated, and has not run yet.
 *
 * If something in it must be hooked, it has to be made again. There is one hook, whose range is set for that one
 * translation: the engine looks at the range when it translates, and calls a hook that is alone without looking again.
 */
__attribute__((visibility("default"))) void lg_on_made(void *uc, void *made, void *before, void *data)
{
    struct machine *machine = data;
    if (machine->by_instruction) {
        machine->python_block(uc, made, before, 0);
        return;
    }
    uint64_t pc = *(uint64_t *)made;
    struct block *block = recent_block(machine, pc);
    if (!block || block->pc != pc) {
        stop(machine, MISFIT);
        return;
    }
    begin_again(machine, block);
    note_code(machine, block->pages[0]);
    note_code(machine, block->pages[1]);
    struct line line = table_of(block);
    uint64_t first = NOWHERE, last = 0;
    for (int number = 0; number < block->instructions; number++) {
        next_line(&line);
        if (!is_for_python(machine, block, line.address) && !needs_flags(machine, block, line.address, line.form))
            continue;
        if (first == NOWHERE)
            first = line.address;
        last = line.address;
    }
    int is_hooked = machine->hook->begin <= first && last <= machine->hook->end;
    machine->hook->begin = machine->hook->end = NOWHERE;
    if (first == NOWHERE || is_hooked)
        return;
    machine->hook->begin = first;
    machine->hook->end = last;
    machine->not_hooked = block;
    stop(machine, NOT_HOOKED);
}
