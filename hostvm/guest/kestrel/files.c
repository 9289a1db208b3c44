/*
 * Files: the console, the block device, and what is in the archive that the Launcher has put into memory as the initial
 * ramdisk. The archive is one in cpio's "newc" format, or just one ELF program, which is then called /init. It stays
 * where it is; files can only be read.
 */
#include "kernel.h"

#define ELF_MAGIC       0x464c457f
#define MAX_PATH        128

#define SEEK_SET        0
#define SEEK_CUR        1
#define SEEK_END        2

/* A newc header: a magic number and 13 numbers, all of them in ASCII, those of 8 hexadecimal digits each. */
#define HEADER_SIZE     110
#define MODE            1
#define FILE_SIZE       6
#define PATH_SIZE       11
#define FILE_TYPE       0170000
#define REGULAR_FILE    0100000

struct entry {
    const char *name;
    const u8 *data;
    u32 mode, size;
    u32 next;                   /* offset of the next entry in the archive */
};

static const u8 *archive;
static u32 archive_size;

void init_files(void)
{
    u32 image = *(u32 *)(boot_params + BOOT_RAMDISK_IMAGE);

    archive_size = *(u32 *)(boot_params + BOOT_RAMDISK_SIZE);
    archive = virtual(image);
    if (archive_size)
        print("kestrel: ramdisk of %u bytes at %x\n", archive_size, image);
}

int there_is_an_archive(void)
{
    return archive_size != 0;
}

static u32 number_at(const u8 *header, u32 index)
{
    const u8 *digit = header + 6 + index * 8;
    u32 value = 0;

    for (u32 i = 0; i < 8; i++, digit++)
        value = value << 4 | ((*digit & 15u) + (*digit > '9' ? 9u : 0u));
    return value;
}

static u32 align4(u32 value)
{
    return (value + 3) & ~3u;
}

/* The entry at `offset`, if it lies in the archive as a whole. */
static int read_entry(u32 offset, struct entry *entry)
{
    const u8 *header = archive + offset;
    u32 path_size, data;

    if (offset > archive_size || archive_size - offset < HEADER_SIZE || header[0] != '0' || header[1] != '7' ||
        header[5] != '1')
        return 0;
    path_size = number_at(header, PATH_SIZE);
    entry->mode = number_at(header, MODE);
    entry->size = number_at(header, FILE_SIZE);
    if (!path_size || path_size > archive_size || entry->size > archive_size)
        return 0;
    data = align4(offset + HEADER_SIZE + path_size);
    if (data > archive_size || entry->size > archive_size - data || archive[offset + HEADER_SIZE + path_size - 1])
        return 0;
    entry->name = (const char *)header + HEADER_SIZE;
    entry->data = archive + data;
    entry->next = align4(data + entry->size);
    return 1;
}

static const char *without_root(const char *path)
{
    while (*path == '/' || (path[0] == '.' && path[1] == '/'))
        path++;
    return path;
}

/* Whether there is a file called `name`. */
int find_in_archive(const char *name, const u8 **data, u32 *size)
{
    struct entry entry;

    name = without_root(name);
    if (archive_size >= sizeof(u32) && *(const u32 *)archive == ELF_MAGIC) {
        *data = archive;
        *size = archive_size;
        return strings_equal(name, "init") || strings_equal(name, "proc/self/exe");
    }
    for (u32 offset = 0; read_entry(offset, &entry); offset = entry.next) {
        if ((entry.mode & FILE_TYPE) != REGULAR_FILE || !strings_equal(without_root(entry.name), name))
            continue;
        *data = entry.data;
        *size = entry.size;
        return 1;
    }
    return 0;
}

/* Standard input, output and error. */
void open_console(struct process *process)
{
    for (u32 fd = 0; fd < 3; fd++)
        process->files[fd].kind = CONSOLE;
}

struct file *file_of(u32 fd)
{
    if (fd >= MAX_FILES || current->files[fd].kind == CLOSED)
        return 0;
    return &current->files[fd];
}

static int find_file(const char *path, struct file *file)
{
    memset(file, 0, sizeof(*file));
    if (strings_equal(path, "/dev/console") || strings_equal(path, "/dev/tty"))
        file->kind = CONSOLE;
    else if (strings_equal(path, "/dev/vda") && block_sectors())
        file->kind = BLOCK_DEVICE;
#if LGUEST_GENERATION == 203
    else if (strings_equal(path, "/dev/net") && there_is_a_net())
        file->kind = NETWORK;
#endif
    else if (strings_equal(path, "/dev/null"))
        file->kind = NOTHING;
    else if (!*without_root(path) || strings_equal(without_root(path), "."))
        file->kind = *path ? FOLDER : CLOSED;
    else if (find_in_archive(path, &file->data, &file->size))
        file->kind = ARCHIVED;
    return file->kind != CLOSED;
}

/* 0, or an error. */
int find_user_file(u32 path, struct file *file)
{
    char name[MAX_PATH];
    int error = copy_user_string(name, path, sizeof(name));

    if (error < 0)
        return error;
    return find_file(name, file) ? 0 : -ENOENT;
}

/* The lowest free number from `lowest` on is the file's. */
static u32 take_number(const struct file *file, u32 lowest)
{
    for (u32 fd = lowest; fd < MAX_FILES; fd++) {
        if (current->files[fd].kind == CLOSED) {
            current->files[fd] = *file;
            return fd;
        }
    }
    return (u32)-EMFILE;
}

