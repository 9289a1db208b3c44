/*
 * Text. Nothing that is printed may depend on when interrupts come: heron says the same on every machine.
 */
#include "kernel.h"
#include "spinlock.h"

static char *add_string(char *at, const char *end, const char *string)
{
    while (*string && at < end)
        *at++ = *string++;
    return at;
}

static char *add_number(char *at, const char *end, u32 value, u32 base, u32 width)
{
    char digits[11];
    u32 first = 10;

    digits[10] = 0;
    do {
        digits[--first] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value || 10 - first < width);
    return add_string(at, end, &digits[first]);
}

static void format_text(char *at, const char *end, const char *format, __builtin_va_list args)
{
    for (; *format && at < end; format++) {
        if (*format != '%')
            *at++ = *format;
        else if (*++format == 's')
            at = add_string(at, end, __builtin_va_arg(args, const char *));
        else
            at = add_number(at, end, __builtin_va_arg(args, u32), *format == 'x' ? 16 : 10, *format == 'x' ? 8 : 1);
    }
    *at = 0;
}

/* Interrupts are off, or none can come. */
void print(const char *format, ...)
{
    static char line[160];
    __builtin_va_list args;

    __builtin_va_start(args, format);
    format_text(line, line + sizeof(line) - 1, format, args);
    __builtin_va_end(args);
    platform->print(line);
}

void panic(const char *format, ...)
{
    static char message[128];
    __builtin_va_list args;

    irq_disable();
    __builtin_va_start(args, format);
    format_text(message, message + sizeof(message) - 1, format, args);
    __builtin_va_end(args);
    platform->print(message);
    platform->print("\n");
    platform->power_off(message);
    for (;;)
        platform->wait();
}
