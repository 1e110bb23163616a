/* All processes of the sandbox: the list of them, and ending every one.
 *
 * Those are tppd's descendants, less its shims and file processes. What belongs to no command is there as well:
 * the children of a shim that was killed from inside. */
#include "tppd.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define ARGUMENTS 4096 /* bytes of a command line that are told */

static bool is_own(pid_t pid) { return pid == getpid() || process_is_shim(pid) || files_is_worker(pid); }

static const struct exec *exec_of_shim(pid_t pid) {
    for (struct exec *x = execs; x; x = x->next)
        if (x->shim == pid && !x->shim_gone) return x;
    return NULL;
}

/* Whether `p` is one of those of the sandbox; `owner` becomes the command it comes from, or NULL. */
static bool is_inside(const struct process *list, int count, const struct process *p, const struct exec **owner) {
    *owner = NULL;
    if (p->state == 'Z' || is_own(p->pid)) return false;
    for (int depth = 0; p && depth < count; depth++) {
        if (p->parent == getpid()) return true;
        if ((*owner = exec_of_shim(p->parent))) return true;
        p = process_of(list, count, p->parent);
    }
    return false;
}

static int64_t boot_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_BOOTTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static size_t command_line(pid_t pid, char *text, size_t size) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/cmdline", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, size);
    if (fd >= 0) close(fd);
    return n < 0 ? 0 : (size_t)n;
}

static void tell(struct buffer *b, const struct process *p, const struct exec *owner, int64_t zero_ms) {
    static const struct exec nobody;
    char words[ARGUMENTS];
    const char *id = (owner ? owner : &nobody)->id;
    int64_t per_second = sysconf(_SC_CLK_TCK);
    struct buffer one = {0};
    size_t n = command_line(p->pid, words, sizeof words);
    buffer_text(&one, "%d %d %c %lld %lld %lld %s\n", (int)p->pid, (int)p->parent, p->state,
                (long long)(p->ticks * 1000 / per_second), (long long)(p->pages * sysconf(_SC_PAGESIZE)),
                (long long)(zero_ms + p->started * 1000 / per_second), *id ? id : "-");
    buffer_add(&one, p->name, strlen(p->name) + 1);
    buffer_add(&one, words, n);
    reply_bytes(b, TAG_PROCESS, one.at, one.len);
    buffer_free(&one);
}

void processes_list(struct conn *c, uint32_t id) {
    struct process *list;
    const struct exec *owner;
    int count = processes_scan(&list);
    int64_t zero_ms = wall_ms() - boot_ms();
    size_t begin = reply_begin(&c->out, STATUS_OK, id);
    for (int i = 0; i < count; i++)
        if (is_inside(list, count, list + i, &owner)) tell(&c->out, list + i, owner, zero_ms);
    reply_end(&c->out, begin);
    free(list);
}

/* ---- ending all of them ---- */

struct asker { struct conn *conn; uint32_t id; int count; struct asker *next; };
static struct asker *askers;
static bool sweeping;
static int rounds;
static int64_t again_ms;

void processes_forget(const struct conn *c) {
    for (struct asker **p = &askers; *p;) {
        struct asker *a = *p;
        if (a->conn == c) {
            *p = a->next;
            free(a);
        } else {
            p = &a->next;
        }
    }
}

/* One look at all of them for all commands: with a look for each, a thousand commands would take minutes. */
static int round_of_kills(void) {
    struct process *list;
    const struct exec *owner;
    int count = processes_scan(&list), found = 0;
    for (int i = 0; i < count; i++) list[i].ours = is_inside(list, count, list + i, &owner) && (!owner || owner->swept);
    for (int i = 0; i < count; i++)
        if (list[i].ours) list[found++] = list[i];
    tree_kill(list, found, ++rounds);
    free(list);
    again_ms = now_ms() + (rounds < 20 ? 2 : 10);
    return found;
}

/* Those of every command there is now; what begins afterwards is left alone. */
int processes_sweep(void) {
    for (struct exec *x = execs; x; x = x->next) x->swept = true;
    sweeping = true;
    rounds = 0;
    return round_of_kills();
}

void processes_kill(struct conn *c, uint32_t id) {
    struct asker *a = calloc(1, sizeof *a);
    if (!a) abort();
    *a = (struct asker){.conn = c, .id = id, .count = processes_sweep(), .next = askers};
    askers = a;
}

/* A command whose program is only about to start. */
static bool starting(void) {
    for (struct exec *x = execs; x; x = x->next)
        if (x->swept && !x->started && !x->command_ended) return true;
    return false;
}

int64_t processes_tick(void) {
    if (!sweeping) return -1;
    int64_t now = now_ms();
    if (now < again_ms) return again_ms - now;
    if (round_of_kills() || starting()) return again_ms - now;
    sweeping = false;
    while (askers) {
        struct asker *a = askers;
        askers = a->next;
        size_t begin = reply_begin(&a->conn->out, STATUS_OK, a->id);
        reply_number(&a->conn->out, TAG_COUNT, a->count);
        reply_end(&a->conn->out, begin);
        conn_flush(a->conn);
        free(a);
    }
    return -1;
}