u32 open_file(u32 path)
{
    struct file file;
    int error = find_user_file(path, &file);

    return error ? (u32)error : take_number(&file, 0);
}

/* Each number has a position of its own, which is not so under Linux. */
u32 duplicate_file(u32 fd, u32 lowest)
{
    const struct file *file = file_of(fd);

    return file ? take_number(file, lowest) : (u32)-EBADF;
}

u32 duplicate_file_to(u32 fd, u32 other)
{
    const struct file *file = file_of(fd);

    if (!file || other >= MAX_FILES)
        return (u32)-EBADF;
    current->files[other] = *file;
    return other;
}

u32 close_file(u32 fd)
{
    struct file *file = file_of(fd);

    if (!file)
        return (u32)-EBADF;
    file->kind = CLOSED;
    return 0;
}

static u32 min(u32 a, u32 b)
{
    return a < b ? a : b;
}

static u32 read_archived(struct file *file, void *buffer, u32 length)
{
    u32 part = file->position < file->size ? min(length, file->size - file->position) : 0;

    memcpy(buffer, file->data + file->position, part);
    file->position += part;
    return part;
}

/*
 * Whole sectors only. They go by way of a page of the kernel's, since a program's bytes may be anywhere; how much was
 * moved, or an error if that is nothing.
 */
static u32 move_sectors(struct file *file, u8 *buffer, u32 length, int is_write)
{
    u8 *page;
    u32 done = 0;

    if (file->position % SECTOR_SIZE || length % SECTOR_SIZE)
        return (u32)-EINVAL;
    page = alloc_page();
    while (done < length) {
        u32 sector = file->position / SECTOR_SIZE;
        u32 part = min(length - done, PAGE_SIZE);

        if (sector >= block_sectors())
            break;
        part = min(part, min(block_sectors() - sector, PAGE_SIZE / SECTOR_SIZE) * SECTOR_SIZE);
        if (is_write)
            memcpy(page, buffer + done, part);
        if (!block_transfer(sector, page, part, is_write)) {
            done = done ? done : (u32)-EIO;
            break;
        }
        if (!is_write)
            memcpy(buffer + done, page, part);
        done += part;
        file->position += part;
    }
    release_page(physical(page));
    return done;
}

static u32 read_console(void *buffer, u32 length)
{
    char text[256];
    u32 count = length ? tty_read(text, min(length, sizeof(text))) : 0;

    memcpy(buffer, text, count);
    return count;
}

#if LGUEST_GENERATION == 203
static u32 read_network(void *buffer, u32 length)
{
    char frame[256];
    u32 count = net_receive(frame, min(length, sizeof(frame)));

    memcpy(buffer, frame, count);
    return count;
}

/* What all stations that are there have got, together. */
static u32 write_network(const void *buffer, u32 length)
{
    char frame[256];

    length = min(length, sizeof(frame));
    memcpy(frame, buffer, length);
    return net_send(frame, length) * length;
}
#endif

u32 read_file(u32 fd, u32 buffer, u32 length)
{
    struct file *file = file_of(fd);

    if (!file)
        return (u32)-EBADF;
    if (!user_range_ok(buffer, length, 1))
        return (u32)-EFAULT;
    switch (file->kind) {
    case ARCHIVED:
        return read_archived(file, (void *)buffer, length);
    case BLOCK_DEVICE:
        return move_sectors(file, (u8 *)buffer, length, 0);
    case NOTHING:
        return 0;
    case FOLDER:
        return (u32)-EINVAL;
#if LGUEST_GENERATION == 203
    case NETWORK:
        return read_network((void *)buffer, length);
#endif
    default:
        return read_console((void *)buffer, length);
    }
}

/* Not while a fault can happen: the text comes to the kernel first, a piece at a time. */
static void write_text(const char *text, u32 length)
{
    char part[128];

    while (length) {
        u32 count = min(length, sizeof(part));

        memcpy(part, text, count);
        console_write(part, count);
        text += count;
        length -= count;
    }
}

u32 write_file(u32 fd, u32 buffer, u32 length)
{
    struct file *file = file_of(fd);

    if (!file || file->kind == ARCHIVED || file->kind == FOLDER)
        return (u32)-EBADF;
    if (!user_range_ok(buffer, length, 0))
        return (u32)-EFAULT;
    if (file->kind == NOTHING)
        return length;
    if (file->kind == BLOCK_DEVICE)
        return move_sectors(file, (u8 *)buffer, length, 1);
#if LGUEST_GENERATION == 203
    if (file->kind == NETWORK)
        return write_network((const void *)buffer, length);
#endif
    write_text((const char *)buffer, length);
    return length;
}

u32 seek_file(u32 fd, u32 offset, u32 whence)
{
    struct file *file = file_of(fd);
    u32 end;

    if (!file)
        return (u32)-EBADF;
    if (file->kind == CONSOLE || file->kind == NOTHING)
        return (u32)-ESPIPE;
#if LGUEST_GENERATION == 203
    if (file->kind == NETWORK)
        return (u32)-ESPIPE;
#endif
    end = file->kind == BLOCK_DEVICE ? block_sectors() * SECTOR_SIZE : file->size;
    if (whence > SEEK_END)
        return (u32)-EINVAL;
    file->position = offset + (whence == SEEK_CUR ? file->position : whence == SEEK_END ? end : 0);
    return file->position;
}
