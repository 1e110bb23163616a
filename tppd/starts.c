/* Processes that are ready for a command: the shim is forked, its streams are open, nothing is recorded.
 *
 * One is made by START itself, or ahead of it by PREPARE and then held until its START comes, its time is up
 * or its shim is killed. What is held is unknown to every other operation. */
#include "tppd.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void close_pair(int pair[2]) {
    for (int i = 0; i < 2; i++)
        if (pair[i] >= 0) close(pair[i]);
}

/* The shim is forked first and waits: when there is no process to be had, nothing was recorded and the
 * id is still free. */
int start_prepare(const char *id, const char *spec_hash, const struct launch *what, struct exec **result,
                  const char **why) {
    int in[2] = {-1, -1}, out[2] = {-1, -1}, err[2] = {-1, -1}, talk[2] = {-1, -1};
    bool piped = what->flags & START_STDIN, merged = what->flags & START_MERGE, pty = what->flags & START_PTY;
    struct exec *x = calloc(1, sizeof *x);
    if (!x) abort();
    x->record_fd = x->terminal = x->marks = -1;
    *why = "no file descriptors left";
    if (pty) {
        if (pty_open(x, what, out) < 0) {
            *why = "no terminal to be had (/dev/ptmx)";
            goto failed;
        }
        in[0] = fcntl(out[1], F_DUPFD_CLOEXEC, 0);
        in[1] = fcntl(out[0], F_DUPFD_CLOEXEC, 0); /* the terminal's two directions are watched apart */
        x->terminal = fcntl(out[1], F_DUPFD_CLOEXEC, 0);
        if (in[0] < 0 || in[1] < 0 || x->terminal < 0) goto failed;
    } else {
        if (piped ? pipe2(in, O_CLOEXEC) : (in[0] = open("/dev/null", O_RDONLY | O_CLOEXEC)) < 0) goto failed;
        if (pipe2(out, O_CLOEXEC) < 0 || (!merged && pipe2(err, O_CLOEXEC) < 0)) goto failed;
    }
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, talk) < 0) goto failed;
    snprintf(x->id, sizeof x->id, "%s", id);
    snprintf(x->spec_hash, sizeof x->spec_hash, "%s", spec_hash);
    x->flags = what->flags;
    struct launch l = *what;
    l.in = in[0], l.out = out[1], l.err = merged || pty ? out[1] : err[1], l.report = talk[1];
    *why = "no process to be had (the sandbox's limit on processes)";
    if ((x->shim = fork()) < 0) goto failed;
    if (x->shim == 0) shim_run(&l);
    close(in[0]), close(out[1]), close(talk[1]);
    if (err[1] >= 0) close(err[1]);
    x->ends[0] = in[1], x->ends[1] = out[0], x->ends[2] = err[0], x->report_fd = talk[0];
    *result = x;
    return STATUS_OK;
failed:
    pty_close(x);
    close_pair(in), close_pair(out), close_pair(err), close_pair(talk);
    free(x);
    return STATUS_OVERLOADED;
}

/* Of a command that was not begun; the end of `report_fd` sends its shim home. */
void start_discard(struct exec *x) {
    for (int i = 0; i < 3; i++)
        if (x->ends[i] >= 0) close(x->ends[i]);
    close(x->report_fd);
    pty_close(x);
    free(x);
}

/* ---- held: prepared for a START that is on its way; unknown to every other operation ---- */

static struct exec *held;
static int held_count;

static struct exec *unhold(struct exec **p) {
    struct exec *x = *p;
    *p = x->next;
    held_count--;
    return x;
}

void start_hold(const char *id, const char *spec_hash, const struct launch *what) {
    struct exec *x;
    const char *why;
    if (held_count >= MAX_HELD || stopping || start_prepare(id, spec_hash, what, &x, &why) != STATUS_OK) return;
    x->held_ms = now_ms();
    x->next = held;
    held = x;
    held_count++;
}

bool start_is_held(pid_t shim) {
    for (struct exec *x = held; x; x = x->next)
        if (x->shim == shim) return true;
    return false;
}

struct exec *start_take(const char *id, const char *spec_hash, int flags) {
    for (struct exec **p = &held; *p; p = &(*p)->next) {
        if (strcmp((*p)->id, id)) continue;
        struct exec *x = unhold(p);
        if (!strcmp(x->spec_hash, spec_hash) && x->flags == flags) return x;
        start_discard(x);
        return NULL;
    }
    return NULL;
}

/* Those whose START never came, and that of the shim `gone`. */
void starts_drop(int64_t now, pid_t gone) {
    for (struct exec **p = &held; *p;) {
        if ((*p)->shim == gone || now >= (*p)->held_ms + HOLD_MS) start_discard(unhold(p));
        else p = &(*p)->next;
    }
}

/* When the first of them is to be dropped; -1: none is held. The last in the list is the oldest. */
int64_t starts_due_ms(void) {
    int64_t due = -1;
    for (struct exec *x = held; x; x = x->next) due = x->held_ms + HOLD_MS;
    return due;
}
