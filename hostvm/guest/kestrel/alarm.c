/*
 * A bug for show, switched on by crash=stale: a pointer that outlives what it points to.
 *
 * Every process gets an account, a page of its own: how often it was switched to, and flags for alarms. One alarm is set
 * when the process begins, and a list says when it rings. What is missing: a process that ends gives its account back and
 * does not take its alarm off the list. So the alarm of a dead process clears a bit in whatever the page has become.
 */
#include "kernel.h"

#define ALARMS          64
#define ARMED           4
#define RINGS_AFTER     25      /* ticks */

struct account {
    u32 switches[72];           /* from which other process, by number */
    u32 alarm[8];
};

int alarms_wanted;

static struct alarm {
    u32 rings_at;
    u32 *flag;
} alarms[ALARMS];
static u32 alarms_set;

void open_account(struct process *process)
{
    u32 *flag;

    if (!alarms_wanted || alarms_set == ALARMS)
        return;
    process->account = alloc_page();
    flag = &process->account->alarm[process->pid % 8];
    *flag = ARMED;
    alarms[alarms_set++] = (struct alarm){ ticks + RINGS_AFTER, flag };
}

void account_switch(struct process *process, const struct process *from)
{
    if (process->account)
        process->account->switches[from->pid % 72]++;
}

/* A timer interrupt: those whose time has come ring, once. */
void ring_alarms(void)
{
    for (u32 i = 0; i < alarms_set; i++) {
        struct alarm *alarm = &alarms[i];

        if (alarm->flag && ticks >= alarm->rings_at) {
            *alarm->flag &= ~ARMED;
            alarm->flag = 0;
        }
    }
}

void close_account(struct process *process)
{
    if (process->account)
        release_page(physical(process->account));
    process->account = 0;
}
