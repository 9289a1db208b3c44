/*
 * System calls that tell what a file is. There are few kinds: the console, which is a terminal that knows of no settings,
 * the block device, what is in the archive, and the root, which cannot be listed.
 */
#include "calls.h"

#define AT_EMPTY_PATH   0x1000

#define MODE_CONSOLE    0020620
#define MODE_NOTHING    0020666
#define MODE_FILE       0100555
#define MODE_BLOCK      0060660
#define MODE_FOLDER     0040555

struct stat64 {
    u64 device;
    u32 padding, short_inode, mode, links, user, group;
    u64 special_device;
    u32 padding2;
    u64 size;
    u32 block_size;
    u64 blocks;
    u32 times[6];
    u64 inode;
} __attribute__((packed, aligned(4)));

static u32 mode_of(const struct file *file)
{
    switch (file->kind) {
    case ARCHIVED:
        return MODE_FILE;
    case BLOCK_DEVICE:
        return MODE_BLOCK;
    case FOLDER:
        return MODE_FOLDER;
    case NOTHING:
        return MODE_NOTHING;
    default:
        return MODE_CONSOLE;
    }
}

static u32 stat_file(const struct file *file, u32 address)
{
    struct stat64 *stat = (struct stat64 *)address;

    if (!user_range_ok(address, sizeof(*stat), 1))
        return (u32)-EFAULT;
    memset(stat, 0, sizeof(*stat));
    stat->mode = mode_of(file);
    stat->links = 1;
    stat->size = file->size;
    stat->block_size = PAGE_SIZE;
    /* Something to tell one file from another by. */
    stat->inode = stat->short_inode = file->kind == ARCHIVED ? (u32)file->data : file->kind;
    return 0;
}

static u32 stat_path(u32 path, u32 address)
{
    struct file file;
    int error = find_user_file(path, &file);

    return error ? (u32)error : stat_file(&file, address);
}

u32 sys_stat64(struct trap_frame *frame)
{
    return stat_path(frame->ebx, frame->ecx);
}

u32 sys_fstat64(struct trap_frame *frame)
{
    const struct file *file = file_of(frame->ebx);

    return file ? stat_file(file, frame->ecx) : (u32)-EBADF;
}

/* By path, or in its form as fstat: by number, with an empty path. */
u32 sys_fstatat64(struct trap_frame *frame)
{
    if (frame->esi & AT_EMPTY_PATH)
        return sys_fstat64(&(struct trap_frame){ .ebx = frame->ebx, .ecx = frame->edx });
    return stat_path(frame->ecx, frame->edx);
}

u32 sys_access(struct trap_frame *frame)
{
    struct file file;

    return (u32)find_user_file(frame->ebx, &file);
}

/* There are no symbolic links. */
u32 sys_readlink(struct trap_frame *frame)
{
    struct file file;
    int error = find_user_file(frame->ebx, &file);

    return (u32)(error ? error : -EINVAL);
}

u32 sys_chdir(struct trap_frame *frame)
{
    struct file file;
    int error = find_user_file(frame->ebx, &file);

    return (u32)(error ? error : file.kind == FOLDER ? 0 : -ENOTDIR);
}

u32 sys_getcwd(struct trap_frame *frame)
{
    if (frame->ecx < 2)
        return (u32)-ERANGE;
    if (!user_range_ok(frame->ebx, 2, 1))
        return (u32)-EFAULT;
    memcpy((void *)frame->ebx, "/", 2);
    return 2;
}
