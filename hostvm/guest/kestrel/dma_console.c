/*
 * The console in generation 203. What is sent to its key is printed, device or not; so this is the early console too.
 *
 * What is typed comes into one buffer. If more comes before that one is free it is overwritten, so the interrupt's
 * handler brings it to safety at once.
 */
#include "dma.h"

#define CONSOLE_KEY     0
#define BUFFER_SIZE     256
#define TYPED_SIZE      4096
#define LONGEST_SECTION 0xf000u

static volatile struct lguest_dma input;
static char in_buffer[BUFFER_SIZE];
static char typed[TYPED_SIZE];
static volatile u32 typed_read, typed_filled; /* ever growing */
static int there_is_input;

static u32 min(u32 a, u32 b)
{
    return a < b ? a : b;
}

/* `text` is the kernel's. */
void console_write(const char *text, u32 length)
{
    struct lguest_dma dma;
    u32 flags = irq_save();

    while (length) {
        u32 part = min(length, LONGEST_SECTION);

        set_section(&dma, 0, text, part);
        send_dma(CONSOLE_KEY, &dma);
        text += part;
        length -= part;
    }
    irq_restore(flags);
}

static void input_interrupt(void)
{
    for (u32 i = 0; i < min(input.used_len, BUFFER_SIZE); i++) {
        if (typed_filled - typed_read < TYPED_SIZE)
            typed[typed_filled++ % TYPED_SIZE] = in_buffer[i];
    }
    input.used_len = 0;
    wake_up(&typed_filled);
}

/* Some bytes, at least one; 0 means that there never will be any. */
u32 console_read(char *buffer, u32 length)
{
    u32 count = 0;

    if (!there_is_input)
        return 0;
    irq_disable();
    while (typed_read == typed_filled)
        wait_for(&typed_filled);
    while (count < length && typed_read != typed_filled)
        buffer[count++] = typed[typed_read++ % TYPED_SIZE];
    irq_enable();
    return count;
}

void init_dma_console(u32 irq)
{
    set_section((struct lguest_dma *)&input, 0, in_buffer, sizeof(in_buffer));
    request_irq(irq, input_interrupt);
    there_is_input = bind_dma(CONSOLE_KEY, &input, 1, irq);
}
