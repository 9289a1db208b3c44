/*
 * Deliveries that were made before, made again: hostvm/delivery_plans.py says what a plan is and why following one is
 * right. Python makes the plans, by the long way; here they are found, checked and followed.
 */
#include <stdlib.h>
#include <string.h>

#include "engine.h"

enum { MOST_PLANS = 512, MOST_WORDS = 40, KEY_BYTES = 104 };

/* All that decides a delivery but memory: what is delivered, from which ring; TR to CR1, and CR3 to CR4. */
struct key {
    uint32_t what, pad;
    uint8_t tables[KEY_BYTES];
};

/* The same fields as in Python, in the same order. */
struct plan {
    uint32_t word_count, with_code;
    uint32_t index[MOST_WORDS], value[MOST_WORDS];
    uint64_t frame, esp, eip;
    struct segment stack, code;
    uint32_t kept_flags, hflags;
};

struct plans {
    struct { struct key key; struct plan plan; uint8_t used; } slots[2 * MOST_PLANS];
    int count;
};

static void make_key(const struct env *env, uint32_t what, struct key *key)
{
    const uint8_t *tr = (const uint8_t *)&env->tr;
    size_t to_cr2 = (const uint8_t *)&env->cr[2] - tr;
    memset(key, 0, sizeof *key);
    key->what = what;
    memcpy(key->tables, tr, to_cr2);
    memcpy(key->tables + to_cr2, &env->cr[3], 2 * sizeof env->cr[3]);
}

static unsigned slot_of(const struct key *key)
{
    uint64_t mixed = 0, word;
    for (size_t at = 0; at + sizeof word <= sizeof *key; at += sizeof word) {
        memcpy(&word, (const uint8_t *)key + at, sizeof word);
        mixed = (mixed ^ word) * 0x9e3779b97f4a7c15u;
        mixed ^= mixed >> 29;
    }
    return (unsigned)(mixed % (2 * MOST_PLANS));
}

/* The slot of a key: its own, or the free one where it belongs. */
static unsigned find_slot(const struct plans *plans, const struct key *key)
{
    unsigned at = slot_of(key);
    while (plans->slots[at].used && memcmp(&plans->slots[at].key, key, sizeof *key))
        at = (at + 1) % (2 * MOST_PLANS);
    return at;
}

__attribute__((visibility("default"))) struct plans *lg_new_plans(void)
{
    return calloc(1, sizeof(struct plans));
}

__attribute__((visibility("default"))) void lg_free_plans(struct plans *plans)
{
    free(plans);
}

/* Remember a plan for the delivery of `what`, which is what `env` says now in all that a key is made of. */
__attribute__((visibility("default"))) void lg_learn(struct machine *machine, uint32_t what, const struct plan *plan)
{
    struct plans *plans = machine->plans;
    struct key key;
    if (plans->count >= MOST_PLANS)
        memset(plans, 0, sizeof *plans);
    make_key(machine->env, what, &key);
    unsigned at = find_slot(plans, &key);
    plans->count += !plans->slots[at].used;
    plans->slots[at].used = 1;
    plans->slots[at].key = key;
    plans->slots[at].plan = *plan;
}

static uint32_t word_at(const struct machine *machine, uint32_t index)
{
    uint32_t word;
    memcpy(&word, machine->memory + (uint64_t)index * 4, sizeof word);
    return word;
}

static int still_holds(const struct machine *machine, const struct plan *plan)
{
    for (uint32_t at = 0; at < plan->word_count; at++)
        if (word_at(machine, plan->index[at]) != plan->value[at])
            return 0;
    return 1;
}

/* Python learns of the page written when the run ends. Pages with translated code are its own affair. */
static int note_written(struct machine *machine, uint64_t offset)
{
    uint64_t page = offset >> PAGE_SHIFT;
    if (machine->code_pages[page])
        return 0;
    page += machine->memory_base >> PAGE_SHIFT;
    for (uint64_t at = machine->written_count; at > 0; at--)
        if (machine->written[at - 1] == page)
            return 1;
    if (machine->written_count == MOST_WRITTEN)
        return 0;
    machine->written[machine->written_count++] = page;
    return 1;
}

static uint32_t full_flags(const struct machine *machine)
{
    const struct env *env = machine->env;
    uint64_t flags = 0;
    if (env->cc_op == FLAGS_ARE_EXPLICIT) {
        flags = env->eflags & ~(uint64_t)(ARITHMETIC_FLAGS | DIRECTION_FLAG);
        flags |= env->cc_src | (env->df < 0 ? DIRECTION_FLAG : 0);
    } else {
        machine->read_register(machine->uc, (int)machine->eflags_register, &flags);
    }
    return (uint32_t)flags;
}

/* Deliver by a plan; 0 if there is none that holds, and then nothing has happened. */
int follow_plan(struct machine *machine, uint32_t vector, uint32_t source, uint32_t error_code)
{
    struct env *env = machine->env;
    struct key key;
    make_key(env, vector | source << 8 | (env->hflags & RING) << 10, &key);
    unsigned at = find_slot(machine->plans, &key);
    if (!machine->plans->slots[at].used)
        return 0;
    const struct plan *plan = &machine->plans->slots[at].plan;
    if (env->segs[DS].base || env->segs[ES].base || !still_holds(machine, plan))
        return 0;
    if (!note_written(machine, plan->frame - machine->memory_base))
        return 0;
    uint32_t frame[6] = {
        error_code, (uint32_t)env->eip, env->segs[CS].selector, full_flags(machine) & ~RESUME_FLAG,
        (uint32_t)env->regs[ESP], env->segs[SS].selector,
    };
    int skipped = plan->with_code ? 0 : 1;
    memcpy(machine->memory + (plan->frame - machine->memory_base), frame + skipped, sizeof *frame * (6 - skipped));
    env->regs[ESP] = plan->esp;
    env->segs[SS] = plan->stack;
    env->segs[CS] = plan->code;
    env->eip = plan->eip;
    env->eflags &= plan->kept_flags;
    env->hflags = plan->hflags | (uint32_t)(env->eflags & FLAGS_IN_HFLAGS);
    return 1;
}

/* ---- for the check that Python makes ---- */

#define OFFSET(field) __builtin_offsetof(struct env, field)

__attribute__((visibility("default"))) const uint64_t lg_layout[] = {
    OFFSET(regs), OFFSET(eip), OFFSET(eflags), OFFSET(cc_src), OFFSET(cc_op), OFFSET(df), OFFSET(hflags), OFFSET(segs),
    OFFSET(tr), OFFSET(gdt), OFFSET(idt), OFFSET(cr), OFFSET(error_code), OFFSET(exception_is_int),
    OFFSET(exception_next_eip), OFFSET(old_exception), OFFSET(retaddr), sizeof(struct machine), sizeof(struct plan),
};
__attribute__((visibility("default"))) const char lg_source[] = LG_SOURCE;
