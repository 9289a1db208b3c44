/*
 * talk [ROUNDS]: for two Guests on one network. Each says something to the other and waits for what it has to say, so
 * many times; what is said can be told from what it should have been.
 */
#include "user.h"

#define LENGTH 200

static u8 said[LENGTH], heard[LENGTH];

static void fill(u8 *text, u32 round)
{
    for (u32 i = 0; i < LENGTH; i++)
        text[i] = (u8)(i < 4 ? round >> 8 * i : i * 7 + round);
}

static u32 difference(const u8 *text, u32 round)
{
    static u8 expected[LENGTH];
    u32 at = 0;

    fill(expected, round);
    while (at < LENGTH && text[at] == expected[at])
        at++;
    return at;
}

int talk_main(int argc, char **argv)
{
    u32 rounds = count_from(argc, argv, 8), garbled = 0, sum = 0;
    u32 net = syscall(SYS_OPEN, (u32) "/dev/net", 0, 0);

    if ((int)net < 0) {
        say("talk: there is no network\n");
        return 1;
    }
    for (u32 round = 0; round < rounds; round++) {
        u32 at;

        fill(said, round);
        while (!syscall(SYS_WRITE, net, (u32)said, LENGTH))
            sleep_ms(1);
        syscall(SYS_READ, net, (u32)heard, LENGTH);
        at = difference(heard, round);
        if (at < LENGTH) {
            garbled++;
            say("talk: round %u differs from byte %u on\n", round, at);
        }
        for (u32 i = 0; i < LENGTH; i++)
            sum = crc(sum, heard[i]);
    }
    say("talk: %u rounds, %u garbled, checksum %x\n", rounds, garbled, sum);
    return garbled != 0;
}
