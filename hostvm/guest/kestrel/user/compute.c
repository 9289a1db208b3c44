/*
 * Two programs that compute.
 *
 * crunch: integers; a pseudo-random table, its Collatz sequences and a CRC. Once a round an average on the FPU, so that
 *         the kernel has to keep two programs' FPU registers apart.
 * mix: the FPU, string moves, and stores that cross the end of a page into one that is not there yet.
 */
#include "user.h"

#define TABLE_WORDS     4096
#define BLOCK           (3 * PAGE_SIZE)
#define BLOCKS          16

/* Steps until Collatz' sequence from `n` comes down to 1, at most 100. */
static u32 collatz(u32 n)
{
    u32 steps = 0;

    while (n > 1 && steps < 100) {
        n = n & 1 ? 3 * n + 1 : n / 2;
        steps++;
    }
    return steps;
}

/* The first word of a double: the end of its significand, where any error would show. */
static u32 low_word(double value)
{
    union {
        double number;
        u32 words[2];
    } bits = { .number = value };

    return bits.words[0];
}

/* An average that gives each value half of the weight of the next. */
static double average(const volatile u32 *values, u32 count)
{
    double result = 0;

    for (u32 i = 0; i < count; i++)
        result = (result + (double)(int)(values[i] >> 1)) / 2;
    return result;
}

int crunch_main(int argc, char **argv)
{
    volatile u32 *table = grow_heap(TABLE_WORDS * sizeof(u32));
    u32 rounds = count_from(argc, argv, 4);
    u32 seed = 1, checksum = 0;

    for (u32 round = 1; round <= rounds; round++) {
        for (u32 i = 0; i < TABLE_WORDS; i++) {
            seed = seed * 1664525 + 1013904223;
            table[i] += seed >> 8;
        }
        for (u32 i = 0; i < TABLE_WORDS; i += 16)
            checksum = crc(checksum, table[i] + collatz(table[i] >> 16));
        checksum = crc(checksum, low_word(average(table, TABLE_WORDS)));
    }
    say("crunch: %u rounds, checksum %x\n", rounds, checksum);
    return 0;
}

static void move_words(void *to, const void *from, u32 count)
{
    asm volatile("rep movsl" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
}

static void move_bytes(void *to, const void *from, u32 count)
{
    asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
}

/* A sum that needs the FPU all along: so it matters that nobody else's numbers get into it. */
static double zeta(double sum, u32 first, u32 count)
{
    for (u32 k = first; k < first + count; k++)
        sum += 1.0 / ((double)(int)k * (double)(int)k);
    return sum;
}

int mix_main(int argc, char **argv)
{
    u32 rounds = count_from(argc, argv, 4);
    u8 *heap = grow_heap(BLOCKS * 4 * PAGE_SIZE);
    double sum = 0;
    u32 checksum = 0;

    for (u32 round = 1; round <= rounds; round++) {
        /* A fresh block each time around, until the heap is used up. */
        u8 *block = heap + round % BLOCKS * 4 * PAGE_SIZE;

        sum = zeta(sum, (round - 1) * 2000 + 1, 2000);

        /* Eight bytes from the FPU and four from the CPU across the ends of pages. */
        *(volatile double *)(block + PAGE_SIZE - 4) = sum;
        *(volatile u32 *)(block + 2 * PAGE_SIZE - 2) = checksum + round;

        /* Copies that are not aligned with the pages, nor with each other; the second one overlaps itself. */
        move_words(block + PAGE_SIZE + 4, block + PAGE_SIZE - 4, 1000);
        move_bytes(block + 5, block + PAGE_SIZE - 4, 5000);
        for (u32 i = 0; i < BLOCK; i += 61)
            checksum = crc(checksum, block[i]);
        if (round % 3 == 0)
            syscall(SYS_YIELD, 0, 0, 0);
    }
    say("mix: %u rounds, checksum %x\n", rounds, checksum);
    return 0;
}
