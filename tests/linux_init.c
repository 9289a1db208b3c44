/*
 * The first program of a Linux that the tests try: what it does is said on the kernel's command line, by the word try=.
 * The kernel hands a word NAME=VALUE that means nothing to itself to its first program, as part of the environment.
 *
 * It needs nothing but system calls by `int $0x80`, and the runtime of tests/hostvm/user_programs.py, which is put before
 * it. Numbers and structures are the i386's.
 */

enum {
    EXIT = 1, FORK, READ, WRITE, OPEN, CLOSE, MKNOD = 14, MOUNT = 21, SYNC = 36, MKDIR = 39, UMOUNT = 22,
    GETPID = 20, PTRACE = 26, KILL = 37, IOCTL = 54, DUP2 = 63, SETSID = 66, REBOOT = 88, SOCKETCALL = 102, FSYNC = 118, POLL = 168,
};
enum { SOCKET = 1, BIND, CONNECT, LISTEN, ACCEPT, SENDTO = 11, RECVFROM, SETSOCKOPT = 14 };
enum { POWEROFF = 0x4321FEDC, RESTART = 0x01234567 };
enum { TRACEME = 0, PEEKTEXT, PEEKUSER = 3, CONTINUE = 7, SINGLESTEP = 9, SIGTRAP = 5, TRAPPED = 0x057F };
enum { RDWR = 2, CREATE = 0x40 | 0x200, BLKFLSBUF = 0x1261, TIOCSCTTY = 0x540E };

static char line[4096];
static unsigned char block[65536];

static int length(const char *s) { int n = 0; while (s[n]) n++; return n; }

static void number(unsigned n) {
    char digits[12], *at = digits + 11;
    *at = 0;
    do *--at = '0' + n % 10; while (n /= 10);
    print(at);
}

static void finish(int how) {
    syscall(SYNC, 0, 0, 0, 0);
    syscall(REBOOT, 0xFEE1DEAD, 672274793, how, 0);
    for (;;) ;
}

/* What cannot be is said, and ends the run. */
static int must(const char *what, int result) {
    if (result < 0) {
        print("FAILED: "); print(what); print(" "); number(-result); print("\n");
        finish(POWEROFF);
    }
    return result;
}

static const char *word(char **environment, const char *name) {
    int n = length(name);
    for (; *environment; environment++) {
        int i = 0;
        while (i < n && (*environment)[i] == name[i]) i++;
        if (i == n && (*environment)[n] == '=') return *environment + n + 1;
    }
    return "";
}

static int same(const char *a, const char *b) {
    while (*a && *a == *b) a++, b++;
    return *a == *b;
}

static unsigned sum(const unsigned char *data, int n, unsigned value) {
    while (n--) value = value * 31 + *data++;
    return value;
}

static void mount(const char *what, const char *where, const char *kind) {
    int result;
    asm volatile("int $0x80" : "=a"(result)
                 : "a"(MOUNT), "b"(what), "c"(where), "d"(kind), "S"(0), "D"(0) : "memory");
    must(kind, result);
}

/* ---- console: a program at a terminal, which ^C ends and its parent starts again ---- */

static void talk(void) {
    syscall(SETSID, 0, 0, 0, 0);
    int terminal = must("/dev/hvc0", syscall(OPEN, (int)"/dev/hvc0", RDWR, 0, 0));
    must("to have a terminal", syscall(IOCTL, terminal, TIOCSCTTY, 0, 0));
    for (int i = 0; i < 3; i++) syscall(DUP2, terminal, i, 0, 0);
    print("talk: ready\n");
    for (;;) {
        int n = must("to read", syscall(READ, 0, (int)line, sizeof line - 1, 0));
        line[n] = 0;
        if (!n || same(line, "exit\n")) syscall(EXIT, 0, 0, 0, 0);
        print("you said "); number(n - 1); print(": "); print(line);
    }
}

