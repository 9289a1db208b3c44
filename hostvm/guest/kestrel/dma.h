/*
 * Buffers of generation 203, as the drivers see them. One that the Guest sends goes to a key at once; those that it binds
 * to a key are filled by whoever sends there, and are free again when used_len is made 0.
 */
#ifndef DMA_H
#define DMA_H

#include "kernel.h"

#define DMA_SECTIONS    16

struct lguest_dma {
    u32 used_len;
    u32 address[DMA_SECTIONS];  /* physical; no section may cross the end of a page */
    u16 length[DMA_SECTIONS];   /* the first 0 ends them */
};

/* What the Launcher says of a device. */
struct device_descriptor {
    u16 type, features, status, pages;
    u32 pfn;
};

#define NET_SLOT_MASK   0x0fff

static inline void set_section(struct lguest_dma *dma, u32 rank, const volatile void *start, u32 length)
{
    dma->address[rank] = physical(start);
    dma->length[rank] = (u16)length;
    if (rank + 1 < DMA_SECTIONS)
        dma->length[rank + 1] = 0;
}

/* lguest_bus.c */
void send_dma(u32 key, struct lguest_dma *dma);
int bind_dma(u32 key, volatile struct lguest_dma *dmas, u32 count, u32 irq);

/* The devices' drivers. */
void init_dma_console(u32 irq);
void init_dma_block(u32 page, u32 irq);
void init_dma_net(u32 page, u32 slot, u32 irq);

#endif
