/*
 * exec: a process gets another program. Programs come from the archive that the Launcher has put into memory, or are
 * linked into the kernel's image (user/), all of those as one text with many mains.
 *
 * The order matters: the old program's memory, where the arguments are, must not go before all that can fail has been
 * done. The new program's stack is written last and from within its own address space.
 */
#include "kernel.h"
#include "user/program.h"

#define PATH_SIZE       128
#define MAX_STRINGS     64
#define RANDOM_BYTES    16

#define AT_NULL         0
#define AT_PHDR         3
#define AT_PHENT        4
#define AT_PHNUM        5
#define AT_PAGESZ       6
#define AT_ENTRY        9
#define AT_UID          11
#define AT_EUID         12
#define AT_GID          13
#define AT_EGID         14
#define AT_CLKTCK       17
#define AT_SECURE       23
#define AT_RANDOM       25
#define PHENT_SIZE      32

/* The strings of argv and then those of the environment, one behind the other. */
struct arguments {
    u32 argc, envc, used;
    char text[PAGE_SIZE - 3 * sizeof(u32)];
};

/* Linker script (kestrel.lds). */
extern u8 __user_text_start[], __user_text_end[], __user_text_phys[];
extern u8 __user_data_start[], __user_data_end[], __user_bss_end[], __user_data_phys[];

static const char *const first_environment[] = { "HOME=/", "TERM=dumb" };

/* What is at a program's address, before any program runs. */
static const void *in_image(const void *user_address)
{
    return (const u8 *)user_address - __user_text_start + (const u8 *)virtual((u32)__user_text_phys);
}

static const struct program *find_builtin(const char *name)
{
    const struct program *program = in_image(programs);

    for (; program->name[0]; program++) {
        if (strings_equal(program->name, name))
            return program;
    }
    return 0;
}

static int load_builtin(struct space *space, const struct program *program, struct image *image)
{
    struct region text = {
        .start = (u32)__user_text_start,
        .end = (u32)__user_text_end,
        .data_start = (u32)__user_text_start,
        .data_bytes = (u32)(__user_text_end - __user_text_start),
        .data = virtual((u32)__user_text_phys),
    };
    struct region data = {
        .start = (u32)__user_data_start,
        .end = (u32)__user_bss_end,
        .writable = 1,
        .data_start = (u32)__user_data_start,
        .data_bytes = (u32)(__user_data_end - __user_data_start),
        .data = virtual((u32)__user_data_phys),
    };

    memset(image, 0, sizeof(*image));
    image->entry = (u32)user_start;
    image->start_argument = (u32)program->main;
    image->end = data.end;
    return add_region(space, text) && (data.start == data.end || add_region(space, data)) ? 0 : -ENOMEM;
}

static int load_program(struct space *space, const char *path, struct image *image)
{
    const struct program *program;
    const u8 *file;
    u32 size;
    int error;

    if (find_in_archive(path, &file, &size))
        error = load_elf(space, file, size, image);
    else if ((program = find_builtin(path)))
        error = load_builtin(space, program, image);
    else
        error = -ENOENT;
    space->heap_start = space->heap_end = (image->end + PAGE_SIZE - 1) & PTE_ADDRESS;
    return error;
}

static int add_string(struct arguments *arguments, const char *string)
{
    do {
        if (arguments->used == sizeof(arguments->text))
            return -E2BIG;
        arguments->text[arguments->used++] = *string;
    } while (*string++);
    return 0;
}

/* Append a program's array of strings; their number or an error. No array is an empty one. */
static int add_user_strings(struct arguments *arguments, u32 array)
{
    for (u32 count = 0; count < MAX_STRINGS; count++) {
        u32 slot = array + count * sizeof(u32);
        int length;

        if (!array)
            return 0;
        if (!user_range_ok(slot, sizeof(u32), 0))
            return -EFAULT;
        if (!*(const u32 *)slot)
            return (int)count;
        length = copy_user_string(arguments->text + arguments->used, *(const u32 *)slot,
                                  sizeof(arguments->text) - arguments->used);
        if (length < 0)
            return length;
        arguments->used += (u32)length + 1;
    }
    return -E2BIG;
}

static int take_arguments(struct arguments *arguments, u32 argv, u32 envp)
{
    int argc = add_user_strings(arguments, argv);
    int envc = argc < 0 ? argc : add_user_strings(arguments, envp);

    if (envc < 0)
        return envc;
    arguments->argc = (u32)argc;
    arguments->envc = (u32)envc;
    return 0;
}

/* From here on there is no way back. */
static void enter_space(const struct space *space)
{
    struct space old = current->space;

    current->space = *space;
    hcall(LHCALL_NEW_PGTABLE, physical(space->pgdir), 0, 0);
    if (old.pgdir != swapper_pgdir)
        release_pgdir(old.pgdir);
}

static u32 *put_pointers(u32 *at, u32 *string, u32 count)
{
    const char *text = (const char *)*string;

    while (count--) {
        *at++ = (u32)text;
        while (*text++)
            ;
    }
    *string = (u32)text;
    *at++ = 0;
    return at;
}

