/*
 * kestrel in one page: who offers what. Files in reading order:
 *
 *      head.S  main.c  flags.S  paravirt.c     boot, and operations that ring 1 may not do itself
 *      entry.S  traps.c  segments.c               ways in and out; IDT and GDT
 *      hcall.c  pages.c  paging.c  space.c        queued hypercalls; memory, from frames to address spaces
 *      process.c  fpu.c  alarm.c  fork.c  exec.c  elf.c     processes
 *      syscalls.c  calls.h  times.c  stat.c  files.c     what programs can ask for
 *      virtio.c  console.c  tty.c  block.c  print.c      devices
 *      lguest_bus.c  dma_console.c  dma_block.c  dma_net.c      those of the oldest generation
 *      user/                                      the programs, in ring 3
 *
 * Except for interrupt handlers, the kernel is never preempted: only programs are, on the way back to them.
 */
#ifndef KERNEL_H
#define KERNEL_H

#include "lguest.h"
#include "frame.h"
#include "paravirt.h"

#define KERNEL_STACK_PAGES 2

#define PTE_PRESENT     0x01
#define PTE_WRITABLE    0x02
#define PTE_USER        0x04
#define PTE_USED        0x60            /* accessed and dirty: spares the Host two faults */
#define PTE_ADDRESS     0xfffff000
#define PTES            1024

#define EPERM           1
#define ENOENT          2
#define ESRCH           3
#define EIO             5
#define E2BIG           7
#define ENOEXEC         8
#define EBADF           9
#define ECHILD          10
#define EAGAIN          11
#define ENOMEM          12
#define EFAULT          14
#define ENOTDIR         20
#define EINVAL          22
#define EMFILE          24
#define ENOTTY          25
#define ESPIPE          29
#define ERANGE          34
#define ENOSYS          38

/* What entry.S pushes, below what the CPU or the Host has pushed. The last two only when a program was interrupted. */
struct trap_frame {
    u32 edi, esi, ebp, unused_esp, ebx, edx, ecx, eax;
    u32 ds, es;
    u32 vector, error_code;
    u32 eip, cs, eflags;
    u32 esp, ss;
};

struct descriptor {
    u32 lo, hi;
};

/* A stretch of an address space. Bytes at `data_start` and behind come from `data`, all others are zero. */
struct region {
    u32 start, end;
    u32 writable;
    u32 data_start, data_bytes;
    const u8 *data;
};

#define MAX_REGIONS 24

struct space {
    u32 regions_used;
    struct region regions[MAX_REGIONS];
    u32 heap_start, heap_end;
    u32 *pgdir;
};

enum file_kind {
    CLOSED, CONSOLE, ARCHIVED, BLOCK_DEVICE, NOTHING, FOLDER, NETWORK,
};

struct file {
    enum file_kind kind;
    u32 position;
    const u8 *data;             /* ARCHIVED */
    u32 size;
};

#define MAX_FILES 16
#define NAME_SIZE 16
#define FPU_STATE_SIZE 512

enum state {
    UNUSED, RUNNABLE, SLEEPING, WAITING, ZOMBIE,
};

struct process {
    u8 fpu_state[FPU_STATE_SIZE] __attribute__((aligned(16)));
    int has_fpu_state;
    char name[NAME_SIZE];
    enum state state;
    u32 pid;
    struct process *parent;
    u32 wake_sec;               /* when SLEEPING ends, by the Host's clock; and wake_nsec */
    const volatile void *waits_for; /* what WAITING is for */
    u32 status;                 /* of a ZOMBIE, as waitpid gives it */
    u32 fs, gs;
    u32 tid_address;            /* where clone wanted the new process to find its number, or 0 */
    struct descriptor tls[TLS_ENTRIES];
    u32 stack_top;
    u32 esp;                    /* kernel stack pointer while it does not run */
    struct space space;
    u8 frame_room[FRAME_ROOM];
    struct trap_frame frame;    /* where the program is while the kernel runs */
    struct file files[MAX_FILES];
    u32 wake_nsec;
    struct account *account;
};

_Static_assert(__builtin_offsetof(struct trap_frame, vector) == FRAME_vector, "FRAME_vector");
_Static_assert(__builtin_offsetof(struct trap_frame, cs) == FRAME_cs, "FRAME_cs");
_Static_assert(sizeof(struct trap_frame) == FRAME_SIZE, "FRAME_SIZE");
_Static_assert(__builtin_offsetof(struct process, stack_top) == PROCESS_stack_top, "PROCESS_stack_top");
_Static_assert(__builtin_offsetof(struct process, frame) == PROCESS_frame, "PROCESS_frame");

/* head.S */
extern u8 boot_params[], boot_stack_top[];
extern const char command_line[];

/* main.c */
extern u32 timer_hz;
void wind_up_timer(void);
const char *init_words(void);
u32 command_line_number(const char *name, u32 otherwise);
int command_line_word(const char *name, char *word, u32 size);
int command_line_flag(const char *name);

/* paravirt.c */
void patch_paravirt(void);

/* print.c: the formats are %s %u %x and %c. */
u32 format_text(char *buffer, u32 size, const char *format, __builtin_va_list args);
void print(const char *format, ...) __attribute__((format(printf, 1, 2)));
void power_off(void) __attribute__((noreturn));
void restart(void) __attribute__((noreturn));
void panic(const struct trap_frame *frame, const char *format, ...) __attribute__((format(printf, 2, 3), noreturn));
void *memset(void *start, int value, u32 count);
void *memcpy(void *to, const void *from, u32 count);
int strings_equal(const char *a, const char *b);
void copy_name(char *to, const char *from);

