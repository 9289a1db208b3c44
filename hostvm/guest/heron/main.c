/*
 * heron: a kernel for a PC, which lgreplay's Host can run in ring 1 because of its hooks. It runs programs that are
 * preempted, call by `int` and by `sysenter`, touch memory that they do not have yet, share the FPU and a lock, and it
 * prints the same whatever it runs on. Then it switches itself off.
 *
 * Command line: crash=stack16 lets a program go on with a 16-bit stack, which the Host refuses.
 */
#include "kernel.h"
#include "spinlock.h"

#define HZ                      1000

/* The memory that head.S has mapped. */
#define MAPPED_END              (16u << 20)

#define CPUID_FPU               (1 << 0)
#define CPUID_MSR               (1 << 5)
#define CPUID_SEP               (1 << 11)

#define MSR_SYSENTER_CS         0x174
#define MSR_SYSENTER_ESP        0x175
#define MSR_SYSENTER_EIP        0x176

#define FLAT_LO                 0x0000ffff
#define FLAT_CODE_HI            0x00cf9b00
#define FLAT_DATA_HI            0x00cf9300
#define FOR_PROGRAMS            0x6000

/* user.c; these are addresses in user space. */
void count(u32 loops);
void zeta(u32 loops);
void wave(u32 loops);
void touch(u32 pages);
void calls(u32 loops);
void napper(u32 naps);
void wild(u32 segment);
void stack16(u32 segment);

int has_sysenter;
const struct platform *platform;

static int line_has(const char *line, const char *word)
{
    for (u32 start = 0; line[start]; start++) {
        u32 i = 0;

        while (word[i] && line[start + i] == word[i])
            i++;
        if (!word[i])
            return 1;
    }
    return 0;
}

static void set_up_segments(void)
{
    platform->set_segment(KERNEL_CODE, FLAT_LO, FLAT_CODE_HI);
    platform->set_segment(KERNEL_DATA, FLAT_LO, FLAT_DATA_HI);
    platform->set_segment(USER_CODE, FLAT_LO, FLAT_CODE_HI | FOR_PROGRAMS);
    platform->set_segment(USER_DATA, FLAT_LO, FLAT_DATA_HI | FOR_PROGRAMS);
}

static void identify(void)
{
    u32 vendor[4], features[4];

    cpuid(0, vendor);
    cpuid(1, features);
    /* The vendor's name is in ebx, edx, ecx. */
    vendor[0] = vendor[1];
    vendor[1] = vendor[3];
    vendor[3] = 0;
    has_sysenter = (features[3] & (CPUID_MSR | CPUID_SEP)) == (CPUID_MSR | CPUID_SEP);
    print("heron: a processor of %s, %s FPU, %s sysenter\n", (const char *)vendor,
          features[3] & CPUID_FPU ? "with" : "without", has_sysenter ? "with" : "without");
    print("heron: cr0 is %x\n", get_cr0());
}

/* The stack that the processor switches to is told at another place than the stack of traps. */
static void set_up_sysenter(void)
{
    u32 eip = 0;

    if (write_msr(MSR_SYSENTER_CS, KERNEL_CODE) || write_msr(MSR_SYSENTER_ESP, (u32)&stack_top)
        || write_msr(MSR_SYSENTER_EIP, (u32)sysenter_entry) || read_msr(MSR_SYSENTER_EIP, &eip))
        has_sysenter = 0;
    print("heron: sysenter %s\n", eip == (u32)sysenter_entry ? "leads to the kernel" : "leads nowhere");
}

static void start_programs(const char *line)
{
    start_process("count", (u32)count, 6);
    start_process("zeta", (u32)zeta, 6);
    start_process("wave", (u32)wave, 6);
    start_process("touch", (u32)touch, 100);
    start_process("calls", (u32)calls, 400);
    start_process("napper", (u32)napper, 10);
    start_process("wild", (u32)wild, 0x1b);
    if (line_has(line, "crash=stack16"))
        start_process("stack16", (u32)stack16, THREAD_SEGMENT);
}

/* Process 0: run the others while there are any. Interrupts are off, except while it waits. */
static void idle(void)
{
    irq_disable();
    schedule();
    while (processes_left()) {
        platform->wait();
        schedule();
    }
}

regparm void start_kernel(u32 on_lguest, const void *from_loader);

regparm void start_kernel(u32 on_lguest, const void *from_loader)
{
    u32 memory;

    platform = on_lguest ? &lguest : &native;
    from_loader = (const u8 *)from_loader + PAGE_OFFSET;
    memory = platform->start(from_loader);
    init_memory(memory < MAPPED_END ? memory : MAPPED_END);
    set_up_segments();
    init_traps();
    platform->load_tables();
    identify();
    if (has_sysenter)
        set_up_sysenter();
    init_processes();
    start_programs(platform->command_line(from_loader));
    platform->start_timer(HZ);
    idle();
    print("heron: programs %s the FPU while others had numbers in it\n", fpu_changed_hands() ? "used" : "did not use");
    print("heron: all programs have ended\n");
    platform->power_off("Power down");
}
