/*
 * The block device: one request at a time, in a page of the kernel's. Whoever wants something sleeps until the device's
 * interrupt, and others wait until that one is done.
 */
#include "virtio.h"

#define REQUEST_IN      0
#define REQUEST_OUT     1
#define STATUS_OK       0

static struct {
    u32 type, priority;
    u64 sector;
} header;

static struct virtqueue *queue;
static u32 sectors;
static volatile int busy, finished;
static volatile u8 status;

u32 block_sectors(void)
{
    return sectors;
}

static void block_interrupt(void)
{
    u32 length;

    if (virtqueue_take(queue, &length) < 0)
        return;
    finished = 1;
    wake_up(&finished);
}

static void run_request(void *page, u32 length, int is_write)
{
    struct buffer buffers[] = {
        { &header, sizeof(header) }, { page, length }, { (void *)&status, sizeof(status) },
    };

    finished = 0;
    status = 0xff;
    virtqueue_add(queue, buffers, is_write ? 2 : 1, is_write ? 1 : 2);
    virtqueue_kick(queue);
    while (!finished)
        wait_for(&finished);
}

/* `length` bytes between the device, from `sector` on, and `page`; whether it went well. */
int block_transfer(u32 sector, void *page, u32 length, int is_write)
{
    int ok;

    irq_disable();
    while (busy)
        wait_for(&busy);
    busy = 1;
    header.type = is_write ? REQUEST_OUT : REQUEST_IN;
    header.sector = sector;
    run_request(page, length, is_write);
    ok = status == STATUS_OK;
    busy = 0;
    wake_up(&busy);
    irq_enable();
    return ok;
}

/* The configuration begins with the capacity; what is beyond 2^32 bytes we leave alone. */
void init_virtio_block(struct virtqueue *its_queue, const u8 *config)
{
    const u64 *capacity = (const u64 *)config;
    u32 most = ~0u / SECTOR_SIZE;

    queue = its_queue;
    sectors = *capacity < most ? (u32)*capacity : most;
    request_irq(queue->irq, block_interrupt);
    print("kestrel: block device of %u sectors\n", sectors);
}
