/*
 * The console as a terminal, if the word `tty` is on the command line: lines are put together here, with what is typed
 * shown, and a program gets them whole. Without the word every byte reaches the program as it is, and nothing is shown.
 *
 * Return ends a line, ^D does without being part of it, backspace takes a character back and ^U all of them; ^C ends the
 * program that reads.
 */
#include "kernel.h"

#define LINE_SIZE       256
#define SIGINT          2

#define CONTROL(letter) ((letter) & 0x1f)
#define DELETE          0x7f

static char line[LINE_SIZE];
static u32 line_read, line_filled;

static void take_back(void)
{
    line_filled--;
    console_write("\b \b", 3);
}

/* Whether the line goes on. */
static int add(char c)
{
    switch (c) {
    case CONTROL('C'):
        console_write("^C\n", 3);
        line_filled = 0;
        exit_process(SIGINT);
    case CONTROL('D'):
        return 0;
    case '\b':
    case DELETE:
        if (line_filled)
            take_back();
        return 1;
    case CONTROL('U'):
        while (line_filled)
            take_back();
        return 1;
    case '\r':
        c = '\n';
        break;
    }
    if (line_filled < LINE_SIZE - (c != '\n') && ((u8)c >= ' ' || c == '\t' || c == '\n')) {
        line[line_filled++] = c;
        console_write(&c, 1);
    }
    return c != '\n';
}

static u32 min(u32 a, u32 b)
{
    return a < b ? a : b;
}

/* As console_read. */
u32 tty_read(char *buffer, u32 length)
{
    static int known, wanted;
    u32 count;
    char c;

    if (!known) {
        known = 1;
        wanted = command_line_flag("tty");
    }
    if (!wanted)
        return console_read(buffer, length);
    if (line_read == line_filled) {
        line_read = line_filled = 0;
        do {
            if (!console_read(&c, 1))
                break;
        } while (add(c));
    }
    count = min(length, line_filled - line_read);
    memcpy(buffer, line + line_read, count);
    line_read += count;
    return count;
}
