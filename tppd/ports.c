/* Which TCP ports are listened on inside, and by whom.
 *
 * The list comes from the kernel's socket diagnostics (20 µs), which look at listening sockets alone; where there
 * are none (gVisor), from /proc/self/net/tcp, which walks the whole machine's connection table (milliseconds).
 * Whose they are is asked of a file connection's process: it has the user's rights, so it sees the descriptors of
 * the user's processes, as tppd itself does not. Sockets of tppd's own are hidden by `port_hide`. */
#include "tppd.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_PORTS 1024    /* listening sockets that are told */
#define MAX_WATCHERS 64
#define LOOK_MS 500       /* between two looks while somebody watches */
#define LISTENING 10      /* TCP_LISTEN */
#define HIDDEN 8
#define ARGUMENTS 256     /* bytes of a command line that are told */

/* As it is told: u8 4 or 6 | u16 port | u32 uid | i64 inode | 16 bytes address, of IPv4 the first four. */
struct port { uint8_t family; uint16_t number; uint32_t uid; int64_t inode; uint8_t address[16]; } __attribute__((packed));
static struct port ports[MAX_PORTS];
static int port_count;

static struct { int port; int64_t inode; } hidden[HIDDEN];

void port_hide(int fd) {
    struct sockaddr_storage name;
    socklen_t size = sizeof name;
    struct stat s;
    if (getsockname(fd, (struct sockaddr *)&name, &size) < 0 || fstat(fd, &s) < 0) return;
    for (int i = 0; i < HIDDEN; i++)
        if (!hidden[i].port) { /* the port stands at the same place in both families */
            hidden[i].port = ntohs(((struct sockaddr_in *)&name)->sin_port);
            hidden[i].inode = (int64_t)s.st_ino;
            return;
        }
}

void port_show(int port) {
    for (int i = 0; i < HIDDEN; i++)
        if (hidden[i].port == port) hidden[i].port = 0;
}

bool port_is_hidden(int port) {
    for (int i = 0; i < HIDDEN; i++)
        if (hidden[i].port == port) return true;
    return false;
}

static void note(uint8_t family, uint16_t number, uint32_t uid, int64_t inode, const void *address) {
    for (int i = 0; i < HIDDEN; i++)
        if (hidden[i].port && hidden[i].inode == inode) return;
    if (port_count == MAX_PORTS) return;
    struct port *p = &ports[port_count++];
    *p = (struct port){.family = family, .number = number, .uid = uid, .inode = inode};
    memcpy(p->address, address, family == 4 ? 4 : 16);
}

/* The answer to one question is there as soon as it is asked: nothing waits here. */
static bool ask_kernel(int fd, int family) {
    struct { struct nlmsghdr head; struct inet_diag_req_v2 ask; } q = {
        .head = {.nlmsg_len = sizeof q, .nlmsg_type = SOCK_DIAG_BY_FAMILY, .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP},
        .ask = {.sdiag_family = (uint8_t)family, .sdiag_protocol = IPPROTO_TCP, .idiag_states = 1u << LISTENING},
    };
    static _Alignas(struct nlmsghdr) uint8_t answer[32768];
    if (send(fd, &q, sizeof q, MSG_DONTWAIT) != (ssize_t)sizeof q) return false;
    for (;;) {
        ssize_t n = recv(fd, answer, sizeof answer, MSG_DONTWAIT);
        if (n <= 0) return false;
        size_t left = (size_t)n;
        for (struct nlmsghdr *h = (struct nlmsghdr *)answer; NLMSG_OK(h, left); h = NLMSG_NEXT(h, left)) {
            if (h->nlmsg_type == NLMSG_DONE) return true;
            if (h->nlmsg_type == NLMSG_ERROR) return false;
            if (h->nlmsg_len < NLMSG_LENGTH(sizeof(struct inet_diag_msg))) continue;
            const struct inet_diag_msg *m = NLMSG_DATA(h);
            note(m->idiag_family == AF_INET ? 4 : 6, ntohs(m->id.idiag_sport), m->idiag_uid, m->idiag_inode,
                 m->id.idiag_src);
        }
    }
}

static void read_table(const char *path, uint8_t family) {
    char line[512], address[33];
    FILE *f = fopen(path, "re");
    if (!f) return;
    while (fgets(line, sizeof line, f)) {
        unsigned port, state, uid, raw[4] = {0};
        unsigned long long inode;
        if (sscanf(line, "%*s %32[0-9A-Fa-f]:%x %*s %x %*s %*s %*s %u %*s %llu", address, &port, &state, &uid, &inode) != 5 ||
            state != LISTENING)
            continue;
        for (int i = 0; i < (family == 4 ? 1 : 4); i++) {
            char word[9] = {0}; /* as the kernel has them in memory */
            memcpy(word, address + 8 * i, 8);
            raw[i] = (unsigned)strtoul(word, NULL, 16);
        }
        note(family, (uint16_t)port, uid, (int64_t)inode, raw);
    }
    fclose(f);
}

static int by_place(const void *a, const void *b) {
    const struct port *p = a, *q = b;
    if (p->number != q->number) return p->number < q->number ? -1 : 1;
    return memcmp(p, q, sizeof *p);
}

/* Fills `ports`; a number that is another one after every change. */
static int64_t look(void) {
    static int fd = -1;
    if (fd < 0) fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
    port_count = 0;
    if (fd < 0 || !ask_kernel(fd, AF_INET) || !ask_kernel(fd, AF_INET6)) {
        if (fd >= 0) close(fd); /* with what may still lie in it */
        fd = -1;
        port_count = 0;
        read_table("/proc/self/net/tcp", 4);
        read_table("/proc/self/net/tcp6", 6);
    }
    qsort(ports, (size_t)port_count, sizeof *ports, by_place);
    uint64_t hash = 14695981039346656037u; /* FNV-1a */
    for (size_t i = 0; i < (size_t)port_count * sizeof *ports; i++)
        hash = (hash ^ ((const uint8_t *)ports)[i]) * 1099511628211u;
    return (int64_t)(hash >> 11); /* 53 bits: a number of JSON too; never -1, which stands for none */
}