static u32 *put_auxiliary(u32 *at, const struct image *image, u32 random)
{
    const u32 vector[][2] = {
        { AT_PHDR, image->headers }, { AT_PHENT, PHENT_SIZE }, { AT_PHNUM, image->header_count },
        { AT_PAGESZ, PAGE_SIZE }, { AT_ENTRY, image->entry }, { AT_UID, 0 }, { AT_EUID, 0 }, { AT_GID, 0 },
        { AT_EGID, 0 }, { AT_CLKTCK, timer_hz }, { AT_SECURE, 0 }, { AT_RANDOM, random }, { AT_NULL, 0 },
    };

    for (u32 i = 0; i < sizeof(vector) / sizeof(vector[0]); i++) {
        *at++ = vector[i][0];
        *at++ = vector[i][1];
    }
    return at;
}

#define AUXILIARY_WORDS 26

/* argc, argv, environment and auxiliary vector, as the System V ABI has them; the stack pointer. */
static u32 build_stack(const struct arguments *arguments, const struct image *image)
{
    u32 random = USER_END - RANDOM_BYTES;
    u32 string = (random - arguments->used) & ~3u;
    u32 words = 1 + arguments->argc + 1 + arguments->envc + 1 + AUXILIARY_WORDS;
    u32 *esp = (u32 *)((string - words * sizeof(u32)) & ~15u);
    u32 *at = esp;

    /* Not random at all: a program computes the same each time. */
    for (u32 i = 0; i < RANDOM_BYTES; i++)
        ((u8 *)random)[i] = (u8)(i * 37 + 11);
    memcpy((void *)string, arguments->text, arguments->used);
    *at++ = arguments->argc;
    at = put_pointers(at, &string, arguments->argc);
    at = put_pointers(at, &string, arguments->envc);
    put_auxiliary(at, image, random);
    return (u32)esp;
}

static void forget_segments(void)
{
    leave_tls(current);
    memset(current->tls, 0, sizeof(current->tls));
    load_tls_of(current);
    hcall_flush();
}

static void start_at(struct trap_frame *frame, const struct image *image, u32 esp)
{
    memset(frame, 0, sizeof(*frame));
    frame->eip = image->entry;
    frame->ebx = image->start_argument;
    frame->cs = USER_CS;
    frame->ds = frame->es = frame->ss = USER_DS;
    frame->eflags = EFLAGS_IF;
    frame->esp = esp;
}

static const char *last_part(const char *path)
{
    const char *part = path;

    for (; *path; path++) {
        if (*path == '/' && path[1])
            part = path + 1;
    }
    return part;
}

/* 0, or an error and everything is as it was. */
static int run_program(struct trap_frame *frame, const char *path, const struct arguments *arguments)
{
    struct space space;
    struct image image = { 0 };
    int error = init_space(&space) ? load_program(&space, path, &image) : -ENOMEM;

    if (error) {
        release_pgdir(space.pgdir);
        return error;
    }
    enter_space(&space);
    forget_segments();
    fpu_forget(current);
    copy_name(current->name, last_part(path));
    start_at(frame, &image, build_stack(arguments, &image));
    return 0;
}

u32 exec(struct trap_frame *frame, u32 path, u32 argv, u32 envp)
{
    char name[PATH_SIZE];
    struct arguments *arguments = alloc_page();
    int error = copy_user_string(name, path, sizeof(name));

    if (error >= 0)
        error = take_arguments(arguments, argv, envp);
    if (!error)
        error = run_program(frame, name, arguments);
    release_page(physical(arguments));
    return (u32)error;
}

static void add_init_words(struct arguments *arguments)
{
    const char *at = init_words();
    char word[NAME_SIZE * 4];

    for (; *at; arguments->argc++) {
        u32 length = 0;

        for (; *at && *at != ' '; at++) {
            if (length < sizeof(word) - 1)
                word[length++] = *at;
        }
        word[length] = 0;
        add_string(arguments, word);
        while (*at == ' ')
            at++;
    }
}

/* Process 1 begins here, in the kernel, and leaves for its program by `frame`. */
void become_init(struct trap_frame *frame)
{
    struct arguments *arguments = alloc_page();
    char path[PATH_SIZE], name[PATH_SIZE];
    int error;

    if (!command_line_word("init=", path, sizeof(path)))
        copy_name(path, there_is_an_archive() ? "/init" : "init");
    if (!command_line_word("argv0=", name, sizeof(name)))
        memcpy(name, path, sizeof(name));
    add_string(arguments, name);
    arguments->argc = 1;
    add_init_words(arguments);
    for (; arguments->envc < sizeof(first_environment) / sizeof(first_environment[0]); arguments->envc++)
        add_string(arguments, first_environment[arguments->envc]);
    error = run_program(frame, path, arguments);
    if (error)
        panic(0, "cannot start %s: error %u", path, (u32)-error);
    copy_name(current->name, last_part(name));
    release_page(physical(arguments));
}

void start_init(void)
{
    struct trap_frame frame = { 0 };
    struct process *init = new_process("init");

    init->space.pgdir = swapper_pgdir;
    open_console(init);
    make_runnable(init, &frame, first_process);
}
