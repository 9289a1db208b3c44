/*
 * The table of built-in programs, and the first of them.
 *
 * init starts the others, all at once, and waits for them. What each computes depends on its argument alone, never on
 * when it was interrupted; so its checksum tells whether the machine below kept its promises.
 */
#include "user.h"

const struct program programs[] = {
    { "init", init_main },
    { "crunch", crunch_main },
    { "mix", mix_main },
    { "fpu", fpu_main },
    { "calls", calls_main },
    { "cow", cow_main },
    { "echo", echo_main },
    { "disk", disk_main },
    { "wild", wild_main },
    { "idle", idle_main },
    { "batch", batch_main },
#ifdef TALK
    { "talk", talk_main },
#endif
    { "", 0 },
};

static const char *const started[] = { "crunch", "mix", "fpu", "calls", "cow", "disk" };
#define STARTED (sizeof(started) / sizeof(started[0]))

static void start(const char *name, char *loops)
{
    char *argv[] = { (char *)name, loops, 0 };

    if (split())
        return;
    syscall(SYS_EXECVE, (u32)name, (u32)argv, 0);
    say("init: there is no program %s\n", name);
    exit(127);
}

/* init [LOOPS]: its status is how many of the others failed. */
int init_main(int argc, char **argv)
{
    static char four[] = "4";
    u32 failed = 0, status;

    for (u32 i = 0; i < STARTED; i++)
        start(started[i], argc > 1 ? argv[1] : four);
    while (wait_child(-1, &status) > 0)
        failed += status != 0;
    return (int)failed;
}

/* batch [N]: one after another, two programs side by side, N times. */
int batch_main(int argc, char **argv)
{
    static char two[] = "2";
    u32 count = count_from(argc, argv, 4), failed = 0, status;

    for (u32 i = 0; i < count; i++) {
        start("mix", two);
        start("cow", two);
        while (wait_child(-1, &status) > 0)
            failed += status != 0;
    }
    return (int)failed;
}

/* idle [N]: sleeps N times for a while, so that nobody runs. */
int idle_main(int argc, char **argv)
{
    u32 count = count_from(argc, argv, 4);

    for (u32 i = 0; i < count; i++)
        sleep_ms(5);
    say("idle: slept %u times\n", count);
    return 0;
}

/* wild [KERNEL]: writes where it must not, to a hole or to the kernel's memory. */
int wild_main(int argc, char **argv)
{
    (void)argv;
    *(volatile u32 *)(argc > 1 ? 0xc0100000 : 0x00000010) = 0x1dea;
    say("wild: got away with it\n");
    return 1;
}
