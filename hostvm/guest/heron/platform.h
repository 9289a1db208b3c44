/*
 * What differs between a PC and lguest besides the hooks: tables, devices and the end. Which one it is is found out
 * once, at the start.
 */
#ifndef PLATFORM_H
#define PLATFORM_H

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;

#define PAGE_OFFSET             0xC0000000
#define PAGE_SIZE               4096

struct platform {
    /* Before anything else; returns how much memory there is. */
    u32 (*start)(const void *from_loader);
    const char *(*command_line)(const void *from_loader);
    void (*set_segment)(u32 selector, u32 lo, u32 hi);
    void (*set_gate)(u32 vector, u32 lo, u32 hi);
    void (*load_tables)(void);
    void (*load_pgdir)(u32 *pgdir);
    /* Table entries that were not there before; the second is told after the first. */
    void (*new_table)(u32 *pgdir, u32 address);
    void (*new_page)(u32 *pgdir, u32 address, u32 entry);
    u32 (*fault_address)(void);
    void (*set_stack)(u32 top);
    /* Whether the next use of the FPU is to trap. */
    void (*set_ts)(int on);
    void (*start_timer)(u32 hz);
    void (*timer_interrupt)(void);
    /* Interrupts off: sleep until one has been handled; they are off again. */
    void (*wait)(void);
    void (*print)(const char *text);
    void (*power_off)(const char *message);
};

extern const struct platform native, lguest;
extern const struct platform *platform;

#endif