/* ---- watching ---- */

struct watcher { struct conn *conn; uint32_t id; int64_t change, deadline_ms; struct watcher *next; };
static struct watcher *watchers;
static int watcher_count;
static int64_t look_ms;

static void tell(struct conn *c, uint32_t id, int64_t change) {
    size_t begin = reply_begin(&c->out, STATUS_OK, id);
    reply_number(&c->out, TAG_CHANGE, change);
    for (int i = 0; i < port_count; i++) reply_bytes(&c->out, TAG_SOCKET, &ports[i], sizeof ports[i]);
    reply_end(&c->out, begin);
}

void ports_listen(struct conn *c, const struct request *r) {
    int64_t known = field_number(r, TAG_CHANGE, -1), timeout = field_number(r, TAG_TIMEOUT_MS, 0), now = look();
    if (known != now || timeout <= 0) {
        tell(c, r->id, now);
        return;
    }
    if (watcher_count == MAX_WATCHERS) {
        reply_error(&c->out, STATUS_OVERLOADED, r->id, 0, "%d watch the ports of this sandbox", MAX_WATCHERS);
        return;
    }
    struct watcher *w = calloc(1, sizeof *w);
    if (!w) abort();
    *w = (struct watcher){.conn = c, .id = r->id, .change = known, .next = watchers,
                          .deadline_ms = now_ms() + (timeout < 600000 ? timeout : 600000)};
    if (!watchers) look_ms = now_ms() + LOOK_MS;
    watchers = w;
    watcher_count++;
}

void ports_forget(const struct conn *c) {
    for (struct watcher **p = &watchers; *p;) {
        struct watcher *w = *p;
        if (w->conn == c) {
            *p = w->next;
            watcher_count--;
            free(w);
        } else {
            p = &w->next;
        }
    }
}

int64_t ports_tick(void) {
    if (!watchers) return -1;
    int64_t now = now_ms();
    if (now < look_ms) return look_ms - now;
    int64_t change = look();
    look_ms = now + LOOK_MS;
    for (struct watcher **p = &watchers; *p;) {
        struct watcher *w = *p;
        if (w->change == change && now < w->deadline_ms) {
            p = &w->next;
            continue;
        }
        *p = w->next; /* out of the list first: writing to its connection may close that */
        watcher_count--;
        tell(w->conn, w->id, change);
        conn_flush(w->conn);
        free(w);
        p = &watchers; /* and with it others of its own */
    }
    return watchers ? LOOK_MS : -1;
}

/* ---- whose they are: in a file connection's process ---- */

static int by_number(const void *a, const void *b) {
    int64_t p = *(const int64_t *)a, q = *(const int64_t *)b;
    return p < q ? -1 : p > q;
}

/* i64 inode | i64 pid | its name, NUL, the beginning of its arguments. */
static void tell_holder(struct buffer *out, int64_t inode, long pid) {
    struct buffer one = {0};
    char path[64], words[ARGUMENTS];
    int64_t numbers[2] = {inode, pid};
    buffer_add(&one, numbers, sizeof numbers);
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "/proc/%ld/%s", pid, i ? "cmdline" : "comm");
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t n = fd < 0 ? -1 : read(fd, words, sizeof words);
        if (fd >= 0) close(fd);
        if (n > 0 && !i && words[n - 1] == '\n') n--;
        if (n > 0) buffer_add(&one, words, (size_t)n);
        if (!i) buffer_add(&one, "", 1);
    }
    reply_bytes(out, TAG_HOLDER, one.at, one.len);
    buffer_free(&one);
}

static void holders_of(struct buffer *out, const int64_t *wanted, size_t count, bool *found, long pid) {
    char path[64], target[64];
    snprintf(path, sizeof path, "/proc/%ld/fd", pid);
    DIR *fds = opendir(path);
    if (!fds) return;
    for (struct dirent *e; (e = readdir(fds));) {
        ssize_t n = readlinkat(dirfd(fds), e->d_name, target, sizeof target - 1);
        if (n < 9 || memcmp(target, "socket:[", 8)) continue;
        target[n] = 0;
        int64_t inode = strtoll(target + 8, NULL, 10);
        const int64_t *at = bsearch(&inode, wanted, count, sizeof *wanted, by_number);
        if (!at || found[at - wanted]) continue;
        found[at - wanted] = true; /* of several that share it the first, as a rule their parent */
        tell_holder(out, inode, pid);
    }
    closedir(fds);
}

void ports_holders(struct buffer *out, const struct request *r) {
    static int64_t wanted[MAX_PORTS];
    static bool found[MAX_PORTS];
    size_t cursor = 0, count = 0;
    uint8_t tag;
    struct bytes v;
    while (field_next(r, &cursor, &tag, &v))
        if (tag == TAG_SOCKET && v.len == sizeof *wanted && count < MAX_PORTS) memcpy(&wanted[count++], v.at, v.len);
    qsort(wanted, count, sizeof *wanted, by_number);
    memset(found, 0, sizeof found);
    size_t begin = reply_begin(out, STATUS_OK, r->id);
    DIR *processes = count ? opendir("/proc") : NULL;
    for (struct dirent *e; processes && (e = readdir(processes));) {
        long pid = strtol(e->d_name, NULL, 10);
        if (pid > 0) holders_of(out, wanted, count, found, pid);
    }
    if (processes) closedir(processes);
    reply_end(out, begin);
}
