/*
 * fpu: two processes keep different numbers in the same registers, an x87 register, an SSE register and the control
 * word, while they make way for each other. Nobody may find the other's.
 */
#include "user.h"

/* Both round to 64 bits; one to nearest, the other up. */
#define CONTROL_NEAREST 0x037f
#define CONTROL_UP      0x0b7f

static void set_control(u32 word)
{
    unsigned short control = (unsigned short)word;

    asm volatile("fninit\n\tfldcw %0" : : "m"(control));
}

static u32 control(void)
{
    unsigned short control;

    asm volatile("fnstcw %0" : "=m"(control));
    return control;
}

static double keep_x87(double value)
{
    double result;
    u32 number = SYS_YIELD;

    asm volatile("fldl %2\n\tint $0x80\n\tfstpl %0" : "=m"(result), "+a"(number) : "m"(value) : "memory");
    return result;
}

static u32 keep_sse(u32 value)
{
    u32 result, number = SYS_YIELD;

    asm volatile("movd %2, %%xmm3\n\tint $0x80\n\tmovd %%xmm3, %0"
                 : "=r"(result), "+a"(number) : "r"(value) : "memory");
    return result;
}

static u32 lost_numbers(u32 rounds, u32 control_word)
{
    u32 lost = 0;

    set_control(control_word);
    for (u32 i = 1; i <= rounds; i++) {
        /* In memory, or it would have more digits than a double. */
        volatile double value = (double)(int)(i + control_word) / 3;

        lost += keep_x87(value) != value;
        lost += keep_sse(i * control_word) != i * control_word;
        lost += control() != control_word;
    }
    return lost;
}

int fpu_main(int argc, char **argv)
{
    u32 rounds = count_from(argc, argv, 4);
    u32 status = 0, lost;
    int child = split();

    lost = lost_numbers(rounds, child ? CONTROL_NEAREST : CONTROL_UP);
    say("fpu: %s lost %u of its numbers\n", child ? "parent" : "child", lost);
    if (child)
        wait_child(child, &status);
    return lost || status;
}
