/*
 * Virtqueues, as the drivers see them. A request is a chain of buffers: first those that the device reads, then those
 * that it fills. Addresses are the kernel's.
 */
#ifndef VIRTIO_H
#define VIRTIO_H

#include "kernel.h"

struct virtqueue {
    u32 size, irq, pfn;
    volatile struct ring_descriptor *descriptors;
    volatile u16 *available;    /* flags, index, ring */
    volatile u16 *used;         /* flags, index, and then pairs of words */
    u32 first_free;
    u16 seen;                   /* index of the first used entry that has not been looked at */
};

struct buffer {
    void *data;
    u32 length;
};

/* Number of the request, or -1 if the queue is full. */
int virtqueue_add(struct virtqueue *queue, const struct buffer *buffers, u32 device_reads, u32 device_fills);
void virtqueue_kick(struct virtqueue *queue);

/* Number of a request that the device is done with and how many bytes it has filled, or -1. */
int virtqueue_take(struct virtqueue *queue, u32 *length);

#endif
