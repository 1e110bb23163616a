/* Options, process-wide set-up and the one loop.
 *
 *   tppd (--run DIR | --run-fd N) [--listen-fd N] [--alive-fd N] [--oom-fd N] [--generation N] [--uid N --gid N] [--home DIR]
 *        [--limit-nproc N] [--limit-nofile N] [--limit-fsize BYTES] [--limit-data BYTES]
 *
 * With --run it makes the socket itself; --uid and --gid are for a tppd that runs as root and gives its
 * commands away. Its files belong to the owner of the run directory, whoever that is on the host. */
#include "tppd.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/fsuid.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

struct options options = {
    .run_fd = -1, .listen_fd = -1, .oom_fd = -1, .home = "/home/user", .journal_bytes = JOURNAL_BYTES,
};
int epoll_fd;
volatile int64_t *epoch;
int64_t started_ms;
bool stopping;
static int64_t stop_by_ms;

static int64_t clock_us(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}
int64_t now_us(void) { return clock_us(CLOCK_MONOTONIC); }
int64_t now_ms(void) { return now_us() / 1000; }
int64_t wall_ms(void) { return clock_us(CLOCK_REALTIME) / 1000; }

void say(const char *format, ...) {
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    dprintf(2, "tppd: %s\n", text);
}

static _Noreturn void die(const char *what) {
    say("%s: %s", what, strerror(errno));
    exit(1);
}

static void control(int operation, int fd, struct handle *h, uint32_t events) {
    struct epoll_event e = {.events = events, .data.ptr = h};
    epoll_ctl(epoll_fd, operation, fd, &e);
}
void watch(int fd, struct handle *h, uint32_t events) { control(EPOLL_CTL_ADD, fd, h, events); }
void rewatch(int fd, struct handle *h, uint32_t events) { control(EPOLL_CTL_MOD, fd, h, events); }
void unwatch(int fd) { control(EPOLL_CTL_DEL, fd, NULL, 0); }

static void **graves;
static size_t grave_count, grave_cap;

void bury(void *memory) {
    if (grave_count == grave_cap) {
        grave_cap = grave_cap ? 2 * grave_cap : 16;
        graves = realloc(graves, grave_cap * sizeof *graves);
        if (!graves) abort();
    }
    graves[grave_count++] = memory;
}

static void parse(int argc, char **argv) {
    for (int i = 1; i + 1 < argc; i += 2) {
        const char *name = argv[i], *value = argv[i + 1];
        long long number = strtoll(value, NULL, 10);
        if (!strcmp(name, "--run")) options.run_fd = open(value, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        else if (!strcmp(name, "--run-fd")) options.run_fd = (int)number;
        else if (!strcmp(name, "--listen-fd")) options.listen_fd = (int)number;
        else if (!strcmp(name, "--oom-fd")) options.oom_fd = (int)number;
        else if (!strcmp(name, "--alive-fd")) fcntl((int)number, F_SETFD, FD_CLOEXEC); /* held, never used */
        else if (!strcmp(name, "--generation")) options.generation = number;
        else if (!strcmp(name, "--uid")) options.uid = (uid_t)number, options.drop = true;
        else if (!strcmp(name, "--gid")) options.gid = (gid_t)number;
        else if (!strcmp(name, "--home")) options.home = value;
        else if (!strcmp(name, "--limit-nproc")) options.nproc = (rlim_t)number;
        else if (!strcmp(name, "--limit-nofile")) options.nofile = (rlim_t)number;
        else if (!strcmp(name, "--limit-fsize")) options.fsize = (rlim_t)number;
        else if (!strcmp(name, "--limit-data")) options.data = (rlim_t)number;
        else if (!strcmp(name, "--journal-bytes")) options.journal_bytes = (uint64_t)number;
        else if (!strcmp(name, "--journal-floor")) options.journal_floor = (uint64_t)number;
        else {
            say("unknown option %s", name);
            exit(2);
        }
    }
    if (options.run_fd < 0) die("--run or --run-fd");
}

/* The directory's owner on the host must be able to read what is written and to use the socket. */
static void become_owner(void) {
    struct stat s;
    if (fstat(options.run_fd, &s) < 0) die("the run directory");
    if (geteuid() == 0 && s.st_uid != 0) {
        setfsgid(s.st_gid);
        setfsuid(s.st_uid);
    }
    umask(077);
}

/* A volume that was made for an image without this directory belongs to root. What is inside stays as it is. */
static void give_home(void) {
    struct stat s;
    if (options.drop && lstat(options.home, &s) == 0 && S_ISDIR(s.st_mode) && s.st_uid != options.uid)
        if (chown(options.home, options.uid, options.gid) < 0) say("%s: %s", options.home, strerror(errno));
}

static int own_socket(void) {
    struct sockaddr_un name = {.sun_family = AF_UNIX, .sun_path = "ctl.sock"};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || fchdir(options.run_fd) < 0) die("the socket");
    unlink(name.sun_path);
    if (bind(fd, (struct sockaddr *)&name, sizeof name) < 0 || listen(fd, 256) < 0) die("the socket");
    if (chdir("/") < 0) die("/");
    return fd;
}