static void try_console(void) {
    int status;
    do {
        if (!syscall(FORK, 0, 0, 0, 0)) talk();
        status = wait();
        if (status & 127) { print("talk: killed by "); number(status & 127); print("\n"); }
    } while (status & 127);
    print("talk: over\n");
}

/* ---- disk: whatever it is called, it has an ext2 on it ---- */

static void find_disk(void) {
    unsigned major = 0, minor = 0, n = 0;
    mount("none", "/proc", "proc");
    int partitions = must("/proc/partitions", syscall(OPEN, (int)"/proc/partitions", 0, 0, 0));
    n = must("partitions", syscall(READ, partitions, (int)line, sizeof line - 1, 0));
    line[n] = 0;
    for (char *at = line; *at; at++) {
        /* The name stands behind major, minor and size: the first of vda and lgba. */
        if ((at[0] != 'v' || at[1] != 'd') && (at[0] != 'l' || at[1] != 'g')) continue;
        char *begin = at;
        while (begin > line && begin[-1] != '\n') begin--;
        while (*begin == ' ') begin++;
        for (; *begin >= '0' && *begin <= '9'; begin++) major = major * 10 + *begin - '0';
        while (*begin == ' ') begin++;
        for (; *begin >= '0' && *begin <= '9'; begin++) minor = minor * 10 + *begin - '0';
        break;
    }
    if (!major) must("to find a disk", -2);
    syscall(MKNOD, (int)"/dev/disk", 0060600, major << 8 | minor, 0);
    mount("/dev/disk", "/mnt", "ext2");
}

/* Off, and what is kept of it in memory forgotten. */
static void unmount(void) {
    must("to unmount", syscall(UMOUNT, (int)"/mnt", 0, 0, 0));
    int disk = must("/dev/disk", syscall(OPEN, (int)"/dev/disk", RDWR, 0, 0));
    must("to flush", syscall(IOCTL, disk, BLKFLSBUF, 0, 0));
    syscall(CLOSE, disk, 0, 0, 0);
}

static void show(const char *path) {
    int file = must(path, syscall(OPEN, (int)path, 0, 0, 0));
    unsigned count = 0, value = 0;
    for (int n; (n = must("to read", syscall(READ, file, (int)block, sizeof block, 0))); count += n)
        value = sum(block, n, value);
    print("disk: "); print(path); print(" "); number(count); print(" "); number(value); print("\n");
    syscall(CLOSE, file, 0, 0, 0);
}

static void fill(unsigned seed) {
    for (unsigned i = 0; i < sizeof block; i++) block[i] = (seed = seed * 1103515245 + 12345) >> 16;
}

static void try_disk(void) {
    find_disk();
    show("/mnt/given");
    int file = must("/mnt/new", syscall(OPEN, (int)"/mnt/new", RDWR | CREATE, 0600, 0));
    for (unsigned i = 0; i < 5; i++) {
        fill(i);
        must("to write", syscall(WRITE, file, (int)block, sizeof block, 0) - (int)sizeof block);
    }
    must("to sync", syscall(FSYNC, file, 0, 0, 0));
    syscall(CLOSE, file, 0, 0, 0);
    must("to make a directory", syscall(MKDIR, (int)"/mnt/more", 0700, 0, 0));
    unmount();
    mount("/dev/disk", "/mnt", "ext2");
    show("/mnt/new");
    show("/mnt/given");
    unmount();
}

/* Restarts until the disk remembers that it has. */
static void try_restart(void) {
    unsigned char boots = 0;
    find_disk();
    int file = must("/mnt/boots", syscall(OPEN, (int)"/mnt/boots", RDWR | 0x40, 0600, 0));
    syscall(READ, file, (int)&boots, 1, 0);
    boots++;
    syscall(CLOSE, file, 0, 0, 0);
    file = must("/mnt/boots", syscall(OPEN, (int)"/mnt/boots", RDWR, 0600, 0));
    must("to write", syscall(WRITE, file, (int)&boots, 1, 0));
    syscall(CLOSE, file, 0, 0, 0);
    unmount();
    print("boot "); number(boots); print("\n");
    if (boots < 3) finish(RESTART);
}

