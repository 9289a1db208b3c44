/*
 * System calls, with Linux's numbers and the registers that Linux uses: number in %eax, arguments in %ebx %ecx %edx %esi
 * %edi %ebp, a result or a negative error in %eax. Those of Linux that are here are enough for a statically linked C
 * program; what exists for the C library's sake only is a constant in a table.
 */
#include "calls.h"

#define MAP_FIXED       0x10
#define MAP_ANONYMOUS   0x20
#define WNOHANG         1
#define F_DUPFD         0
#define F_GETFD         1
#define F_SETFD         2
#define F_GETFL         3
#define F_SETFL         4
#define F_DUPFD_CLOEXEC 1030
#define O_RDWR          2
#define RLIMIT_STACK    3
#define NO_LIMIT        0xffffffff
#define POLLIN          1
#define POLLOUT         4
#define POLLNVAL        0x20
#define FUTEX_WAKE      1
#define LINUX_REBOOT_CMD_RESTART        0x01234567
#define LINUX_REBOOT_CMD_HALT           0xcdef0123
#define LINUX_REBOOT_CMD_POWER_OFF      0x4321fedc

u32 syscalls;

struct old_mmap {
    u32 address, length, protection, flags, fd, offset;
};

struct segment {
    u32 start, length;
};

struct pollfd {
    u32 fd;
    u16 events, found;
};

struct utsname {
    char sysname[65], nodename[65], release[65], version[65], machine[65], domain[65];
};

static u32 sys_exit(struct trap_frame *frame)
{
    exit_process((frame->ebx & 0xff) << 8);
}

static u32 sys_fork(struct trap_frame *frame)
{
    return fork(frame, 0);
}

