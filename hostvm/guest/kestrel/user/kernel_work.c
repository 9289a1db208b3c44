/*
 * Programs that keep the kernel busy.
 *
 * calls: system calls, most of them with something wrong; each must say what Linux says.
 * cow: a parent and its children share memory until one of them writes.
 * echo: lines from the console come back, until one begins with "exit" or there is no more.
 * disk: sectors of the block device, written, read back and put right again.
 */
#include "user.h"

#define ERROR(number)   ((u32)-(number))
#define ENOENT          2
#define EBADF           9
#define ECHILD          10
#define EFAULT          14
#define EINVAL          22
#define ENOSYS          38

#define MAP_ANONYMOUS   0x22
#define SEEK_SET        0
#define SECTOR          512

struct expectation {
    u32 number, arg1, arg2, arg3, result;
};

/* Arguments that no program may get away with. */
static const struct expectation expectations[] = {
    { SYS_WRITE, 1, 0xc0100000, 4, ERROR(EFAULT) },
    { SYS_WRITE, 1, 0xbffffffc, 8, ERROR(EFAULT) },
    { SYS_WRITE, 7, 0x08048000, 4, ERROR(EBADF) },
    { SYS_READ, 0, 0x08048000, 4, ERROR(EFAULT) },
    { SYS_OPEN, (u32) "/no/such/file", 0, 0, ERROR(ENOENT) },
    { SYS_OPEN, 0x10, 0, 0, ERROR(EFAULT) },
    { SYS_EXECVE, (u32) "/no/such/program", 0, 0, ERROR(ENOENT) },
    { SYS_EXECVE, 0xffffffff, 0, 0, ERROR(EFAULT) },
    { SYS_UNAME, 0, 0, 0, ERROR(EFAULT) },
    { SYS_WAITPID, ~0u, 0, 0, ERROR(ECHILD) },
    { SYS_MUNMAP, 0x40000001, PAGE_SIZE, 0, ERROR(EINVAL) },
    { 999, 0, 0, 0, ERROR(ENOSYS) },
    { 0xffffffff, 0, 0, 0, ERROR(ENOSYS) },
};

static u32 wrong_answers(void)
{
    u32 wrong = 0;

    for (u32 i = 0; i < sizeof(expectations) / sizeof(expectations[0]); i++) {
        const struct expectation *e = &expectations[i];
        u32 result = syscall(e->number, e->arg1, e->arg2, e->arg3);

        if (result == e->result)
            continue;
        say("calls: number %u, case %u, gives %x and not %x\n", e->number, i, result, e->result);
        wrong++;
    }
    return wrong;
}

/* Maps come as zeros, keep what is written, and are gone when they are given back. */
static u32 sum_of_maps(u32 rounds)
{
    u32 sum = 0;

    for (u32 round = 0; round < rounds; round++) {
        u32 arguments[6] = { 0, 5 * PAGE_SIZE, 3, MAP_ANONYMOUS, ~0u, 0 };
        u32 *map = (u32 *)syscall(SYS_OLD_MMAP, (u32)arguments, 0, 0);

        for (u32 i = 0; i < 5; i++) {
            sum = crc(sum, map[i * PAGE_SIZE / 4]);
            map[i * PAGE_SIZE / 4] = round + i;
        }
        syscall(SYS_MUNMAP, (u32)map + PAGE_SIZE, 3 * PAGE_SIZE, 0);
        sum = crc(sum, map[0] + map[4 * PAGE_SIZE / 4]);
        syscall(SYS_MUNMAP, (u32)map, 5 * PAGE_SIZE, 0);
    }
    return sum;
}

int calls_main(int argc, char **argv)
{
    u32 rounds = count_from(argc, argv, 4);
    u32 wrong = wrong_answers();

    for (u32 i = 0; i < rounds * 16; i++)
        syscall(SYS_GETPID, 0, 0, 0);
    say("calls: %u wrong answers, maps %x\n", wrong, sum_of_maps(rounds));
    return wrong != 0;
}

#define SHARED_PAGES 4

static u32 shared[SHARED_PAGES][PAGE_SIZE / 4] __attribute__((aligned(PAGE_SIZE)));

