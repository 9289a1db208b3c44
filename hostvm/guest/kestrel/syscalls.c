/*
 * System calls, with Linux's numbers and the registers that Linux uses: number in %eax, arguments in %ebx %ecx %edx %esi
 * %edi %ebp, a result or a negative error in %eax. Those of Linux that are here are enough for a statically linked C
 * program; what exists for the C library's sake only is a constant in a table.
 */
#include "kernel.h"

#define NS_PER_SECOND   1000000000u

#define MAP_FIXED       0x10
#define MAP_ANONYMOUS   0x20
#define WNOHANG         1
#define MODE_CONSOLE    0020620
#define MODE_FILE       0100444
#define MODE_BLOCK      0060660

u32 syscalls;

struct old_mmap {
    u32 address, length, protection, flags, fd, offset;
};

struct segment {
    u32 start, length;
};

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

struct utsname {
    char sysname[65], nodename[65], release[65], version[65], machine[65], domain[65];
};

static u32 sys_exit(struct trap_frame *frame)
{
    exit_process((frame->ebx & 0xff) << 8);
}

static u32 sys_fork(struct trap_frame *frame)
{
    return fork(frame);
}

static u32 sys_read(struct trap_frame *frame)
{
    return read_file(frame->ebx, frame->ecx, frame->edx);
}

static u32 sys_write(struct trap_frame *frame)
{
    return write_file(frame->ebx, frame->ecx, frame->edx);
}

static u32 sys_open(struct trap_frame *frame)
{
    return open_file(frame->ebx);
}

static u32 sys_openat(struct trap_frame *frame)
{
    return open_file(frame->ecx);
}

static u32 sys_close(struct trap_frame *frame)
{
    return close_file(frame->ebx);
}

static u32 sys_lseek(struct trap_frame *frame)
{
    return seek_file(frame->ebx, frame->ecx, frame->edx);
}

/* fd, high and low word of the offset, where the result goes, whence. */
static u32 sys_llseek(struct trap_frame *frame)
{
    u32 result;

    if (!user_range_ok(frame->esi, sizeof(u64), 1))
        return (u32)-EFAULT;
    result = seek_file(frame->ebx, frame->edx, frame->edi);
    if ((int)result < 0)
        return result;
    *(u64 *)frame->esi = result;
    return 0;
}

static u32 move_segments(struct trap_frame *frame, u32 (*move)(u32 fd, u32 buffer, u32 length))
{
    const struct segment *segments = (const struct segment *)frame->ecx;
    u32 done = 0;

    if (frame->edx > 1024 || !user_range_ok(frame->ecx, frame->edx * sizeof(*segments), 0))
        return (u32)-EFAULT;
    for (u32 i = 0; i < frame->edx; i++) {
        u32 length = segments[i].length;
        u32 part = length ? move(frame->ebx, segments[i].start, length) : 0;

        if ((int)part < 0)
            return done ? done : part;
        done += part;
        if (part < length)
            break;
    }
    return done;
}

static u32 sys_readv(struct trap_frame *frame)
{
    return move_segments(frame, read_file);
}

static u32 sys_writev(struct trap_frame *frame)
{
    return move_segments(frame, write_file);
}

/* Also wait4, whose fourth argument nobody gets. */
static u32 sys_waitpid(struct trap_frame *frame)
{
    u32 status, pid;

    if (frame->ecx && !user_range_ok(frame->ecx, sizeof(u32), 1))
        return (u32)-EFAULT;
    pid = wait_for_child(frame->ebx, frame->edx & WNOHANG, &status);
    if ((int)pid > 0 && frame->ecx)
        *(u32 *)frame->ecx = status;
    return pid;
}

static u32 sys_execve(struct trap_frame *frame)
{
    return exec(frame, frame->ebx, frame->ecx, frame->edx);
}

static u32 sys_getpid(struct trap_frame *frame)
{
    (void)frame;
    return current->pid;
}

static u32 sys_getppid(struct trap_frame *frame)
{
    (void)frame;
    return current->parent->pid;
}

/* Nobody has a handler for a signal, so one that is sent to oneself is the end, and others cannot be sent. */
static u32 end_by_signal(u32 pid, u32 signal)
{
    if (pid == current->pid && signal)
        exit_process(signal & 0x7f);
    return process_exists(pid) ? (signal ? (u32)-EPERM : 0) : (u32)-ESRCH;
}