static u32 sys_clone(struct trap_frame *frame)
{
    return clone(frame);
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

static u32 sys_dup(struct trap_frame *frame)
{
    return duplicate_file(frame->ebx, 0);
}

/* Also dup3, whose third argument would matter to execve only. */
static u32 sys_dup2(struct trap_frame *frame)
{
    return duplicate_file_to(frame->ebx, frame->ecx);
}

/* No file is closed by execve. */
static u32 sys_fcntl(struct trap_frame *frame)
{
    if (!file_of(frame->ebx))
        return (u32)-EBADF;
    switch (frame->ecx) {
    case F_DUPFD:
    case F_DUPFD_CLOEXEC:
        return duplicate_file(frame->ebx, frame->edx);
    case F_GETFD:
    case F_SETFD:
    case F_SETFL:
        return 0;
    case F_GETFL:
        return O_RDWR;
    }
    return (u32)-EINVAL;
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

/* Every file says that it is ready: whoever then reads the console waits there. */
static u32 sys_poll(struct trap_frame *frame)
{
    struct pollfd *polled = (struct pollfd *)frame->ebx;
    u32 ready = 0;

    if (frame->ecx > MAX_FILES)
        return (u32)-EINVAL;
    if (!user_range_ok(frame->ebx, frame->ecx * sizeof(*polled), 1))
        return (u32)-EFAULT;
    for (u32 i = 0; i < frame->ecx; i++) {
        polled[i].found = file_of(polled[i].fd) ? polled[i].events & (POLLIN | POLLOUT) : POLLNVAL;
        ready += polled[i].found != 0;
    }
    return ready;
}

static u32 limit_of(u32 resource)
{
    return resource == RLIMIT_STACK ? STACK_SIZE : NO_LIMIT;
}

static u32 sys_getrlimit(struct trap_frame *frame)
{
    u32 *limits = (u32 *)frame->ecx;

    if (!user_range_ok(frame->ecx, 2 * sizeof(u32), 1))
        return (u32)-EFAULT;
    limits[0] = limits[1] = limit_of(frame->ebx);
    return 0;
}

/* Limits cannot be changed; pid, resource, the new ones, the old ones. */
static u32 sys_prlimit64(struct trap_frame *frame)
{
    u32 limit = limit_of(frame->ecx);
    u64 *limits = (u64 *)frame->esi;

    if (frame->edx)
        return (u32)-EPERM;
    if (!user_range_ok(frame->esi, 2 * sizeof(u64), 1))
        return (u32)-EFAULT;
    limits[0] = limits[1] = limit == NO_LIMIT ? ~0ull : limit;
    return 0;
}

static u32 sys_getpgrp(struct trap_frame *frame)
{
    (void)frame;
    return 1;
}

/* There is nobody to wait for, and nobody to wake up. */
static u32 sys_futex(struct trap_frame *frame)
{
    return (frame->ecx & 0x7f) == FUTEX_WAKE ? 0 : (u32)-EAGAIN;
}

/* What guards against mistakes is not asked for: whoever gets here means it. */
static u32 sys_reboot(struct trap_frame *frame)
{
    switch (frame->edx) {
    case LINUX_REBOOT_CMD_RESTART:
        restart();
    case LINUX_REBOOT_CMD_HALT:
    case LINUX_REBOOT_CMD_POWER_OFF:
        power_off();
    }
    return (u32)-EINVAL;
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
    [12] = sys_chdir,
    [13] = sys_time,
    [19] = sys_lseek,
    [20] = sys_getpid,
    [24] = sys_nothing,         /* getuid */
    [27] = sys_nothing,         /* alarm */
    [33] = sys_access,
    [36] = sys_nothing,         /* sync */
    [37] = sys_kill,
    [41] = sys_dup,
    [43] = sys_times,
    [45] = sys_brk,
    [47] = sys_nothing,         /* getgid */
    [49] = sys_nothing,         /* geteuid */
    [50] = sys_nothing,         /* getegid */
    [54] = sys_ioctl,
    [57] = sys_nothing,         /* setpgid */
    [60] = sys_nothing,         /* umask */
    [63] = sys_dup2,
    [64] = sys_getppid,
    [65] = sys_getpgrp,
    [66] = sys_getpgrp,         /* setsid */
    [76] = sys_getrlimit,
    [77] = sys_getrusage,
    [78] = sys_gettimeofday,
    [85] = sys_readlink,
    [88] = sys_reboot,
    [90] = sys_old_mmap,
    [91] = sys_munmap,
    [114] = sys_waitpid,        /* wait4 */
    [116] = sys_sysinfo,
    [120] = sys_clone,
    [122] = sys_uname,
    [125] = sys_nothing,        /* mprotect: regions stay as writable as they are */
    [132] = sys_getpgrp,        /* getpgid */
    [140] = sys_llseek,
    [145] = sys_readv,
    [146] = sys_writev,
    [147] = sys_getpgrp,        /* getsid */
    [158] = sys_sched_yield,
    [162] = sys_nanosleep,
    [168] = sys_poll,
    [174] = sys_nothing,        /* rt_sigaction */
    [175] = sys_nothing,        /* rt_sigprocmask */
    [183] = sys_getcwd,
    [186] = sys_nothing,        /* sigaltstack */
    [190] = sys_fork,           /* vfork */
    [191] = sys_getrlimit,
    [192] = sys_mmap2,
    [195] = sys_stat64,
    [196] = sys_stat64,         /* lstat64 */
    [197] = sys_fstat64,
    [199] = sys_nothing,        /* getuid32 */
    [200] = sys_nothing,        /* getgid32 */
    [201] = sys_nothing,        /* geteuid32 */
    [202] = sys_nothing,        /* getegid32 */
    [205] = sys_nothing,        /* getgroups32 */
    [219] = sys_nothing,        /* madvise */
    [221] = sys_fcntl,
    [224] = sys_getpid,         /* gettid */
    [238] = sys_kill,           /* tkill */
    [240] = sys_futex,
    [243] = sys_set_thread_area,
    [252] = sys_exit,           /* exit_group */
    [258] = sys_getpid,         /* set_tid_address */
    [265] = sys_clock_gettime,
    [266] = sys_clock_getres,
    [267] = sys_clock_nanosleep,
    [270] = sys_tgkill,
    [295] = sys_openat,
    [300] = sys_fstatat64,
    [311] = sys_nothing,        /* set_robust_list */
    [330] = sys_dup2,           /* dup3 */
    [340] = sys_prlimit64,
    [355] = sys_getrandom,
    [403] = sys_clock_gettime64,
    [406] = sys_clock_getres64,
    [407] = sys_clock_nanosleep64,
    [422] = sys_futex,          /* futex_time64 */
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