static u32 sum_of_pages(void)
{
    u32 sum = 0;

    for (u32 page = 0; page < SHARED_PAGES; page++) {
        for (u32 i = 0; i < PAGE_SIZE / 4; i += 64)
            sum = crc(sum, shared[page][i]);
    }
    return sum;
}

static void write_pages(u32 value)
{
    for (u32 page = 0; page < SHARED_PAGES; page++) {
        for (u32 i = 0; i < PAGE_SIZE / 4; i += 64)
            shared[page][i] = value + page * 1000 + i;
    }
}

/* The child sees its parent's pages, then only its own. */
static __attribute__((noreturn)) void be_a_child(u32 number)
{
    u32 before = sum_of_pages();

    write_pages(number);
    syscall(SYS_YIELD, 0, 0, 0);
    say("cow: child %u found %x and leaves %x\n", number, before, sum_of_pages());
    exit(0);
}

int cow_main(int argc, char **argv)
{
    u32 children = count_from(argc, argv, 4);
    u32 before, after, status;

    if (children > 8)
        children = 8;
    write_pages(0);
    before = sum_of_pages();
    for (u32 number = 1; number <= children; number++) {
        if (!split())
            be_a_child(number);
    }
    /* One page is written while it is shared, and must not show in the children's. */
    shared[0][1] = 0x1234;
    while (wait_child(-1, &status) > 0)
        ;
    after = sum_of_pages();
    say("cow: parent had %x and has %x\n", before, after);
    return before != after;
}

/* Bytes of the text up to the first line that begins with "exit"; `at_end` is whether there is one. */
static u32 text_before_exit(const char *text, u32 length, int *at_end)
{
    for (u32 i = 0; i + 4 <= length; i++) {
        if ((i == 0 || text[i - 1] == '\n') && text[i] == 'e' && text[i + 1] == 'x' && text[i + 2] == 'i' &&
            text[i + 3] == 't') {
            *at_end = 1;
            return i;
        }
    }
    return length;
}

int echo_main(int argc, char **argv)
{
    char text[128];
    u32 bytes = 0;
    int at_end = 0;

    (void)argc, (void)argv;
    say("echo: type something\n");
    while (!at_end) {
        int length = (int)syscall(SYS_READ, 0, (u32)text, sizeof(text));
        u32 part;

        if (length <= 0)
            break;
        part = text_before_exit(text, (u32)length, &at_end);
        bytes += part;
        syscall(SYS_WRITE, 1, (u32)text, part);
    }
    say("echo: %u bytes\n", bytes);
    return 0;
}

static u32 move_sector(u32 number, u32 disk, u32 sector, u32 *buffer)
{
    syscall(SYS_LSEEK, disk, sector * SECTOR, SEEK_SET);
    return syscall(number, disk, (u32)buffer, SECTOR) == SECTOR;
}

static u32 sector_sum(const u32 *buffer)
{
    u32 sum = 0;

    for (u32 i = 0; i < SECTOR / 4; i++)
        sum = crc(sum, buffer[i]);
    return sum;
}

/* Whether the sector keeps what is written into it. Afterwards it holds what it held before. */
static u32 try_sector(u32 disk, u32 sector)
{
    u32 old[SECTOR / 4], pattern[SECTOR / 4], again[SECTOR / 4];
    u32 ok;

    for (u32 i = 0; i < SECTOR / 4; i++)
        pattern[i] = sector * 0x01010101 + i;
    ok = move_sector(SYS_READ, disk, sector, old) && move_sector(SYS_WRITE, disk, sector, pattern) &&
         move_sector(SYS_READ, disk, sector, again) && move_sector(SYS_WRITE, disk, sector, old);
    return ok && sector_sum(pattern) == sector_sum(again);
}

int disk_main(int argc, char **argv)
{
    u32 disk = syscall(SYS_OPEN, (u32) "/dev/vda", 0, 0);
    u32 sectors = count_from(argc, argv, 4), good = 0;

    if ((int)disk < 0) {
        say("disk: there is none\n");
        return 0;
    }
    for (u32 sector = 0; sector < sectors; sector++)
        good += try_sector(disk, sector);
    say("disk: %u of %u sectors are good\n", good, sectors);
    return good != sectors;
}
