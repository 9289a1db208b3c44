/*
 * Text: formatting, printing, the two ways to end, and the few functions that everybody needs on strings and memory.
 */
#include "kernel.h"

/* The Host reads this many bytes of a last message, whatever its length. */
#define MESSAGE_SIZE 128

struct text {
    char *at, *end;
};

static char line[256];
static char message[MESSAGE_SIZE];

/* gcc calls these for what it finds to be clearing and copying; so do we. */
void *memset(void *start, int value, u32 count)
{
    void *at = start;
    u32 words = count / 4;

    asm volatile("rep stosl" : "+D"(at), "+c"(words) : "a"((value & 0xff) * 0x01010101u) : "memory");
    count %= 4;
    asm volatile("rep stosb" : "+D"(at), "+c"(count) : "a"(value) : "memory");
    return start;
}

void *memcpy(void *to, const void *from, u32 count)
{
    void *at = to;
    u32 words = count / 4;

    asm volatile("rep movsl" : "+D"(at), "+S"(from), "+c"(words) : : "memory");
    count %= 4;
    asm volatile("rep movsb" : "+D"(at), "+S"(from), "+c"(count) : : "memory");
    return to;
}

int strings_equal(const char *a, const char *b)
{
    while (*a && *a == *b)
        a++, b++;
    return *a == *b;
}

void copy_name(char *to, const char *from)
{
    u32 i = 0;

    for (; i < NAME_SIZE - 1 && from[i]; i++)
        to[i] = from[i];
    to[i] = 0;
}

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

/* Length without the NUL at the end. */
u32 format_text(char *buffer, u32 size, const char *format, __builtin_va_list args)
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
        case 'c':
            add_char(&text, (char)__builtin_va_arg(args, int));
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
    return (u32)(text.at - buffer);
}

void print(const char *format, ...)
{
    __builtin_va_list args;
    u32 flags = irq_save();

    __builtin_va_start(args, format);
    console_write(line, format_text(line, sizeof(line), format, args));
    __builtin_va_end(args);
    irq_restore(flags);
}

static __attribute__((noreturn)) void shutdown(const char *last_words, u32 how)
{
    irq_disable();
    hcall(LHCALL_SHUTDOWN, physical(last_words), how, 0);
    for (;;)
        hcall(LHCALL_HALT, 0, 0, 0);
}

/* By these words the Host tells a shutdown from a crash. */
static const char power_down[MESSAGE_SIZE] = "Power down";

void power_off(void)
{
    shutdown(power_down, LGUEST_SHUTDOWN_POWEROFF);
}

static const char restarting[MESSAGE_SIZE] = "Restarting";

void restart(void)
{
    shutdown(restarting, LGUEST_SHUTDOWN_RESTART);
}

static void print_registers(const struct trap_frame *frame)
{
    int user = from_user(frame);

    print("eip %x  cs %x  eflags %x  trap %u, error %x, cr2 %x\n", frame->eip, frame->cs, frame->eflags,
          frame->vector, frame->error_code, lguest_data.cr2);
    print("eax %x  ebx %x  ecx %x  edx %x\n", frame->eax, frame->ebx, frame->ecx, frame->edx);
    print("esi %x  edi %x  ebp %x  esp %x\n", frame->esi, frame->edi, frame->ebp,
          user ? frame->esp : (u32)&frame->esp);
}

/* The kernel cannot go on. `frame` is where it was, or 0. Whatever is broken, this happens once. */
void panic(const struct trap_frame *frame, const char *format, ...)
{
    static int panicking;
    __builtin_va_list args;

    irq_disable();
    if (panicking)
        shutdown("kestrel: panic in panic", LGUEST_SHUTDOWN_POWEROFF);
    panicking = 1;
    __builtin_va_start(args, format);
    format_text(message, sizeof(message), format, args);
    __builtin_va_end(args);
    print("kestrel: PANIC: %s\n", message);
    print("process %u (%s)\n", current->pid, current->name);
    if (frame)
        print_registers(frame);
    shutdown(message, LGUEST_SHUTDOWN_POWEROFF);
}
