/*
 * The block device in generation 203: a page that says what is wanted, and how it went. Data to be written go with the
 * buffer that is sent; to read, an empty one is sent, and the data come into the one that is bound.
 */
#include "dma.h"

#define RESULT_PENDING  0
#define RESULT_DONE     1

struct block_page {
    u32 is_write, sector, bytes, result, sectors;
};

static volatile struct block_page *page;
static u32 key;
static volatile struct lguest_dma reply;
static volatile int busy;

u32 block_sectors(void)
{
    return page ? page->sectors : 0;
}

static void block_interrupt(void)
{
    if (page->result != RESULT_PENDING)
        wake_up(&page->result);
}

static void run_request(u32 sector, void *data, u32 length, int is_write)
{
    struct lguest_dma sent;

    page->is_write = (u32)is_write;
    page->sector = sector;
    page->bytes = length;
    page->result = RESULT_PENDING;
    reply.used_len = 0;
    set_section((struct lguest_dma *)&reply, 0, data, is_write ? 0 : length);
    set_section(&sent, 0, data, is_write ? length : 0);
    send_dma(key, &sent);
    while (page->result == RESULT_PENDING)
        wait_for(&page->result);
}

/* `length` bytes between the device, from `sector` on, and `data`, a page at most; whether it went well. */
int block_transfer(u32 sector, void *data, u32 length, int is_write)
{
    int ok;

    irq_disable();
    while (busy)
        wait_for(&busy);
    busy = 1;
    run_request(sector, data, length, is_write);
    ok = page->result == RESULT_DONE;
    busy = 0;
    wake_up(&busy);
    irq_enable();
    return ok;
}

void init_dma_block(u32 its_page, u32 irq)
{
    request_irq(irq, block_interrupt);
    if (!bind_dma(its_page, &reply, 1, irq))
        return;
    key = its_page;
    page = virtual(its_page);
    print("kestrel: block device of %u sectors\n", page->sectors);
}
