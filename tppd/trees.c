/* Which processes a command left, and killing all of them.
 *
 * They are the descendants of its shim. Should somebody inside kill the shim itself, its children become
 * tppd's own: then every child of tppd that is neither a shim nor a file worker is an orphan, and each
 * command without a shim answers for all orphans (killing too many of them is the safe side).
 *
 * Killing is done in rounds from the event loop. A plain SIGKILL of all ends most trees in one; what
 * forks faster is first stopped as a whole (a stopped process cannot fork), then killed. */
#include "tppd.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PLAIN_ROUNDS 3
#define STOP_ROUNDS 60

static bool read_process(int proc, const char *name, struct process *p) {
    char path[64], text[1024];
    snprintf(path, sizeof path, "%.20s/stat", name);
    int fd = openat(proc, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n <= 0) return false;
    text[n] = 0;
    char *begin = strchr(text, '('), *at = strrchr(text, ')'); /* the name between them may hold anything */
    int parent;
    unsigned long long user, system, started;
    long long pages;
    if (!begin || !at || sscanf(at + 1, " %c %d %*s %*s %*s %*s %*s %*s %*s %*s %*s %llu %llu %*s %*s %*s %*s %*s %*s "
                                        "%llu %*s %lld", &p->state, &parent, &user, &system, &started, &pages) != 6)
        return false;
    p->pid = (pid_t)atoi(name);
    p->parent = (pid_t)parent;
    p->ours = false;
    p->ticks = (int64_t)(user + system);
    p->started = (int64_t)started;
    p->pages = pages;
    snprintf(p->name, sizeof p->name, "%.*s", (int)(at - begin - 1), begin + 1);
    return true;
}

static int by_pid(const void *a, const void *b) {
    pid_t x = ((const struct process *)a)->pid, y = ((const struct process *)b)->pid;
    return (x > y) - (x < y);
}

const struct process *process_of(const struct process *list, int count, pid_t pid) {
    struct process wanted = {.pid = pid};
    return count ? bsearch(&wanted, list, (size_t)count, sizeof *list, by_pid) : NULL;
}

int processes_scan(struct process **list) {
    DIR *dir = opendir("/proc");
    *list = NULL;
    if (!dir) return -1;
    int count = 0, cap = 0;
    for (struct dirent *e; (e = readdir(dir));) {
        if (!isdigit((unsigned char)*e->d_name)) continue;
        if (count == cap) {
            cap = cap ? 2 * cap : 64;
            struct process *more = realloc(*list, (size_t)cap * sizeof **list);
            if (!more) abort();
            *list = more;
        }
        if (read_process(dirfd(dir), e->d_name, *list + count)) count++;
    }
    closedir(dir);
    if (count) qsort(*list, (size_t)count, sizeof **list, by_pid);
    return count;
}

bool process_is_shim(pid_t pid) {
    if (start_is_held(pid)) return true;
    for (struct exec *x = execs; x; x = x->next)
        if (x->shim == pid && !x->shim_gone) return true;
    return false;
}

static bool is_root(const struct exec *x, const struct process *p) {
    if (!x->orphaned) return p->parent == x->shim && !x->shim_gone;
    return p->parent == getpid() && !process_is_shim(p->pid) && !files_is_worker(p->pid);
}

/* Upwards from `p` until one whose answer is known. */
static bool belongs(const struct exec *x, struct process *list, int count, struct process *p) {
    for (int depth = 0; p && depth < count; depth++) {
        if (p->ours || is_root(x, p)) return true;
        p = (struct process *)process_of(list, count, p->parent);
    }
    return false;
}

int tree_scan(const struct exec *x, struct process **list) {
    int count = processes_scan(list), kept = 0;
    if (count < 0) return -1;
    for (int i = 0; i < count; i++) (*list)[i].ours = belongs(x, *list, count, *list + i);
    for (int i = 0; i < count; i++)
        if ((*list)[i].ours && (*list)[i].state != 'Z') (*list)[kept++] = (*list)[i];
    return kept;
}

int tree_signal(const struct exec *x, int signo) {
    struct process *list = NULL;
    int count = tree_scan(x, &list);
    for (int i = 0; i < count; i++) kill(list[i].pid, signo);
    free(list);
    return count;
}

/* One round of killing `list`. */
void tree_kill(const struct process *list, int count, int round) {
    int moving = 0;
    if (round > PLAIN_ROUNDS && round < STOP_ROUNDS)
        for (int i = 0; i < count; i++)
            if (list[i].state != 'T' && list[i].state != 't' && list[i].state != 'D') {
                kill(list[i].pid, SIGSTOP);
                moving++;
            }
    if (!moving)
        for (int i = 0; i < count; i++) kill(list[i].pid, SIGKILL);
}

void tree_kill_round(struct exec *x) {
    struct process *list = NULL;
    int count = tree_scan(x, &list);
    tree_kill(list, count, ++x->kill_rounds);
    free(list);
    if (x->orphaned && count == 0) x->shim_gone = true;
    x->kill_ms = now_ms() + (x->kill_rounds < 20 ? 2 : 10);
}
