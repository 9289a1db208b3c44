/*
 * lguest's bus: a page just behind our memory, where the Launcher describes its devices one after the other. To touch a
 * device is to write into that page and to say so with a NOTIFY of the descriptor's address; to start I/O is a NOTIFY of
 * a virtqueue's address. The device answers by an interrupt of the queue's own.
 *
 * A virtqueue is three arrays: descriptors of buffers, a ring of chains that we make available, a ring of chains that the
 * device has used. Each side writes its own ring only.
 *
 * The generations differ in one thing: the older Launchers hear of every change of the status byte, the newest of two
 * only, the reset and the moment when features are settled; a second such moment would be fatal.
 */
#include "virtio.h"

#define TYPE_BLOCK      2
#define TYPE_CONSOLE    3

#define STATUS_RESET    0
#define STATUS_ACKNOWLEDGE 1
#define STATUS_DRIVER   2
#define STATUS_DRIVER_OK 4

#define DESCRIPTOR_NEXT 1
#define DESCRIPTOR_DEVICE_FILLS 2
#define NO_INTERRUPT    1

#define MAX_QUEUES      4
#define RING_ALIGN      4096

/* Followed by the queues, the features offered and those accepted, and the device's configuration. */
struct device {
    u8 type, queues, feature_bytes, config_bytes, status;
} __attribute__((packed));

struct queue_config {
    u16 size, irq;
    u32 pfn;
} __attribute__((packed));

struct ring_descriptor {
    u64 address;
    u32 length;
    u16 flags, next;
};

static struct virtqueue queues[MAX_QUEUES];
static u32 queues_used;

static void notify_device(const volatile struct device *device)
{
    hcall(LHCALL_NOTIFY, physical(device), 0, 0);
}

static void set_status(volatile struct device *device, u8 status)
{
    device->status = status;
    if (LGUEST_GENERATION < 302 || status == STATUS_RESET)
        notify_device(device);
}

/* The list of free descriptors goes through `next`. */
static struct virtqueue *init_queue(const struct queue_config *config)
{
    struct virtqueue *queue = &queues[queues_used++];
    u8 *ring = virtual(config->pfn * PAGE_SIZE);
    u32 available_size = (3 + config->size) * sizeof(u16);
    u32 used_offset = config->size * sizeof(struct ring_descriptor) + available_size;

    queue->size = config->size;
    queue->irq = config->irq;
    queue->pfn = config->pfn;
    queue->descriptors = (struct ring_descriptor *)ring;
    queue->available = (u16 *)(ring + config->size * sizeof(struct ring_descriptor));
    queue->used = (u16 *)(ring + ((used_offset + RING_ALIGN - 1) & ~(RING_ALIGN - 1u)));
    for (u32 i = 0; i < queue->size; i++)
        queue->descriptors[i].next = (u16)(i + 1);
    return queue;
}


static int has_room(const struct virtqueue *queue, u32 buffers)
{
    u32 at = queue->first_free;

    for (u32 i = 0; i < buffers; i++) {
        if (at >= queue->size)
            return 0;
        at = queue->descriptors[at].next;
    }
    return 1;
}

int virtqueue_add(struct virtqueue *queue, const struct buffer *buffers, u32 device_reads, u32 device_fills)
{
    u32 count = device_reads + device_fills;
    u32 head = queue->first_free, at = head;
    u16 index = queue->available[1];

    if (!has_room(queue, count))
        return -1;
    for (u32 i = 0; i < count; i++) {
        volatile struct ring_descriptor *descriptor = &queue->descriptors[at];

        descriptor->address = physical(buffers[i].data);
        descriptor->length = buffers[i].length;
        descriptor->flags = (u16)((i + 1 < count ? DESCRIPTOR_NEXT : 0) |
                                  (i >= device_reads ? DESCRIPTOR_DEVICE_FILLS : 0));
        at = descriptor->next;
    }
    queue->first_free = at;
    queue->available[2 + index % queue->size] = (u16)head;
    asm volatile("" : : : "memory");
    queue->available[1] = (u16)(index + 1);
    return (int)head;
}

void virtqueue_kick(struct virtqueue *queue)
{
    hcall(LHCALL_NOTIFY, queue->pfn * PAGE_SIZE, 0, 0);
}

static void free_chain(struct virtqueue *queue, u32 head)
{
    u32 last = head;

    while (queue->descriptors[last].flags & DESCRIPTOR_NEXT)
        last = queue->descriptors[last].next;
    queue->descriptors[last].next = (u16)queue->first_free;
    queue->first_free = head;
}

int virtqueue_take(struct virtqueue *queue, u32 *length)
{
    const volatile u32 *entry;
    u32 head;

    if (queue->used[1] == queue->seen)
        return -1;
    entry = (const volatile u32 *)(queue->used + 2) + queue->seen % queue->size * 2;
    head = entry[0];
    *length = entry[1];
    if (head >= queue->size)
        panic(0, "device of interrupt %u used a buffer that there is not", queue->irq);
    queue->seen++;
    free_chain(queue, head);
    return (int)head;
}

static void start_driver(volatile struct device *device, const struct queue_config *config, const u8 *settings)
{
    struct virtqueue *first = init_queue(&config[0]);

    switch (device->type) {
    case TYPE_BLOCK:
        init_virtio_block(first, settings);
        break;
    case TYPE_CONSOLE:
        init_virtio_console(first, init_queue(&config[1]));
        break;
    }
}

/* None of the features that a device may offer is needed here, so none is accepted. */
static void init_device(volatile struct device *device)
{
    const struct queue_config *config = (const struct queue_config *)(device + 1);
    u8 *features = (u8 *)(config + device->queues);
    u8 *accepted = features + device->feature_bytes;
    u32 wanted = device->type == TYPE_CONSOLE ? 2 : 1;

    if ((device->type != TYPE_BLOCK && device->type != TYPE_CONSOLE) || device->queues < wanted ||
        queues_used + wanted > MAX_QUEUES)
        return;
    set_status(device, STATUS_RESET);
    set_status(device, STATUS_ACKNOWLEDGE);
    set_status(device, STATUS_ACKNOWLEDGE | STATUS_DRIVER);
    memset(accepted, 0, device->feature_bytes);
    if (LGUEST_GENERATION == 302)
        notify_device(device);
    start_driver(device, config, accepted + device->feature_bytes);
    set_status(device, STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_DRIVER_OK);
}

static u32 size_of(const volatile struct device *device)
{
    return (u32)(sizeof(*device) + device->queues * sizeof(struct queue_config) + 2u * device->feature_bytes +
                 device->config_bytes);
}

/* `page` is the physical address of the descriptors. A descriptor of type 0 ends them. */
void init_devices(u32 page)
{
    u32 offset = 0;

    while (offset + sizeof(struct device) <= PAGE_SIZE) {
        volatile struct device *device = (volatile struct device *)((u8 *)virtual(page) + offset);

        if (!device->type)
            break;
        print("kestrel: device of type %u with %u queues\n", device->type, device->queues);
        init_device(device);
        offset += size_of(device);
    }
}