static void set_up(void) {
    struct rlimit files;
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0); /* /proc/1/fd and /proc/1/mem are closed to the same user */
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    give_home(); /* while we may: as the directory's owner we could not */
    become_owner();
    fcntl(options.run_fd, F_SETFD, FD_CLOEXEC);
    memory_open(options.oom_fd);
    if (options.listen_fd < 0) options.listen_fd = own_socket();
    fcntl(options.listen_fd, F_SETFD, FD_CLOEXEC);
    fcntl(options.listen_fd, F_SETFL, O_NONBLOCK);
    getrlimit(RLIMIT_NOFILE, &options.given_nofile);
    files = options.given_nofile;
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    for (int signo = 1; signo < 65; signo++) signal(signo, SIG_DFL); /* whatever our starter ignored */
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
    if (mkdirat(options.run_fd, "records", 0700) < 0 && errno != EEXIST) die("records");
    if (mkdirat(options.run_fd, "output", 0700) < 0 && errno != EEXIST) die("output");
    epoch = mmap(NULL, 2 * sizeof *epoch, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (epoch == MAP_FAILED) die("mmap");
    *epoch = number_read("epoch");
    started_ms = wall_ms();
    if (renounce() < 0) die("the system call filter");
    if (number_write("generation", options.generation) < 0) die("generation");
}

static struct { struct handle handle; int fd; } signals;

/* From inside, a signal to process 1 comes with a sender; only the host (sender 0) may end the sandbox. */
static void signals_ready(struct handle *h, uint32_t events) {
    struct signalfd_siginfo info;
    (void)h, (void)events;
    while (read(signals.fd, &info, sizeof info) == (ssize_t)sizeof info) {
        if (info.ssi_signo == SIGCHLD || (info.ssi_pid != 0 && getpid() == 1) || stopping) continue;
        stopping = true;
        stop_by_ms = now_ms() + 1500;
        execs_stop();
    }
    execs_reap();
}

static void watch_signals(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signals.handle.ready = signals_ready;
    signals.fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    if (signals.fd < 0) die("signalfd");
    watch(signals.fd, &signals.handle, EPOLLIN);
}

int main(int argc, char **argv) {
    if (argc > 1 && !strcmp(argv[1], "launch")) return launch(argc - 2, argv + 2);
    if (argc > 1 && !strcmp(argv[1], "guard")) return guard(argc - 2, argv + 2);
    parse(argc, argv);
    set_up();
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (epoll_fd < 0) die("epoll");
    watch_signals();
    conns_listen(options.listen_fd);
    for (;;) {
        struct epoll_event events[64];
        int64_t wait = execs_tick();
        if (stopping && (!execs || now_ms() >= stop_by_ms)) return 0;
        if (stopping && (wait < 0 || wait > 20)) wait = 20;
        record_prepare();
        int count = epoll_wait(epoll_fd, events, 64, (int)(wait > 60000 ? 60000 : wait));
        for (int i = 0; i < count; i++) {
            struct handle *h = events[i].data.ptr;
            h->ready(h, events[i].events);
        }
        while (grave_count) free(graves[--grave_count]);
    }
}
