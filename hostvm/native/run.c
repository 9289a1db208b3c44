/*
 * Running for a budget, and the interrupts on the way. hostvm/cpu.py says what the engine does and does not do; the
 * numerals here are those of its opening.
 */
#include "engine.h"

static void restore_fault_registers(struct machine *machine)
{
    struct env *env = machine->env;
    env->cr[2] = machine->saved_cr2;
    env->error_code = (int32_t)machine->saved_error_code;
    env->old_exception = -1;
}

static void save_fault_registers(struct machine *machine)
{
    machine->saved_cr2 = machine->env->cr[2];
    machine->saved_error_code = (uint32_t)machine->env->error_code;
}

static void take_back(struct machine *machine, enum why why)
{
    restore_fault_registers(machine);
    machine->why = why;
    machine->stop(machine->uc);
}

/* Forget a block that has just been made. The engine's call disturbs the fault registers. */
static int drop_block(struct machine *machine, const struct block *block)
{
    uint64_t retaddr = machine->env->retaddr;
    save_fault_registers(machine);
    machine->control(machine->uc, (uint32_t)machine->remove_block, block->pc, block->pc + 1);
    restore_fault_registers(machine);
    machine->env->retaddr = retaddr;
    return (block->compile_flags & INVALID) != 0;
}

static int stands_behind_hlt(const struct machine *machine)
{
    const struct block *block = machine->block;
    uint64_t end = block ? block->pc + block->size : 0;
    return block && !(machine->env->hflags & RING) && linear_eip(machine->env) == (end & 0xffffffffu)
        && code_byte(machine, block, end - 1) == HLT;
}

/* Run at most `budget` steps. How many were made is in `steps`, why it ended in `why`, an error of the engine's in
   `status`. A run that ends as LEFT was stopped by Python. */
__attribute__((visibility("default"))) void lg_run(struct machine *machine, uint64_t budget)
{
    uint32_t at_most = 0;
    machine->steps = 0;
    machine->limit = budget;
    machine->block = 0;
    for (;;) {
        machine->why = LEFT;
        machine->limited = at_most;
        *machine->next_block_flags = at_most ? at_most : 0xffffffffu;
        save_fault_registers(machine);
        machine->status = (uint64_t)machine->start(machine->uc, machine->env->eip & 0xffffffffu, 0, 0, 0);
        *machine->next_block_flags = 0xffffffffu;
        if (machine->status)
            return;
        switch (machine->why) {
        case TOO_LONG:
            at_most = (uint32_t)(machine->limit - machine->steps);
            break;
        case EARLY_FETCH:
            at_most = 1;
            break;
        case NOT_HOOKED:
            at_most = machine->not_hooked->compile_flags & AT_MOST;
            if (!drop_block(machine, machine->not_hooked)) {
                machine->why = MISFIT;
                return;
            }
            break;
        case LEFT:
            if (stands_behind_hlt(machine))
                machine->why = HALTED;
            return;
        default:
            return;
        }
        if (machine->steps >= machine->limit) {
            machine->why = BUDGET;
            return;
        }
    }
}

/* (ii) Whether a fetch fault belongs to a later instruction than the one at EIP: certain only for a block of one. */
static int is_early(const struct machine *machine)
{
    if (linear_eip(machine->env) >> PAGE_SHIFT == (machine->env->cr[2] & 0xffffffffu) >> PAGE_SHIFT)
        return 0;
    return machine->limited != 1;
}

/* UC_HOOK_INTR. */
__attribute__((visibility("default"))) void lg_on_interrupt(void *uc, uint32_t vector, void *data)
{
    struct machine *machine = data;
    struct env *env = machine->env;
    if (machine->by_instruction) {
        machine->python_interrupt(uc, vector, 0);
        return;
    }
    env->old_exception = -1;
    /* INT 14 is none, though a fetch fault may have been the last. */
    if (vector == PAGE_FAULT && !env->retaddr && !env->exception_is_int) {
        if (machine->steps >= machine->limit) {
            take_back(machine, LATE_FETCH);
            return;
        }
        if (is_early(machine)) {
            take_back(machine, EARLY_FETCH);
            return;
        }
        machine->steps++;
        machine->limited = 0;
    } else if (env->exception_is_int) {
        /* INTO does not end its block; EIP is behind the instruction. */
        int behind = machine->block ? find_instruction(machine->block, linear_eip(env)) : -1;
        if (behind > 0)
            machine->steps -= machine->block->instructions - behind;
    } else if (vector != DEBUG_TRAP) {
        machine->steps = steps_begun(machine, linear_eip(env));
        if (linear_eip(env) == machine->looked_at)
            env->cc_op = FLAGS_ARE_EXPLICIT;
    }
    machine->block = 0;
    uint32_t source = env->exception_is_int ? 1 : 0;
    if (follow_plan(machine, vector, source, (uint32_t)env->error_code)) {
        env->exception_is_int = 0;
        if (env->hflags & RING)
            machine->direct_traps[vector & (VECTORS - 1)]++;
        machine->delivered++;
    } else {
        machine->python_delivery(uc, vector, 0);
    }
    save_fault_registers(machine);
}

/*
 * UC_HOOK_CODE, on what count.c wants to be hooked. (v) The engine has put the flags into `eflags` for us, where they would
 * stay when they change; and it has made them explicit, which it forgets if the instruction then faults.
 */
__attribute__((visibility("default"))) void lg_on_suspect(void *uc, uint64_t address, uint32_t size, void *data)
{
    struct machine *machine = data;
    machine->env->eflags &= ~(uint64_t)(ARITHMETIC_FLAGS | DIRECTION_FLAG);
    machine->looked_at = address & 0xffffffffu;
    if (machine->block && is_plain_iret(machine, machine->block, address))
        return;
    if (!machine->block || is_for_python(machine, machine->block, address))
        machine->python_suspect(uc, address, size, 0);
}

/* For hooks that are Python's: steps up to the instruction at `address`; and leaving its block there. */
__attribute__((visibility("default"))) uint64_t lg_begun(struct machine *machine, uint64_t address)
{
    return steps_begun(machine, address);
}

__attribute__((visibility("default"))) void lg_leave(struct machine *machine, uint64_t address)
{
    machine->steps = steps_begun(machine, address);
    machine->block = 0;
}