/* traps.c */
#define TRAP_ENTRIES    64
#define FIRST_IRQ       32
#define SYSCALL_VECTOR  0x80
extern volatile u32 ticks;
extern int ignore_page_faults; /* a bug, for show */
extern u32 page_faults, copies;
void init_traps(void);
void request_irq(u32 irq, void (*handler)(void));
void trap(struct trap_frame *frame);
int from_user(const struct trap_frame *frame);

/* entry.S */
extern void (*const trap_entries[TRAP_ENTRIES])(void);
extern void (*const direct_entries[])(void);
void first_process(void);
void new_process_starts(void);
void switch_context(u32 *old_esp, u32 new_esp);

/* segments.c */
void init_segments(void);
void load_tls_of(const struct process *process);
void leave_tls(struct process *process);
void enter_tls(const struct process *process);
int set_thread_area(struct trap_frame *frame, u32 *user_desc);

/* hcall.c */
void hcall_later(u32 number, u32 arg1, u32 arg2, u32 arg3);
void hcall_flush(void);

/* pages.c: frames are counted, so that address spaces can share them. */
extern u32 free_frames;
void init_pages(u32 first_free, u32 end);
void *alloc_page(void);
void share_page(u32 address);
void release_page(u32 address);
int page_is_shared(u32 address);

/* paging.c */
extern u32 swapper_pgdir[PTES];
void init_paging(u32 end);
u32 *new_pgdir(void);
u32 *find_pte(u32 *pgdir, u32 address);
void map_user_page(u32 *pgdir, u32 address, u32 entry);
void unmap_user_pages(u32 *pgdir, u32 start, u32 end);
void copy_user_pages(u32 *to, u32 *from);
void release_pgdir(u32 *pgdir);

/* space.c */
#define USER_END        PAGE_OFFSET
#define STACK_SIZE      (1u << 20)
int init_space(struct space *space);
int add_region(struct space *space, struct region region);
int space_fault(struct space *space, u32 address, int is_write);
int user_range_ok(u32 address, u32 length, int is_write);
int copy_user_string(char *to, u32 from, u32 size);
u32 set_heap_end(struct space *space, u32 end);
u32 map_anonymous(struct space *space, u32 wish, u32 length, int fixed);
u32 unmap(struct space *space, u32 start, u32 length);

/* process.c; `idle_process` is slot 0. */
extern struct process *current;
extern struct process idle_process;
extern u32 switches;
void init_processes(void);
struct process *new_process(const char *name);
void make_runnable(struct process *process, const struct trap_frame *frame, void (*start)(void));
void timer_tick(void);
int somebody_sleeps(void);
void schedule(void);
int schedule_if_needed(void);
void yield(void);
void sleep_until(u32 seconds, u32 nanoseconds);
void wait_for(const volatile void *what);
void wake_up(const volatile void *what);
void exit_process(u32 status) __attribute__((noreturn));
u32 wait_for_child(u32 pid, int no_hang, u32 *status);
int process_exists(u32 pid);

/* fork.c */
u32 fork(const struct trap_frame *frame, u32 tid_address);
u32 clone(const struct trap_frame *frame);
void process_begins(void);

/* alarm.c */
extern int alarms_wanted;
void open_account(struct process *process);
void account_switch(struct process *process, const struct process *from);
void ring_alarms(void);
void close_account(struct process *process);

/* fpu.c */
extern u32 fpu_switches;
void fpu_trap(void);
void fpu_forget(struct process *process);
void fpu_copy(struct process *to);
int fpu_is_ours(const struct process *process);

/* exec.c and elf.c */
struct image {
    u32 entry, start_argument;
    u32 headers, header_count;  /* address and number of program headers, for the program itself */
    u32 end;                    /* highest address used */
};
void start_init(void);
void become_init(struct trap_frame *frame);
u32 exec(struct trap_frame *frame, u32 path, u32 argv, u32 envp);
int load_elf(struct space *space, const u8 *file, u32 size, struct image *image);

/* files.c */
void init_files(void);
int there_is_an_archive(void);
int find_in_archive(const char *name, const u8 **data, u32 *size);
void open_console(struct process *process);
int find_user_file(u32 path, struct file *file);
u32 duplicate_file(u32 fd, u32 lowest);
u32 duplicate_file_to(u32 fd, u32 other);
u32 open_file(u32 path);
u32 close_file(u32 fd);
u32 read_file(u32 fd, u32 buffer, u32 length);
u32 write_file(u32 fd, u32 buffer, u32 length);
u32 seek_file(u32 fd, u32 offset, u32 whence);
struct file *file_of(u32 fd);

/* syscalls.c */
extern u32 syscalls;
void system_call(struct trap_frame *frame);

/* virtio.c, or lguest_bus.c */
struct virtqueue;
void init_devices(u32 device_page);
void init_virtio_console(struct virtqueue *input, struct virtqueue *output);
void init_virtio_block(struct virtqueue *queue, const u8 *config);

/* console.c */
void console_write(const char *text, u32 length);
u32 console_read(char *buffer, u32 length);

/* dma_net.c, in generation 203 */
int there_is_a_net(void);
u32 net_send(const void *data, u32 length);
u32 net_receive(void *data, u32 length);

/* tty.c */
u32 tty_read(char *buffer, u32 length);

/* block.c */
#define SECTOR_SIZE 512
u32 block_sectors(void);
int block_transfer(u32 sector, void *page, u32 length, int is_write);

#endif
