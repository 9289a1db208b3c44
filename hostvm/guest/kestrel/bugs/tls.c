/*
 * bug=tls: a segment goes away that is still in a register.
 *
 * The Host checks what stands in a descriptor, not whether somebody uses it. When it enters the guest again the Switcher
 * loads %gs, and the CPU refuses, in ring 0, in the middle of the Switcher. Nobody can handle that.
 */
#include "bugs.h"

#define FLAT_LO         0x0000ffff
#define FLAT_USER_HI    0x00cff300
#define TLS_SELECTOR    (TLS_FIRST << 3 | USER_RING)

static struct descriptor tls[TLS_ENTRIES];

static void load_gs(u32 selector)
{
    asm volatile("movl %0, %%gs" : : "r"(selector));
}

void show_tls(void)
{
    tls[0] = (struct descriptor){ FLAT_LO, FLAT_USER_HI };
    hcall(LHCALL_LOAD_TLS, physical(tls), 0, 0);
    load_gs(TLS_SELECTOR);
    print("kestrel: a segment for a thread\n");
    tls[0] = (struct descriptor){ 0, 0 };
    if (is_fixed)
        load_gs(0);
    hcall(LHCALL_LOAD_TLS, physical(tls), 0, 0);
    print("kestrel: and gone again\n");
}
