/*
 * The two programs, which run in ring 3. They share this text and nothing else: each has its own heap and stack, empty
 * at first. What they compute depends on `loops` alone, never on when they were interrupted, so their checksums tell
 * whether the machine below them kept its promises.
 *
 * crunch: integers; a pseudo-random table, its Collatz sequences and a CRC. Once a round a sum on the FPU, so that the
 *         kernel has to keep two programs' FPU registers apart.
 * mix: the FPU, string moves, and stores that cross the end of a page into one that is not there yet.
 */
#include "lguest.h"

#define HEAP            ((u8 *)0x10000000)
#define TABLE_WORDS     4096
#define BLOCK           (3 * PAGE_SIZE)

#define SYS_EXIT        1
#define SYS_WRITE       4
#define SYS_GETPID      20
#define SYS_YIELD       158
#define SYS_SLEEP       162

static u32 syscall(u32 number, u32 arg1, u32 arg2, u32 arg3)
{
    u32 result;

    asm volatile("int $0x80" : "=a"(result) : "a"(number), "b"(arg1), "c"(arg2), "d"(arg3) : "memory");
    return result;
}

static __attribute__((noreturn)) void exit(u32 status)
{
    syscall(SYS_EXIT, status, 0, 0);
    __builtin_trap();
}

static char *add(char *at, const char *string)
{
    while (*string)
        *at++ = *string++;
    return at;
}

static char *add_hex(char *at, u32 value)
{
    for (int shift = 28; shift >= 0; shift -= 4)
        *at++ = "0123456789abcdef"[value >> shift & 15];
    return at;
}

static char *add_decimal(char *at, u32 value)
{
    if (value >= 10)
        at = add_decimal(at, value / 10);
    *at++ = (char)('0' + value % 10);
    return at;
}

static void report(const char *name, u32 round, u32 loops, u32 checksum)
{
    char line[80];
    char *at = add(line, name);

    at = add(at, "[");
    at = add_decimal(at, syscall(SYS_GETPID, 0, 0, 0));
    at = add(at, "]: round ");
    at = add_decimal(at, round);
    at = add(at, " of ");
    at = add_decimal(at, loops);
    at = add(at, ", checksum ");
    at = add_hex(at, checksum);
    at = add(at, "\n");
    syscall(SYS_WRITE, 1, (u32)line, (u32)(at - line));
}

static u32 crc(u32 crc, u32 value)
{
    crc ^= value;
    for (int bit = 0; bit < 8; bit++)
        crc = crc & 1 ? crc >> 1 ^ 0xedb88320 : crc >> 1;
    return crc;
}

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

__attribute__((regparm(1), noreturn)) void crunch(u32 loops)
{
    volatile u32 *table = (volatile u32 *)HEAP;
    u32 seed = 1, checksum = 0;

    for (u32 round = 1; round <= loops; round++) {
        for (u32 i = 0; i < TABLE_WORDS; i++) {
            seed = seed * 1664525 + 1013904223;
            table[i] += seed >> 8;
        }
        for (u32 i = 0; i < TABLE_WORDS; i += 16)
            checksum = crc(checksum, table[i] + collatz(table[i] >> 16));
        checksum = crc(checksum, low_word(average(table, TABLE_WORDS)));
        report("crunch", round, loops, checksum);
        if (round % 4 == 0)
            syscall(SYS_SLEEP, 2, 0, 0);
    }
    exit(checksum);
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

__attribute__((regparm(1), noreturn)) void mix(u32 loops)
{
    double sum = 0;
    u32 checksum = 0;

    for (u32 round = 1; round <= loops; round++) {
        /* A fresh block each time around, until the heap is used up. */
        u8 *block = HEAP + round % 64 * 4 * PAGE_SIZE;

        sum = zeta(sum, (round - 1) * 2000 + 1, 2000);

        /* Eight bytes from the FPU and four from the CPU across the ends of pages. */
        *(volatile double *)(block + PAGE_SIZE - 4) = sum;
        *(volatile u32 *)(block + 2 * PAGE_SIZE - 2) = checksum + round;

        /* Copies that are not aligned with the pages, nor with each other; the second one overlaps itself. */
        move_words(block + PAGE_SIZE + 4, block + PAGE_SIZE - 4, 1000);
        move_bytes(block + 5, block + PAGE_SIZE - 4, 5000);

        for (u32 i = 0; i < BLOCK; i += 61)
            checksum = crc(checksum, block[i]);
        report("mix", round, loops, checksum);
        if (round % 3 == 0)
            syscall(SYS_YIELD, 0, 0, 0);
    }
    exit(checksum);
}
