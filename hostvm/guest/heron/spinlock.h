/*
 * Spinlocks, for more processors than the one that there is (the timer plays another one, process.c).
 *
 * Whoever waits with interrupts off keeps everybody waiting. So they are switched on while the lock is somebody
 * else's, and off again before the next attempt: by the hooks for inline assembly.
 */
#ifndef SPINLOCK_H
#define SPINLOCK_H

#include "mach_asm.h"
#include "platform.h"

/* 1 is free; who takes one off and is left with a negative number has to wait. */
struct spinlock {
    volatile signed char free;
    u32 waited;
};

static inline void irq_disable(void)
{
    asm volatile(CLI_STRING : : : "memory", "cc");
}

static inline void irq_enable(void)
{
    asm volatile(STI_STRING : : : "memory", "cc");
}

/* Interrupts are on before, and off behind. */
static inline void spin_lock_irq(struct spinlock *lock)
{
    asm volatile(CLI_STRING "\n"
                 "1:\tlock decb %0\n\t"
                 "jns 3f\n\t"
                 "incl %1\n\t"
                 STI_STRING "\n"
                 "2:\tpause\n\t"
                 "cmpb $0, %0\n\t"
                 "jle 2b\n\t"
                 CLI_STRING "\n\t"
                 "jmp 1b\n"
                 "3:"
                 : "+m"(lock->free), "+m"(lock->waited)
                 :
                 : "memory", "cc");
}

static inline void spin_unlock(struct spinlock *lock)
{
    asm volatile("movb $1, %0" : "=m"(lock->free) : : "memory");
}

static inline void spin_unlock_irq(struct spinlock *lock)
{
    spin_unlock(lock);
    irq_enable();
}

/* For who must not wait; whether it was free. Interrupts are off. */
static inline int spin_trylock(struct spinlock *lock)
{
    signed char free = 0;

    asm volatile("xchgb %0, %1" : "+q"(free), "+m"(lock->free) : : "memory");
    if (free <= 0)
        lock->free = free;
    return free > 0;
}

#endif
