/*
 * Printing. lguest's early console takes a NOTIFY hypercall with the physical address of a text: an address that
 * belongs to no device is one. So a line is put together in one buffer and shown with one hypercall.
 */
#include "kernel.h"

/* The Host reads this many bytes of a last message, whatever its length. */
#define MESSAGE_SIZE 128

struct text {
    char *at, *end;
};

static char line[256];
static char message[MESSAGE_SIZE];

static void add_char(struct text *text, char c)
{
    if (text->at < text->end)
        *text->at++ = c;
}

static void add_string(struct text *text, const char *string)
{
    while (*string)
        add_char(text, *string++);
}

static void add_number(struct text *text, u32 value, u32 base, u32 width)
{
    char digits[10];
    u32 count = 0;

    do {
        digits[count++] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value || count < width);
    while (count)
        add_char(text, digits[--count]);
}

static void format_text(char *buffer, u32 size, const char *format, __builtin_va_list args)
{
    struct text text = { buffer, buffer + size - 1 };

    for (; *format; format++) {
        if (*format != '%') {
            add_char(&text, *format);
            continue;
        }
        switch (*++format) {
        case 's':
            add_string(&text, __builtin_va_arg(args, const char *));
            break;
        case 'u':
            add_number(&text, __builtin_va_arg(args, u32), 10, 1);
            break;
        case 'x':
            add_number(&text, __builtin_va_arg(args, u32), 16, 8);
            break;
        }
    }
    *text.at = 0;
}

void print(const char *format, ...)
{
    __builtin_va_list args;
    u32 flags = irq_save();

    __builtin_va_start(args, format);
    format_text(line, sizeof(line), format, args);
    __builtin_va_end(args);
    hcall(LHCALL_NOTIFY, physical(line), 0, 0);
    irq_restore(flags);
}

/*
 * Show a program's text, which the caller has found to lie in user space. Copying it may fault a page in; interrupts
 * stay as they are for that, and no other process can be scheduled meanwhile.
 */
void write_console(const char *text, u32 length)
{
    while (length) {
        u32 part = length < sizeof(line) - 1 ? length : sizeof(line) - 1;

        for (u32 i = 0; i < part; i++)
            line[i] = text[i];
        line[part] = 0;
        hcall(LHCALL_NOTIFY, physical(line), 0, 0);
        text += part;
        length -= part;
    }
}

void shutdown(const char *format, ...)
{
    __builtin_va_list args;

    irq_disable();
    __builtin_va_start(args, format);
    format_text(message, sizeof(message), format, args);
    __builtin_va_end(args);
    hcall(LHCALL_SHUTDOWN, physical(message), LGUEST_SHUTDOWN_POWEROFF, 0);
    for (;;)
        hcall(LHCALL_HALT, 0, 0, 0);
}
