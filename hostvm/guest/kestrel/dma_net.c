/*
 * The network in generation 203: a page that all Guests on it see. Each has a slot there for its six-byte address, and
 * receives what is sent to the key that is the page's physical address and 4 for each slot before its own. The Host
 * copies from one Guest's buffer into another's; nobody is asked.
 *
 * A frame is an Ethernet frame: two addresses and a type before the data. With the word `split` on the command line a
 * buffer for what comes in is of two sections, with its end in a page of its own, as a driver must have it that takes
 * buffers as they come; docs/commands.md says under --quirk what lguest made of that.
 */
#include "dma.h"

#define ADDRESS_BYTES   6
#define SLOTS           (PAGE_SIZE / ADDRESS_BYTES)
#define HEADER          14
#define PAYLOAD         242
#define FRAME           (HEADER + PAYLOAD)
#define BUFFERS         4
#define FIRST_SECTION   64
#define OUR_TYPE        0x88b5          /* for local experiments */

static volatile u8 (*stations)[ADDRESS_BYTES];
static u32 key, me;
static volatile struct lguest_dma received[BUFFERS];
static u8 frames[BUFFERS][FRAME];
static u32 next;

static void net_interrupt(void)
{
    wake_up(received);
}

static void copy_address(volatile u8 *to, const volatile u8 *from)
{
    for (u32 i = 0; i < ADDRESS_BYTES; i++)
        to[i] = from[i];
}

int there_is_a_net(void)
{
    return stations != 0;
}

static u32 min(u32 a, u32 b)
{
    return a < b ? a : b;
}

/* To everybody who is there; how many that were. `data` is the kernel's. */
u32 net_send(const void *data, u32 length)
{
    static u8 frame[FRAME];
    struct lguest_dma dma;
    u32 flags = irq_save(), reached = 0;

    length = min(length, PAYLOAD);
    memcpy(frame + HEADER, data, length);
    copy_address(frame + ADDRESS_BYTES, stations[me]);
    frame[12] = OUR_TYPE >> 8;
    frame[13] = OUR_TYPE & 0xff;
    for (u32 slot = 0; slot < SLOTS; slot++) {
        if (slot == me || !stations[slot][0])
            continue;
        copy_address(frame, stations[slot]);
        dma.used_len = 0;
        set_section(&dma, 0, frame, HEADER + length);
        send_dma(key + 4 * slot, &dma);
        reached += dma.used_len != 0;
    }
    irq_restore(flags);
    return reached;
}

/* The data of the next frame. They come in the order of the buffers. */
u32 net_receive(void *data, u32 length)
{
    volatile struct lguest_dma *dma = &received[next];
    u32 count;

    irq_disable();
    while (!dma->used_len)
        wait_for(received);
    count = dma->used_len > HEADER ? min(dma->used_len - HEADER, length) : 0;
    memcpy(data, frames[next] + HEADER, count);
    dma->used_len = 0;
    next = (next + 1) % BUFFERS;
    irq_enable();
    return count;
}

void init_dma_net(u32 page, u32 slot, u32 irq)
{
    u8 address[ADDRESS_BYTES] = { 0x02, 0, (u8)lguest_data.guestid, (u8)(lguest_data.guestid >> 8), 0, 0 };
    u32 first = command_line_flag("split") ? FIRST_SECTION : FRAME;

    for (u32 i = 0; i < BUFFERS; i++) {
        set_section((struct lguest_dma *)&received[i], 0, frames[i], first);
        if (first < FRAME)
            set_section((struct lguest_dma *)&received[i], 1, frames[i] + first, FRAME - first);
    }
    request_irq(irq, net_interrupt);
    if (!bind_dma(page + 4 * slot, received, BUFFERS, irq))
        return;
    me = slot;
    key = page;
    stations = virtual(page);
    copy_address(stations[me], address);
    print("kestrel: station %u on the network\n", slot);
}