/* ---- network ---- */

struct address { unsigned short family; unsigned short port; unsigned ip; char rest[8]; };
struct request { char name[16]; union { struct address address; unsigned char bytes[16]; short flags; }; };
struct waited { int file; short events, came; };

static unsigned short swap16(unsigned short n) { return n >> 8 | n << 8; }
static unsigned swap32(unsigned n) { return __builtin_bswap32(n); }

static int socketcall(int what, int a, int b, int c, int d, int e, int f) {
    int arguments[6] = {a, b, c, d, e, f};
    return syscall(SOCKETCALL, what, (int)arguments, 0, 0);
}

static struct address at(unsigned ip, int port) {
    struct address made = {2, swap16(port), swap32(ip)};
    return made;
}

static int socket_at(int kind, int port) {
    struct address here = at(0, port);
    int one = 1, made = must("a socket", socketcall(SOCKET, 2, kind, 0, 0, 0, 0));
    must("to broadcast", socketcall(SETSOCKOPT, made, 1, 6, (int)&one, 4, 0));
    must("to bind", socketcall(BIND, made, (int)&here, sizeof here, 0, 0, 0));
    return made;
}

/*
 * Give eth0 this address, or one by its card's, which ends in a number, or in 2.6.23 has the guest's in the middle; it is
 * told.
 */
static unsigned up(unsigned ip, unsigned mask) {
    struct request request = {"eth0"};
    int any = must("a socket", socketcall(SOCKET, 2, 2, 0, 0, 0, 0));
    must("eth0", syscall(IOCTL, any, 0x8927, (int)&request, 0));
    unsigned char *card = request.bytes + 2;
    if (!ip) ip = 10 << 24 | card[2] + card[5] + 1;
    request.address = at(ip, 0);
    must("an address", syscall(IOCTL, any, 0x8916, (int)&request, 0));
    request.address = at(mask, 0);
    must("a mask", syscall(IOCTL, any, 0x891C, (int)&request, 0));
    request.flags = 0x41;
    must("to be up", syscall(IOCTL, any, 0x8914, (int)&request, 0));
    syscall(CLOSE, any, 0, 0, 0);
    return ip;
}

static void all_of(int call, int file, unsigned char *data, int n) {
    for (int done; n; data += done, n -= done)
        if (!(done = must("to send and receive", syscall(call, file, (int)data, n, 0)))) must("the end", -5);
}

static void serve(int listening) {
    unsigned answer;
    int other = must("to accept", socketcall(ACCEPT, listening, 0, 0, 0, 0, 0));
    all_of(READ, other, block, sizeof block);
    answer = sum(block, sizeof block, 0);
    all_of(WRITE, other, (unsigned char *)&answer, 4);
    print("net: got "); number(sizeof block); print(" "); number(answer); print("\n");
    struct waited end = {other, 1, 0};
    syscall(POLL, (int)&end, 1, 5000, 0);
}

static void send_to(unsigned peer) {
    unsigned answer = 0;
    struct address there = at(peer, 7001);
    int other = must("a socket", socketcall(SOCKET, 2, 1, 0, 0, 0, 0));
    must("to connect", socketcall(CONNECT, other, (int)&there, sizeof there, 0, 0, 0));
    fill(peer);
    all_of(WRITE, other, block, sizeof block);
    all_of(READ, other, (unsigned char *)&answer, 4);
    print(answer == sum(block, sizeof block, 0) ? "net: as sent " : "net: WRONG ");
    number(sizeof block); print(" "); number(answer); print("\n");
    syscall(CLOSE, other, 0, 0, 0);
}

