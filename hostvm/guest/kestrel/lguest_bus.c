/*
 * lguest's bus in generation 203: an array of descriptors just behind our memory, and behind it the devices' own pages.
 * There is no ring and no NOTIFY. A buffer is sent to a key, which is a physical address; and to receive, buffers are
 * bound to one. What goes to the Launcher is dealt with before SEND_DMA comes back.
 */
#include "dma.h"

#define TYPE_CONSOLE    1
#define TYPE_NET        2
#define TYPE_BLOCK      3
#define MAX_DEVICES     16

#define STATUS_ACKNOWLEDGE 1
#define STATUS_DRIVER   2
#define STATUS_DRIVER_OK 4

void send_dma(u32 key, struct lguest_dma *dma)
{
    hcall(LHCALL_SEND_DMA, key, physical(dma), 0);
}

/* The only hypercall that answers: there may be no room for another binding. */
int bind_dma(u32 key, volatile struct lguest_dma *dmas, u32 count, u32 irq)
{
    u32 result = LHCALL_BIND_DMA;

    asm volatile("int %1"
                 : "+a"(result)
                 : "i"(LGUEST_TRAP_ENTRY), "d"(key), "b"(physical(dmas)), "c"(count << 8 | irq)
                 : "memory");
    return (int)result;
}

static int start_driver(const volatile struct device_descriptor *device, u32 irq)
{
    switch (device->type) {
    case TYPE_CONSOLE:
        init_dma_console(irq);
        return 1;
    case TYPE_BLOCK:
        init_dma_block(device->pfn * PAGE_SIZE, irq);
        return 1;
    case TYPE_NET:
        init_dma_net(device->pfn * PAGE_SIZE, device->features & NET_SLOT_MASK, irq);
        return 1;
    }
    return 0;
}

/* `page` is the physical address of the descriptors; a device's interrupt is its place and 1. */
void init_devices(u32 page)
{
    volatile struct device_descriptor *devices = virtual(page);

    for (u32 i = 0; i < MAX_DEVICES; i++) {
        if (!devices[i].type)
            continue;
        print("kestrel: device of type %u with %u pages\n", devices[i].type, devices[i].pages);
        devices[i].status |= STATUS_ACKNOWLEDGE | STATUS_DRIVER;
        if (start_driver(&devices[i], i + 1))
            devices[i].status |= STATUS_DRIVER_OK;
    }
}
