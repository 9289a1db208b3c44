/*
 * bug=gate: the lowest interrupt that is pending has no gate.
 *
 * The kernel writes lines to its console and sleeps until the device says, by an interrupt, that one is written. Its timer
 * is on, and nobody has set the timer's gate. When the timer rings its interrupt becomes pending and stays so; being the
 * lowest it is the only one that the Host considers. The device's interrupt is never delivered again, and HALT, which
 * the Host ends because something is pending, does not sleep any more.
 */
#include "bugs.h"
#include "../virtio.h"

static struct virtqueue *output;
static volatile u32 written;
static const char text[] = "kestrel: a line for the device\n";

void init_virtio_block(struct virtqueue *queue, const u8 *config)
{
    (void)queue, (void)config;
}

void init_virtio_console(struct virtqueue *its_input, struct virtqueue *its_output)
{
    (void)its_input;
    output = its_output;
}

static void device_interrupt(struct trap_frame *frame)
{
    u32 length;

    if (frame->vector == FIRST_IRQ + output->irq && virtqueue_take(output, &length) >= 0)
        written++;
}

static void write_line(void)
{
    struct buffer buffer = { (void *)text, sizeof(text) - 1 };
    u32 before = written;

    virtqueue_add(output, &buffer, 1, 0);
    virtqueue_kick(output);
    irq_disable();
    while (written == before) {
        hcall(LHCALL_HALT, 0, 0, 0);
        irq_disable();
    }
    irq_enable();
}

void show_gate(void)
{
    u32 lines = number_option("loops=", 20);

    init_devices(memory_size());
    on_interrupt = device_interrupt;
    lguest_data.blocked_interrupts &= ~(1u << output->irq);
    if (!is_fixed)
        remove_gate(FIRST_IRQ);
    start_timer(number_option("hz=", 20000));
    while (written < lines)
        write_line();
    print("kestrel: %u lines written, %u timer interrupts\n", written, ticks);
}