static u32 sys_kill(struct trap_frame *frame)
{
    return end_by_signal(frame->ebx, frame->ecx);
}

static u32 sys_tgkill(struct trap_frame *frame)
{
    return end_by_signal(frame->ecx, frame->edx);
}

static u32 sys_brk(struct trap_frame *frame)
{
    return set_heap_end(&current->space, frame->ebx);
}

static u32 map(u32 address, u32 length, u32 flags)
{
    if (!(flags & MAP_ANONYMOUS))
        return (u32)-EINVAL;
    return map_anonymous(&current->space, address, length, flags & MAP_FIXED);
}

static u32 sys_old_mmap(struct trap_frame *frame)
{
    const struct old_mmap *arguments = (const struct old_mmap *)frame->ebx;

    if (!user_range_ok(frame->ebx, sizeof(*arguments), 0))
        return (u32)-EFAULT;
    return map(arguments->address, arguments->length, arguments->flags);
}

static u32 sys_mmap2(struct trap_frame *frame)
{
    return map(frame->ebx, frame->ecx, frame->esi);
}

static u32 sys_munmap(struct trap_frame *frame)
{
    return unmap(&current->space, frame->ebx, frame->ecx);
}

static u32 sys_time(struct trap_frame *frame)
{
    u32 now = lguest_data.time_sec;

    if (frame->ebx) {
        if (!user_range_ok(frame->ebx, sizeof(now), 1))
            return (u32)-EFAULT;
        *(u32 *)frame->ebx = now;
    }
    return now;
}

static u32 put_time(u32 address, u32 divisor)
{
    u32 *time = (u32 *)address;

    if (!user_range_ok(address, 2 * sizeof(u32), 1))
        return (u32)-EFAULT;
    time[0] = lguest_data.time_sec;
    time[1] = lguest_data.time_nsec / divisor;
    return 0;
}

static u32 sys_gettimeofday(struct trap_frame *frame)
{
    return put_time(frame->ebx, 1000);
}

static u32 sys_clock_gettime(struct trap_frame *frame)
{
    return put_time(frame->ecx, 1);
}

static u32 sys_clock_gettime64(struct trap_frame *frame)
{
    u32 *time = (u32 *)frame->ecx;

    if (!user_range_ok(frame->ecx, 4 * sizeof(u32), 1))
        return (u32)-EFAULT;
    time[0] = lguest_data.time_sec;
    time[2] = lguest_data.time_nsec;
    time[1] = time[3] = 0;
    return 0;
}

/* At least so long, to the tick; a sleep of nothing yields. Times are in two words each. */
static u32 sys_nanosleep(struct trap_frame *frame)
{
    const u32 *time = (const u32 *)frame->ebx;
    u32 ns_per_tick = NS_PER_SECOND / timer_hz;
    u32 duration;

    if (!user_range_ok(frame->ebx, 2 * sizeof(u32), 0))
        return (u32)-EFAULT;
    if (time[1] >= NS_PER_SECOND)
        return (u32)-EINVAL;
    duration = (time[0] < 100000 ? time[0] : 100000) * timer_hz + (time[1] + ns_per_tick - 1) / ns_per_tick;
    if (duration)
        sleep_ticks(duration + 1);
    else
        yield();
    return 0;
}

static u32 sys_sched_yield(struct trap_frame *frame)
{
    (void)frame;
    yield();
    return 0;
}

static u32 sys_uname(struct trap_frame *frame)
{
    /* C libraries refuse to run on a kernel that says it is older than this. */
    static const struct utsname name = { "Linux", "kestrel", "3.2.0-kestrel", "#1", "i686", "" };

    if (!user_range_ok(frame->ebx, sizeof(name), 1))
        return (u32)-EFAULT;
    memcpy((void *)frame->ebx, &name, sizeof(name));
    return 0;
}

static u32 sys_set_thread_area(struct trap_frame *frame)
{
    if (!user_range_ok(frame->ebx, 4 * sizeof(u32), 1))
        return (u32)-EFAULT;
    return (u32)set_thread_area(frame, (u32 *)frame->ebx);
}

static u32 sys_ioctl(struct trap_frame *frame)
{
    return (u32)(file_of(frame->ebx) ? -ENOTTY : -EBADF);
}

