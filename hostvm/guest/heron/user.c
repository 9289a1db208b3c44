/*
 * The programs, in ring 3. They share this text, and read the time where the kernel shows it. What they print does not
 * depend on when they were interrupted; but each of those that compute goes on until it has seen a few ticks go by.
 */
#include "frame.h"
#include "syscalls.h"

typedef unsigned char u8;
typedef unsigned int u32;

#define CLOCK           (*(const volatile u32 *)0x0f000000)
#define HEAP            ((volatile u32 *)0x10000000)
#define WORDS_OF_PAGE   1024
#define TICKS_TO_SEE    24

static u32 by_int(u32 number, u32 arg1, u32 arg2)
{
    u32 result;

    asm volatile("int $0x80" : "=a"(result) : "a"(number), "b"(arg1), "c"(arg2) : "memory");
    return result;
}

/*
 * The kernel finds our stack in %ebp, and comes back to sysenter_return with %ecx and %edx used up.
 */
static u32 by_sysenter(u32 number, u32 arg1, u32 arg2)
{
    u32 result;

    asm volatile("call enter_by_sysenter" : "=a"(result) : "a"(number), "b"(arg1), "c"(arg2) : "edx", "memory");
    return result;
}

asm(".text\n"
    ".globl sysenter_return\n"
    ".type enter_by_sysenter, @function\n"
    "enter_by_sysenter:\n\t"
    "pushl %ebp\n\t"
    "pushl %ecx\n\t"
    "movl %esp, %ebp\n\t"
    "sysenter\n"
    "sysenter_return:\n\t"
    "popl %ecx\n\t"
    "popl %ebp\n\t"
    "ret\n"
    ".size enter_by_sysenter, . - enter_by_sysenter");

static __attribute__((noreturn)) void exit(u32 status)
{
    by_int(SYS_EXIT, status, 0);
    __builtin_trap();
}

static void say(const char *text)
{
    u32 length = 0;

    while (text[length])
        length++;
    by_int(SYS_WRITE, (u32)text, length);
}

/* `name` and a number in a line. */
static void report(const char *name, u32 value)
{
    char number[10];

    say(name);
    for (u32 i = 0; i < 8; i++)
        number[i] = "0123456789abcdef"[value >> (28 - 4 * i) & 15];
    number[8] = '\n';
    number[9] = 0;
    say(number);
}

static void see_ticks(u32 from)
{
    while (CLOCK - from < TICKS_TO_SEE)
        ;
}

static u32 mix(u32 sum, u32 value)
{
    return (sum << 5 | sum >> 27) ^ value * 2654435761u;
}

/* Integers. */
__attribute__((regparm(1), noreturn)) void count(u32 loops)
{
    u32 from = CLOCK, sum = 0, n = 1;

    for (u32 i = 0; i < loops * 2000; i++) {
        n = n & 1 ? 3 * n + 1 : n / 2;
        sum = mix(sum, n);
        if (n == 1)
            n = i + 3;
    }
    see_ticks(from);
    report("count: ", sum);
    exit(sum);
}

/* The words of a double, in which every error would show. */
static u32 words_of(double value)
{
    union {
        double number;
        u32 words[2];
    } bits = { .number = value };

    return mix(bits.words[0], bits.words[1]);
}

/* Two programs with numbers in the FPU all along: somebody else's would spoil them. */
__attribute__((regparm(1), noreturn)) void zeta(u32 loops)
{
    u32 from = CLOCK;
    double sum = 0;

    for (u32 k = 1; k <= loops * 1000 || CLOCK - from < TICKS_TO_SEE; k++) {
        double n = (double)(int)k;

        sum += k <= loops * 1000 ? 1.0 / (n * n) : 0.0;
    }
    report("zeta: ", words_of(sum));
    exit(words_of(sum));
}

__attribute__((regparm(1), noreturn)) void wave(u32 loops)
{
    u32 from = CLOCK;
    double x = 1, v = 0;

    for (u32 k = 1; k <= loops * 1000 || CLOCK - from < TICKS_TO_SEE; k++) {
        double step = k <= loops * 1000 ? 0.015625 : 0;

        v -= x * step;
        x += v * step;
    }
    report("wave: ", mix(words_of(x), words_of(v)));
    exit(words_of(x));
}

/* Pages that are not there yet, written by the program and by the kernel's string moves on its behalf. */
__attribute__((regparm(1), noreturn)) void touch(u32 pages)
{
    u32 sum = 0;

    for (u32 page = 0; page < pages; page++) {
        HEAP[page * WORDS_OF_PAGE + page % WORDS_OF_PAGE] = mix(page, page);
        /* Across the end of the page, into one that may not be there. */
        *(volatile u32 *)((u32)HEAP + (page + 1) * 4096 - 2) = page;
    }
    for (u32 i = 0; i < pages * WORDS_OF_PAGE; i++)
        sum = mix(sum, HEAP[i]);
    report("touch: ", sum);
    exit(sum);
}

/* System calls by both ways, from where registers and flags must come back as they were. */
__attribute__((regparm(1), noreturn)) void calls(u32 loops)
{
    u32 sysenter = by_int(SYS_HAS_SYSENTER, 0, 0), sum = 0;

    for (u32 i = 0; i < loops; i++) {
        sum = mix(sum, i + by_int(SYS_HOW_ENTERED, i, 0));
        if (sysenter)
            sum = mix(sum, i + by_sysenter(SYS_HOW_ENTERED, i, 0));
    }
    report("calls: entered by int at ", by_int(SYS_HOW_ENTERED, 0, 0));
    if (sysenter)
        report("calls: entered by sysenter at ", by_sysenter(SYS_HOW_ENTERED, 0, 0));
    by_int(SYS_DOOR, 0, 0);
    say("calls: waited for a lock\n");
    exit(sum);
}

/* Sleeps, and so leaves the kernel time to idle. */
__attribute__((regparm(1), noreturn)) void napper(u32 naps)
{
    for (u32 i = 0; i < naps; i++)
        by_int(SYS_SLEEP, 1 + i % 3, 0);
    say("napper: had its naps\n");
    exit(naps);
}

/* Has the kernel return with a stack segment that does not exist. */
__attribute__((regparm(1), noreturn)) void wild(u32 segment)
{
    say("wild: returns with a bad stack segment\n");
    by_int(SYS_SET_RETURN_SEGMENT, segment, 0);
    say("wild: came back\n");
    exit(0);
}

/* A stack segment of 16 bits that begins where our stack's last 64 KiB do. */
__attribute__((regparm(1), noreturn)) void stack16(u32 segment)
{
    u32 base = (u32)__builtin_frame_address(0) & 0xffff0000, result;

    by_int(SYS_SET_THREAD_SEGMENT, base << 16 | 0xffff, (base & 0xff000000) | 0xf300 | (base >> 16 & 0xff));
    say("stack16: calls the kernel from a 16-bit stack\n");
    asm volatile("movl %%esp, %%esi\n\t"
                 "movl %%ss, %%edi\n\t"
                 "movl %2, %%ss\n\t"
                 "movzwl %%si, %%esp\n\t"
                 "int $0x80\n\t"
                 "movl %%edi, %%ss\n\t"
                 "movl %%esi, %%esp"
                 : "=a"(result)
                 : "0"(SYS_HOW_ENTERED), "d"(segment), "b"(0), "c"(0)
                 : "esi", "edi", "memory");
    report("stack16: came back from ", result);
    exit(0);
}
