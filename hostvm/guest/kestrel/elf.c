/*
 * ELF: a static i386 program becomes regions of an address space. Its bytes stay where they are, in the archive; pages
 * are filled from there when they are touched. Nothing in the file is trusted.
 */
#include "kernel.h"

#define ELF_MAGIC       0x464c457f
#define CLASS_32_LSB    0x00010101      /* 32 bits, little endian, version 1 */
#define TYPE_EXEC       2
#define TYPE_DYN        3
#define MACHINE_386     3
#define PT_LOAD         1
#define PT_INTERP       3
#define PF_W            2
#define MAX_HEADERS     16

/* Where a position-independent program goes. */
#define DYN_BASE        0x08000000

struct elf_header {
    u32 magic, class, padding[2];
    u16 type, machine;
    u32 version, entry, headers, sections, flags;
    u16 size, header_size, header_count, section_size, section_count, names;
};

struct program_header {
    u32 type, offset, vaddr, paddr, filesz, memsz, flags, align;
};

static int in_file(u32 offset, u32 length, u32 size)
{
    return offset <= size && length <= size - offset;
}

static int header_ok(const struct elf_header *elf, u32 size)
{
    return size >= sizeof(*elf) && elf->magic == ELF_MAGIC && (elf->class & 0xffffff) == CLASS_32_LSB &&
           (elf->type == TYPE_EXEC || elf->type == TYPE_DYN) && elf->machine == MACHINE_386 &&
           elf->header_size == sizeof(struct program_header) && elf->header_count <= MAX_HEADERS &&
           in_file(elf->headers, elf->header_count * sizeof(struct program_header), size);
}

static int load_segment(struct space *space, const u8 *file, u32 size, u32 base, const struct program_header *header)
{
    u32 start = base + header->vaddr;

    if (!header->memsz)
        return 1;
    if (!in_file(header->offset, header->filesz, size) || header->filesz > header->memsz || start < PAGE_SIZE ||
        start >= USER_END - STACK_SIZE || header->memsz > USER_END - STACK_SIZE - start)
        return 0;
    return add_region(space, (struct region){
        .start = start,
        .end = start + header->memsz,
        .writable = header->flags & PF_W,
        .data_start = start,
        .data_bytes = header->filesz,
        .data = file + header->offset,
    });
}

static void note_segment(struct image *image, const struct elf_header *elf, u32 base,
                         const struct program_header *header)
{
    u32 end = base + header->vaddr + header->memsz;

    if (end > image->end)
        image->end = end;
    if (elf->headers >= header->offset && elf->headers - header->offset < header->filesz)
        image->headers = base + header->vaddr + (elf->headers - header->offset);
}

/* 0, or an error. */
int load_elf(struct space *space, const u8 *file, u32 size, struct image *image)
{
    const struct elf_header *elf = (const struct elf_header *)file;
    const struct program_header *headers;
    u32 base;

    if (!header_ok(elf, size))
        return -ENOEXEC;
    headers = (const struct program_header *)(file + elf->headers);
    base = elf->type == TYPE_DYN ? DYN_BASE : 0;
    memset(image, 0, sizeof(*image));
    image->entry = base + elf->entry;
    image->header_count = elf->header_count;
    for (u32 i = 0; i < elf->header_count; i++) {
        if (headers[i].type == PT_INTERP)
            return -ENOEXEC;
        if (headers[i].type != PT_LOAD)
            continue;
        if (!load_segment(space, file, size, base, &headers[i]))
            return -ENOEXEC;
        note_segment(image, elf, base, &headers[i]);
    }
    return image->end ? 0 : -ENOEXEC;
}
