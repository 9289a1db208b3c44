/*
 * System calls about time. The clock is what the Host wrote when it last interrupted us, for whatever clock is asked for;
 * CPU time is the timer's ticks since power-on, whoever they went to. Seconds and parts of them come in two words each,
 * or, in the newer calls, in two words and two more.
 */
#include "calls.h"

#define NS_PER_SECOND   1000000000u
#define TIMER_ABSTIME   1
#define LONGEST_SLEEP   0x7fffffff      /* seconds */
#define CLOCK_TICKS     100             /* a second, in times(2) */

struct rusage {
    u32 user_sec, user_usec, system_sec, system_usec, others[14];
};

struct sysinfo {
    u32 uptime, loads[3], total, free, shared, buffers, total_swap, free_swap;
    u16 processes, padding;
    u32 total_high, free_high, unit;
    u8 rest[8];
};

u32 sys_time(struct trap_frame *frame)
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

static u32 put_time64(u32 address, u32 seconds, u32 nanoseconds)
{
    u32 *time = (u32 *)address;

    if (!user_range_ok(address, 4 * sizeof(u32), 1))
        return (u32)-EFAULT;
    time[0] = seconds;
    time[2] = nanoseconds;
    time[1] = time[3] = 0;
    return 0;
}

u32 sys_gettimeofday(struct trap_frame *frame)
{
    return frame->ebx ? put_time(frame->ebx, 1000) : 0;
}

u32 sys_clock_gettime(struct trap_frame *frame)
{
    return put_time(frame->ecx, 1);
}

u32 sys_clock_gettime64(struct trap_frame *frame)
{
    return put_time64(frame->ecx, lguest_data.time_sec, lguest_data.time_nsec);
}

u32 sys_clock_getres(struct trap_frame *frame)
{
    u32 *time = (u32 *)frame->ecx;

    if (!time)
        return 0;
    if (!user_range_ok(frame->ecx, 2 * sizeof(u32), 1))
        return (u32)-EFAULT;
    time[0] = 0;
    time[1] = NS_PER_SECOND / timer_hz;
    return 0;
}

u32 sys_clock_getres64(struct trap_frame *frame)
{
    return frame->ecx ? put_time64(frame->ecx, 0, NS_PER_SECOND / timer_hz) : 0;
}

/* At least so long, to the timer's next tick; a sleep of nothing yields. */
static u32 sleep_for(u32 seconds, u32 nanoseconds)
{
    u32 end;

    if (nanoseconds >= NS_PER_SECOND)
        return (u32)-EINVAL;
    if (!seconds && !nanoseconds) {
        yield();
        return 0;
    }
    /* The clock was read at most a period of the timer ago. */
    end = lguest_data.time_nsec + nanoseconds + NS_PER_SECOND / timer_hz;
    seconds = seconds < LONGEST_SLEEP ? seconds : LONGEST_SLEEP;
    sleep_until(lguest_data.time_sec + seconds + end / NS_PER_SECOND, end % NS_PER_SECOND);
    return 0;
}

static u32 sleep_to(u32 seconds, u32 nanoseconds)
{
    if (nanoseconds >= NS_PER_SECOND)
        return (u32)-EINVAL;
    sleep_until(seconds, nanoseconds);
    return 0;
}

/* `step` is how many words lie from the seconds to their parts. */
static u32 sleep_as_told(u32 address, u32 step, u32 flags)
{
    const u32 *time = (const u32 *)address;

    if (!user_range_ok(address, 2 * step * sizeof(u32), 0))
        return (u32)-EFAULT;
    return flags & TIMER_ABSTIME ? sleep_to(time[0], time[step]) : sleep_for(time[0], time[step]);
}

u32 sys_nanosleep(struct trap_frame *frame)
{
    return sleep_as_told(frame->ebx, 1, 0);
}

u32 sys_clock_nanosleep(struct trap_frame *frame)
{
    return sleep_as_told(frame->edx, 1, frame->ecx);
}

u32 sys_clock_nanosleep64(struct trap_frame *frame)
{
    return sleep_as_told(frame->edx, 2, frame->ecx);
}

static u32 ticks_in(u32 units)
{
    return ticks / timer_hz * units + ticks % timer_hz * units / timer_hz;
}

u32 sys_times(struct trap_frame *frame)
{
    u32 *times = (u32 *)frame->ebx;

    if (times) {
        if (!user_range_ok(frame->ebx, 4 * sizeof(u32), 1))
            return (u32)-EFAULT;
        times[0] = ticks_in(CLOCK_TICKS);
        times[1] = times[2] = times[3] = 0;
    }
    return ticks_in(CLOCK_TICKS);
}

u32 sys_getrusage(struct trap_frame *frame)
{
    struct rusage *usage = (struct rusage *)frame->ecx;

    if (!user_range_ok(frame->ecx, sizeof(*usage), 1))
        return (u32)-EFAULT;
    memset(usage, 0, sizeof(*usage));
    usage->user_sec = ticks / timer_hz;
    usage->user_usec = ticks % timer_hz * (1000000 / timer_hz);
    return 0;
}

u32 sys_sysinfo(struct trap_frame *frame)
{
    struct sysinfo *info = (struct sysinfo *)frame->ebx;

    if (!user_range_ok(frame->ebx, sizeof(*info), 1))
        return (u32)-EFAULT;
    memset(info, 0, sizeof(*info));
    info->uptime = ticks / timer_hz;
    info->total = info->free = free_frames * PAGE_SIZE;
    info->processes = 1;
    info->unit = 1;
    return 0;
}
