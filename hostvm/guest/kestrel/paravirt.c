/*
 * Patching: each call of a flag operation becomes the operation itself.
 *
 * It must happen once, with interrupts off, before anything measures or copies the kernel's text. A site that is left
 * alone is still right, only slower.
 */
#include "kernel.h"

#define NOP 0x90

extern struct paravirt_site __parainstructions_start[], __parainstructions_end[];

#define TEMPLATE(name) extern const u8 lgstart_##name[], lgend_##name[];
TEMPLATE(cli)
TEMPLATE(sti)
TEMPLATE(popf)
TEMPLATE(pushf)

struct template {
    const u8 *start, *end;
};

static struct template template_of(u32 operation)
{
    switch (operation) {
    case PARAVIRT_CLI:
        return (struct template){ lgstart_cli, lgend_cli };
    case PARAVIRT_PUSHF:
        return (struct template){ lgstart_pushf, lgend_pushf };
#if LGUEST_GENERATION <= 206
    case PARAVIRT_STI:
        return (struct template){ lgstart_sti, lgend_sti };
    case PARAVIRT_POPF:
        return (struct template){ lgstart_popf, lgend_popf };
#endif
    }
    return (struct template){ 0, 0 };
}

static void patch(u8 *site, struct template template)
{
    u32 length = (u32)(template.end - template.start);

    if (!length || length > PARAVIRT_SITE)
        return;
    memcpy(site, template.start, length);
    memset(site + length, NOP, PARAVIRT_SITE - length);
}

void patch_paravirt(void)
{
    for (struct paravirt_site *site = __parainstructions_start; site < __parainstructions_end; site++)
        patch(site->at, template_of(site->operation));
}