static u32 mode_of(const struct file *file)
{
    switch (file->kind) {
    case ARCHIVED:
        return MODE_FILE;
    case BLOCK_DEVICE:
        return MODE_BLOCK;
    default:
        return MODE_CONSOLE;
    }
}

static u32 stat_file(u32 fd, u32 address)
{
    const struct file *file = file_of(fd);
    struct stat64 *stat = (struct stat64 *)address;

    if (!file)
        return (u32)-EBADF;
    if (!user_range_ok(address, sizeof(*stat), 1))
        return (u32)-EFAULT;
    memset(stat, 0, sizeof(*stat));
    stat->mode = mode_of(file);
    stat->links = 1;
    stat->size = file->size;
    stat->block_size = PAGE_SIZE;
    return 0;
}

static u32 sys_fstat64(struct trap_frame *frame)
{
    return stat_file(frame->ebx, frame->ecx);
}

#define AT_EMPTY_PATH 0x1000

/* Only in its form as fstat: by number, with an empty path. */
static u32 sys_fstatat64(struct trap_frame *frame)
{
    if (!(frame->esi & AT_EMPTY_PATH))
        return (u32)-ENOENT;
    return stat_file(frame->ebx, frame->edx);
}

/* "Random" bytes for hash seeds and the like: the same each time. */
static u32 sys_getrandom(struct trap_frame *frame)
{
    if (!user_range_ok(frame->ebx, frame->ecx, 1))
        return (u32)-EFAULT;
    for (u32 i = 0; i < frame->ecx; i++)
        ((u8 *)frame->ebx)[i] = (u8)(i * 167 + 13);
    return frame->ecx;
}

static u32 sys_nothing(struct trap_frame *frame)
{
    (void)frame;
    return 0;
}

static u32 (*const calls[])(struct trap_frame *frame) = {
    [1] = sys_exit,
    [2] = sys_fork,
    [3] = sys_read,
    [4] = sys_write,
    [5] = sys_open,
    [6] = sys_close,
    [7] = sys_waitpid,
    [11] = sys_execve,
    [13] = sys_time,
    [19] = sys_lseek,
    [20] = sys_getpid,
    [24] = sys_nothing,         /* getuid */
    [36] = sys_nothing,         /* sync */
    [37] = sys_kill,
    [45] = sys_brk,
    [47] = sys_nothing,         /* getgid */
    [49] = sys_nothing,         /* geteuid */
    [50] = sys_nothing,         /* getegid */
    [54] = sys_ioctl,
    [64] = sys_getppid,
    [78] = sys_gettimeofday,
    [90] = sys_old_mmap,
    [91] = sys_munmap,
    [114] = sys_waitpid,
    [122] = sys_uname,
    [125] = sys_nothing,        /* mprotect: regions stay as writable as they are */
    [140] = sys_llseek,
    [145] = sys_readv,
    [146] = sys_writev,
    [158] = sys_sched_yield,
    [162] = sys_nanosleep,
    [174] = sys_nothing,        /* rt_sigaction */
    [175] = sys_nothing,        /* rt_sigprocmask */
    [190] = sys_fork,           /* vfork */
    [192] = sys_mmap2,
    [197] = sys_fstat64,
    [199] = sys_nothing,        /* getuid32 */
    [200] = sys_nothing,        /* getgid32 */
    [201] = sys_nothing,        /* geteuid32 */
    [202] = sys_nothing,        /* getegid32 */
    [219] = sys_nothing,        /* madvise */
    [224] = sys_getpid,         /* gettid */
    [238] = sys_kill,           /* tkill */
    [243] = sys_set_thread_area,
    [252] = sys_exit,           /* exit_group */
    [258] = sys_getpid,         /* set_tid_address */
    [265] = sys_clock_gettime,
    [270] = sys_tgkill,
    [295] = sys_openat,
    [300] = sys_fstatat64,
    [311] = sys_nothing,        /* set_robust_list */
    [355] = sys_getrandom,
    [403] = sys_clock_gettime64,
};

void system_call(struct trap_frame *frame)
{
    u32 number = frame->eax;
    u32 result;

    syscalls++;
    if (number < sizeof(calls) / sizeof(calls[0]) && calls[number])
        result = calls[number](frame);
    else
        result = (u32)-ENOSYS;
    /* A program that has just been started by execve finds 0 here as well. */
    frame->eax = result;
}
