/*
 * System calls, text and checksums for the built-in programs.
 */
#include "user.h"

u32 syscall(u32 number, u32 arg1, u32 arg2, u32 arg3)
{
    u32 result;

    asm volatile("int $0x80" : "=a"(result) : "a"(number), "b"(arg1), "c"(arg2), "d"(arg3) : "memory");
    return result;
}

void exit(u32 status)
{
    syscall(SYS_EXIT, status, 0, 0);
    __builtin_trap();
}

int split(void)
{
    return (int)syscall(SYS_FORK, 0, 0, 0);
}

int wait_child(int pid, u32 *status)
{
    return (int)syscall(SYS_WAITPID, (u32)pid, (u32)status, 0);
}

void sleep_ms(u32 milliseconds)
{
    u32 time[2] = { milliseconds / 1000, milliseconds % 1000 * 1000000 };

    syscall(SYS_NANOSLEEP, (u32)time, 0, 0);
}

void *grow_heap(u32 bytes)
{
    u32 start = syscall(SYS_BRK, 0, 0, 0);

    return syscall(SYS_BRK, start + bytes, 0, 0) == start + bytes ? (void *)start : 0;
}

static char *add_number(char *at, u32 value, u32 base, u32 width)
{
    if (value >= base || width > 1)
        at = add_number(at, value / base, base, width ? width - 1 : 0);
    *at++ = "0123456789abcdef"[value % base];
    return at;
}

static char *add_string(char *at, const char *string)
{
    while (*string)
        *at++ = *string++;
    return at;
}

/* A line of at most 200 characters, in one system call. */
void say(const char *format, ...)
{
    char line[200], *at = line;
    __builtin_va_list args;

    __builtin_va_start(args, format);
    for (; *format; format++) {
        if (*format != '%') {
            *at++ = *format;
            continue;
        }
        switch (*++format) {
        case 's':
            at = add_string(at, __builtin_va_arg(args, const char *));
            break;
        case 'u':
            at = add_number(at, __builtin_va_arg(args, u32), 10, 1);
            break;
        case 'x':
            at = add_number(at, __builtin_va_arg(args, u32), 16, 8);
            break;
        }
    }
    __builtin_va_end(args);
    syscall(SYS_WRITE, 1, (u32)line, (u32)(at - line));
}

u32 count_from(int argc, char **argv, u32 otherwise)
{
    u32 value = 0;

    if (argc < 2)
        return otherwise;
    for (const char *digit = argv[1]; *digit >= '0' && *digit <= '9'; digit++)
        value = value * 10 + (u32)(*digit - '0');
    return value;
}

u32 crc(u32 crc, u32 value)
{
    crc ^= value;
    for (int bit = 0; bit < 8; bit++)
        crc = crc & 1 ? crc >> 1 ^ 0xedb88320 : crc >> 1;
    return crc;
}
