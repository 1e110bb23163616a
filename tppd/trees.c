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
    char path[64], text[512];
    snprintf(path, sizeof path, "%.20s/stat", name);
    int fd = openat(proc, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n <= 0) return false;
    text[n] = 0;
    char *at = strrchr(text, ')'); /* the name before it may hold anything */
    int parent;
    if (!at || sscanf(at + 1, " %c %d", &p->state, &parent) != 2) return false;
    p->pid = (pid_t)atoi(name);
    p->parent = (pid_t)parent;
    p->ours = false;
    return true;
}

static int scan_all(struct process **list) {
    DIR *dir = opendir("/proc");
    if (!dir) return -1;
    int count = 0, cap = 0;
    *list = NULL;
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
    return count;
}

static bool is_shim(pid_t pid) {
    if (start_is_held(pid)) return true;
    for (struct exec *x = execs; x; x = x->next)
        if (x->shim == pid && !x->shim_gone) return true;
    return false;
}

static bool is_root(const struct exec *x, const struct process *p) {
    if (!x->orphaned) return p->parent == x->shim && !x->shim_gone;
    return p->parent == getpid() && !is_shim(p->pid) && !files_is_worker(p->pid);
}

int tree_scan(const struct exec *x, struct process **list) {
    struct process *all;
    int count = scan_all(&all);
    if (count < 0) return -1;
    for (int i = 0; i < count; i++) all[i].ours = is_root(x, all + i);
    for (bool grown = true; grown;) {
        grown = false;
        for (int i = 0; i < count; i++)
            for (int j = 0; !all[i].ours && j < count; j++)
                if (all[j].ours && all[j].pid == all[i].parent) all[i].ours = grown = true;
    }
    int kept = 0;
    for (int i = 0; i < count; i++)
        if (all[i].ours && all[i].state != 'Z') all[kept++] = all[i];
    *list = all;
    return kept;
}

int tree_signal(const struct exec *x, int signo) {
    struct process *list = NULL;
    int count = tree_scan(x, &list);
    for (int i = 0; i < count; i++) kill(list[i].pid, signo);
    free(list);
    return count;
}

void tree_kill_round(struct exec *x) {
    struct process *list = NULL;
    int count = tree_scan(x, &list), moving = 0;
    x->kill_rounds++;
    if (x->kill_rounds > PLAIN_ROUNDS && x->kill_rounds < STOP_ROUNDS)
        for (int i = 0; i < count; i++)
            if (list[i].state != 'T' && list[i].state != 't' && list[i].state != 'D') {
                kill(list[i].pid, SIGSTOP);
                moving++;
            }
    if (!moving)
        for (int i = 0; i < count; i++) kill(list[i].pid, SIGKILL);
    free(list);
    if (x->orphaned && count == 0) x->shim_gone = true;
    x->kill_ms = now_ms() + (x->kill_rounds < 20 ? 2 : 10);
}