/* Call until another is heard: the one with the greater address then sends, by TCP, and the other listens. */
static void try_net(void) {
    unsigned me = up(0, 0xFF000000);
    int calls = socket_at(2, 7000), listening = socket_at(1, 7001);
    struct address all = at(0x0AFFFFFF, 7000), from;
    struct waited both[] = {{calls, 1, 0}, {listening, 1, 0}};
    must("to listen", socketcall(LISTEN, listening, 1, 0, 0, 0, 0));
    for (int i = 0; i < 600; i++) {
        int size = sizeof from;
        socketcall(SENDTO, calls, (int)"here", 4, 0, (int)&all, sizeof all);
        syscall(POLL, 0, 0, 100, 0);
        /* It hears itself as well. */
        while (syscall(POLL, (int)both, 2, 0, 0) > 0) {
            if (both[1].came) { serve(listening); return; }
            must("to hear", socketcall(RECVFROM, calls, (int)line, sizeof line, 0, (int)&from, (int)&size));
            if (swap32(from.ip) < me) { send_to(swap32(from.ip)); return; }
        }
    }
    must("to hear of another", -110);
}

/* Say something to port `port` of 10.0.2.2 until there is an answer. */
static void try_peer(const char *digits) {
    int port = 0;
    while (*digits) port = port * 10 + *digits++ - '0';
    up(0x0A00020F, 0xFFFFFF00);
    struct address there = at(0x0A000202, port);
    int calls = socket_at(2, 7000);
    struct waited answer = {calls, 1, 0};
    for (int i = 0; i < 120; i++) {
        socketcall(SENDTO, calls, (int)"hello from a guest", 18, 0, (int)&there, sizeof there);
        syscall(POLL, (int)&answer, 1, 500, 0);
        if (!answer.came) continue;
        int n = must("to hear", syscall(READ, calls, (int)line, sizeof line - 1, 0));
        line[n] = 0;
        print("peer: "); print(line); print("\n");
        return;
    }
    must("to hear of the peer", -110);
}

/* ---- a debugger: it single-steps another program from one mark to the next ---- */

enum { MARK = 0xF8F9F8, NEXT_MARK = 0xF9F8F9 };

static void traced(void) {
    must("to be traced", syscall(PTRACE, TRACEME, 0, 0, 0));
    syscall(KILL, syscall(GETPID, 0, 0, 0, 0), SIGTRAP, 0, 0);
    asm volatile("clc; stc; clc; mov $10, %%ecx; 1: loop 1b; stc; clc; stc" : : : "ecx", "cc");
    syscall(EXIT, 7, 0, 0, 0);
}

/* The three bytes at which the program stands. */
static int where(int child) {
    int eip, text;
    must("to look", syscall(PTRACE, PEEKUSER, child, 12 * 4, (int)&eip));
    must("to read", syscall(PTRACE, PEEKTEXT, child, eip, (int)&text));
    return text & 0xFFFFFF;
}

static void try_step(void) {
    int child = must("to fork", syscall(FORK, 0, 0, 0, 0)), steps = 0, here;
    if (!child) traced();
    if (wait() != TRAPPED) must("a first stop", -1);
    do {
        must("to step", syscall(PTRACE, SINGLESTEP, child, 1, 0));
        if (wait() != TRAPPED) must("a step", -1);
        here = where(child);
        if (here == MARK) steps = 0; else steps++;
    } while (here != NEXT_MARK);
    must("to let go", syscall(PTRACE, CONTINUE, child, 1, 0));
    print("step: "); number(steps); print(" steps, then it ended with "); number(wait() >> 8); print("\n");
}

int main(int count, char **arguments) {
    char **environment = arguments + count + 1;
    const char *what = word(environment, "try");
    print("try: "); print(what); print("\n");
    if (same(what, "die")) return 3;
    if (same(what, "console")) try_console();
    if (same(what, "disk")) try_disk();
    if (same(what, "restart")) try_restart();
    if (same(what, "net")) try_net();
    if (same(what, "step")) try_step();
    if (same(what, "peer")) try_peer(word(environment, "port"));
    print("try: done\n");
    finish(POWEROFF);
    return 0;
}
