/*
 * The console. Until a console device is found, and if there is none for good, a text goes to the Host as it is: NOTIFY
 * with an address that belongs to no device is the early console. It cannot be read, so reading gives the end of file.
 *
 * With a device, texts are copied into buffers of which several can be under way, and input arrives in one that is handed
 * to the device again once it has been read empty.
 */
#include "virtio.h"

#define BUFFERS         16
#define BUFFER_SIZE     256

static struct virtqueue *input, *output;

/* Buffer i is under way if its request's number is in the table. */
static char out_buffers[BUFFERS][BUFFER_SIZE];
static int out_requests[BUFFERS] = { [0 ... BUFFERS - 1] = -1 };

static char in_buffer[BUFFER_SIZE];
static volatile u32 in_read, in_filled;
static char early[BUFFER_SIZE];

static u32 min(u32 a, u32 b)
{
    return a < b ? a : b;
}

static void write_early(const char *text, u32 length)
{
    while (length) {
        u32 part = min(length, BUFFER_SIZE - 1);

        memcpy(early, text, part);
        early[part] = 0;
        hcall(LHCALL_NOTIFY, physical(early), 0, 0);
        text += part;
        length -= part;
    }
}

static void collect_output(void)
{
    u32 length;
    int request;

    while ((request = virtqueue_take(output, &length)) >= 0) {
        for (u32 i = 0; i < BUFFERS; i++) {
            if (out_requests[i] == request)
                out_requests[i] = -1;
        }
    }
}

/* There is no one to switch to in here, so if all are under way the CPU waits. */
static u32 free_buffer(void)
{
    for (;;) {
        collect_output();
        for (u32 i = 0; i < BUFFERS; i++) {
            if (out_requests[i] < 0)
                return i;
        }
    }
}

static void write_device(const char *text, u32 length)
{
    while (length) {
        u32 i = free_buffer();
        u32 part = min(length, BUFFER_SIZE);
        struct buffer buffer = { out_buffers[i], part };

        memcpy(out_buffers[i], text, part);
        out_requests[i] = virtqueue_add(output, &buffer, 1, 0);
        virtqueue_kick(output);
        text += part;
        length -= part;
    }
}

/* `text` is the kernel's. */
void console_write(const char *text, u32 length)
{
    u32 flags = irq_save();

    if (output)
        write_device(text, length);
    else
        write_early(text, length);
    irq_restore(flags);
}

static void output_interrupt(void)
{
    collect_output();
}

static void offer_input(void)
{
    struct buffer buffer = { in_buffer, sizeof(in_buffer) };

    in_read = in_filled = 0;
    virtqueue_add(input, &buffer, 0, 1);
    virtqueue_kick(input);
}

static void input_interrupt(void)
{
    u32 length;

    if (virtqueue_take(input, &length) < 0)
        return;
    in_filled = min(length, sizeof(in_buffer));
    if (in_filled)
        wake_up(&in_filled);
    else
        offer_input();
}

/* Some bytes, at least one; 0 means that there never will be any. */
u32 console_read(char *buffer, u32 length)
{
    u32 count;

    if (!input)
        return 0;
    irq_disable();
    while (in_read == in_filled)
        wait_for(&in_filled);
    count = min(length, in_filled - in_read);
    memcpy(buffer, in_buffer + in_read, count);
    in_read += count;
    if (in_read == in_filled)
        offer_input();
    irq_enable();
    return count;
}

void init_virtio_console(struct virtqueue *its_input, struct virtqueue *its_output)
{
    input = its_input;
    output = its_output;
    request_irq(input->irq, input_interrupt);
    request_irq(output->irq, output_interrupt);
    offer_input();
}
