/* Commands: from START to the moment when no process and no open stream of one is left.
 *
 * `exec_settle` is the one place where a command's state moves on; every event (a report of the shim,
 * the end of a pipe, a reaped process, a timer) only notes what happened and calls it. */
#include "tppd.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

struct exec *execs;
static int exec_count;

struct exec *exec_find(const char *id) {
    for (struct exec *x = execs; x; x = x->next)
        if (!strcmp(x->id, id)) return x;
    return NULL;
}

/* ---- waiters ---- */

static bool due(const struct exec *x, const struct waiter *w, int64_t now) {
    if (w->kind == WAIT_START) return x->started || x->recorded;
    if (w->kind == WAIT_STDIN) return x->in.pipe < 0 || x->in.queue.len < STDIN_QUEUE || now >= w->deadline_ms;
    if (w->kind == WAIT_KILL) return x->shim_gone && x->recorded;
    if (now >= w->deadline_ms) return true;
    if (w->kind == WAIT_EXIT) return x->recorded;
    if (exec_closed(x)) return true;
    return w->kind == WAIT_OUTPUT && (x->out.end > w->out_offset || x->err.end > w->err_offset);
}

static void answer(struct exec *x, const struct waiter *w) {
    struct buffer *b = &w->conn->out;
    if (w->kind == WAIT_STDIN) {
        if (x->in.pipe < 0) {
            reply_error(b, STATUS_FINISHED, w->id, 0, "%s has ended or closed its standard input", x->id);
        } else {
            size_t begin = reply_begin(b, STATUS_OK, w->id);
            reply_number(b, TAG_OFFSET, (int64_t)x->in.taken);
            reply_end(b, begin);
        }
    } else if (w->kind == WAIT_START && x->start_errno) {
        reply_error(b, STATUS_NOT_STARTED, w->id, 0, "%s", x->start_error);
    } else {
        exec_status(b, x, w->id, w->created);
    }
    conn_flush(w->conn);
}

static void wake(struct exec *x) {
    int64_t now = now_ms();
    for (struct waiter **p = &x->waiters; *p;) {
        struct waiter *w = *p;
        if (!due(x, w, now)) {
            p = &w->next;
            continue;
        }
        if (w->kind == WAIT_START && w->timeout_ms > 0 && !x->start_errno) {
            w->kind = WAIT_EXIT; /* START with a time limit goes on as WAIT */
            w->deadline_ms = now + w->timeout_ms;
            continue;
        }
        *p = w->next;
        answer(x, w); /* may close the connection, whose waiters then go too: start over */
        free(w);
        p = &x->waiters;
    }
}

void exec_wait(struct exec *x, struct conn *c, uint32_t id, enum waiting kind, const struct request *r,
               bool created) {
    struct waiter *w = calloc(1, sizeof *w);
    if (!w) abort();
    *w = (struct waiter){.conn = c, .id = id, .kind = kind, .created = created, .next = x->waiters};
    w->timeout_ms = field_number(r, TAG_TIMEOUT_MS, 0);
    if (kind == WAIT_STDIN) w->timeout_ms = 1000; /* then it is told how far it came */
    if (w->timeout_ms < 0) w->timeout_ms = 0;
    if (w->timeout_ms > 86400000) w->timeout_ms = 86400000;
    w->deadline_ms = now_ms() + w->timeout_ms;
    w->out_offset = (uint64_t)field_number(r, TAG_OUT_OFFSET, 0);
    w->err_offset = (uint64_t)field_number(r, TAG_ERR_OFFSET, 0);
    x->waiters = w;
    exec_settle(x);
}

void execs_forget(struct conn *c) {
    for (struct exec *x = execs; x; x = x->next)
        for (struct waiter **p = &x->waiters; *p;) {
            struct waiter *w = *p;
            if (w->conn == c) {
                *p = w->next;
                free(w);
            } else {
                p = &w->next;
            }
        }
    processes_forget(c);
    ports_forget(c);
}

void exec_status(struct buffer *b, struct exec *x, uint32_t id, bool created) {
    size_t begin = reply_begin(b, STATUS_OK, id);
    reply_number(b, TAG_STATE, x->recorded ? STATE_ENDED : STATE_RUNNING);
    reply_number(b, TAG_CREATED, created);
    reply_number(b, TAG_CLOSED, exec_closed(x));
    reply_number(b, TAG_OUT_END, (int64_t)x->out.end);
    reply_number(b, TAG_ERR_END, (int64_t)x->err.end);
    if (x->recorded) reply_bytes(b, TAG_RECORD, x->record.at, x->record.len);
    reply_end(b, begin);
}

/* ---- start ---- */

static void take_report(struct exec *x) {
    struct report r;
    while (x->report_fd >= 0) {
        ssize_t n = recv(x->report_fd, &r, sizeof r, MSG_DONTWAIT);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno == EAGAIN) return;
        if (n != (ssize_t)sizeof r) {
            unwatch(x->report_fd);
            close(x->report_fd);
            x->report_fd = -1;
            return;
        }
        if (r.kind == REPORT_STARTED) {
            x->started = true;
            x->command = r.pid;
            continue;
        }
        if (r.kind == REPORT_FAILED) {
            x->start_errno = r.error ? r.error : EIO;
            r.step[sizeof r.step - 1] = 0;
            snprintf(x->start_error, sizeof x->start_error, "%s: %s", r.step, strerror(x->start_errno));
        } else {
            x->wait_status = r.status;
            x->usage = r.usage;
        }
        x->command_ended = true;
        x->ended_us = now_us();
        x->ended_ms = wall_ms();
    }
}

static void report_ready(struct handle *h, uint32_t events) {
    struct exec *x = (struct exec *)h;
    (void)events;
    take_report(x);
    exec_settle(x);
}

static void enlist(struct exec *x) {
    x->report.ready = report_ready;
    watch(x->report_fd, &x->report, EPOLLIN);
    stream_open(&x->out, x, "out", x->ends[1]);
    stream_open(&x->err, x, "err", x->ends[2]);
    input_open(x, x->ends[0]);
    x->next = execs;
    execs = x;
    exec_count++;
}

/* The record; then the go byte. A crash in between leaves a record without a run (lost), never a run without
 * a record. */
int exec_start(const char *id, const char *spec_hash, int64_t at_epoch, const struct launch *what,
               struct exec **result, const char **why) {
    *why = "too many commands are running";
    struct exec *x = start_take(id, spec_hash, what->flags);
    if (exec_count >= MAX_EXECS || stopping) {
        if (x) start_discard(x);
        return STATUS_OVERLOADED;
    }
    int status = x ? STATUS_OK : start_prepare(id, spec_hash, what, &x, why);
    if (status != STATUS_OK) return status;
    x->started_ms = wall_ms();
    x->started_us = now_us();
    if (record_begin(x, at_epoch) < 0) {
        *why = "cannot write the start record";
        start_discard(x);
        return STATUS_DISK_FULL;
    }
    x->limit_ms = what->limit_ms > 0 ? now_ms() + what->limit_ms : 0;
    x->oom_kills = memory_kills();
    enlist(x);
    if (what->flags & START_PTY) pty_begin(x, what);
    if (write(x->report_fd, "g", 1) < 0) say("%s: its shim is gone before the start", id);
    *result = x;
    return STATUS_OK;
}

/* ---- life ---- */

static void forget(struct exec *x) {
    for (struct exec **p = &execs; *p; p = &(*p)->next)
        if (*p == x) {
            *p = x->next;
            exec_count--;
            break;
        }
    x->gone = true; /* events of this round may still name it */
    if (x->report_fd >= 0) {
        unwatch(x->report_fd);
        close(x->report_fd);
        x->report_fd = -1;
    }
    input_close(&x->in);
    pty_close(x);
    close(x->record_fd);
    buffer_free(&x->record);
    bury(x);
}

/* The command ended, and its pipes have too, or had GRACE_MS for it. */
static bool may_record(struct exec *x) {
    if (x->recorded || !x->command_ended) return false;
    if (x->terminal >= 0) close(x->terminal); /* until here no program could end the stream by closing its side */
    x->terminal = -1;
    stream_read(&x->out, 8 * 1024 * 1024);
    stream_read(&x->err, 8 * 1024 * 1024);
    if (x->out.pipe < 0 && x->err.pipe < 0) return true;
    if (!x->grace_ms) x->grace_ms = now_ms() + GRACE_MS;
    return now_ms() >= x->grace_ms || (x->shim_gone && !x->orphaned);
}

bool exec_closed(const struct exec *x) { return x->recorded && x->out.pipe < 0 && x->err.pipe < 0; }

/* Its end, then, where that left a pipe open, the end of its output. A full disk: again in a second, for ever. */
static void save(struct exec *x) {
    bool due = x->recorded && now_ms() >= x->save_ms;
    if (due && !x->saved && !(x->saved = record_end(x) == 0)) x->save_ms = now_ms() + 1000;
    if (due && x->saved && x->left_open && !x->close_saved && exec_closed(x) && !(x->close_saved = record_close(x) == 0))
        x->save_ms = now_ms() + 1000;
}

static bool kept(const struct exec *x) { return x->saved && (!x->left_open || x->close_saved); }

void exec_settle(struct exec *x) {
    if (x->gone) return;
    if (may_record(x)) {
        x->recorded = true;
        x->left_open = !exec_closed(x);
        record_compose(x);
        if (x->command_ended) input_close(&x->in);
    }
    save(x);
    wake(x);
    if (kept(x) && exec_closed(x) && x->shim_gone && !x->waiters) forget(x);
}

static void ended(struct exec *x, int status) {
    x->wait_status = status;
    x->command_ended = true;
    x->ended_us = now_us();
    x->ended_ms = wall_ms();
}

/* The shim was killed from inside: what it had is ours now. Killed before it told the command's pid,
 * nobody knows what runs: all of it is killed, and it counts as ended by that. */
static void orphan(struct exec *x) {
    x->orphaned = true;
    if (x->started || x->command_ended) return;
    snprintf(x->start_error, sizeof x->start_error, "its supervisor was killed from inside the sandbox");
    x->started = true;
    ended(x, SIGKILL);
    exec_kill(x);
}

static void reap_one(pid_t pid, int status, const struct rusage *usage) {
    if (files_reaped(pid)) return;
    starts_drop(now_ms(), pid);
    for (struct exec *x = execs; x; x = x->next) {
        bool shim = x->shim == pid && !x->shim_gone && !x->orphaned;
        bool command = x->orphaned && x->command == pid && !x->command_ended;
        if (!shim && !command) continue;
        take_report(x);
        if (shim && WIFEXITED(status) && WEXITSTATUS(status) == 0) x->shim_gone = true;
        else if (shim) orphan(x);
        if (command) {
            x->usage = *usage;
            ended(x, status);
        }
        if (x->shim_gone && !x->command_ended) ended(x, SIGKILL);
        exec_settle(x);
        return;
    }
}

void execs_reap(void) {
    int status;
    struct rusage usage;
    for (pid_t pid; (pid = wait4(-1, &status, WNOHANG | WUNTRACED, &usage)) > 0;) {
        if (!WIFSTOPPED(status)) reap_one(pid, status, &usage);
        else if (process_is_shim(pid) || files_is_worker(pid)) kill(pid, SIGCONT); /* only an attack stops one */
    }
    for (struct exec *x = execs, *next; x; x = next) {
        next = x->next;
        struct process *list = NULL;
        if (!x->orphaned || x->shim_gone) continue;
        if (!x->command_ended && kill(x->command, 0) < 0) ended(x, SIGKILL); /* reaped by the late shim */
        if (x->command_ended && tree_scan(x, &list) == 0) x->shim_gone = true;
        free(list);
        exec_settle(x);
    }
}

void exec_kill(struct exec *x) {
    if (x->killing || x->shim_gone) return;
    x->killing = true;
    x->kill_rounds = 0;
    tree_kill_round(x);
}

void execs_stop(void) {
    processes_sweep();
}

/* Its time is up: SIGTERM to all it left, and what is there TERM_MS later is killed. What ended in time may
 * leave processes behind as long as they like. */
static void limit(struct exec *x, int64_t now) {
    if (x->limit_ms && now >= x->limit_ms && !x->command_ended) {
        x->timed_out = true;
        x->term_ms = now + TERM_MS;
        tree_signal(x, SIGTERM);
        tree_signal(x, SIGCONT); /* one that is stopped could not end */
    }
    if (x->timed_out || x->command_ended) x->limit_ms = 0;
    if (x->term_ms && now >= x->term_ms) {
        x->term_ms = 0;
        exec_kill(x);
    }
}

static void sooner(int64_t *wait, int64_t due_ms, int64_t now) {
    int64_t left = due_ms > now ? due_ms - now : 0;
    if (*wait < 0 || left < *wait) *wait = left;
}

int64_t execs_tick(void) {
    int64_t wait = -1;
    starts_drop(now_ms(), -1);
    for (struct exec *x = execs, *next; x; x = next) {
        next = x->next;
        int64_t now = now_ms();
        if (x->killing && !x->shim_gone && now >= x->kill_ms) tree_kill_round(x);
        limit(x, now);
        exec_settle(x);
    }
    int64_t now = now_ms(), other;
    if ((other = conns_resume(now)) >= 0) sooner(&wait, now + other, now);
    if ((other = processes_tick()) >= 0) sooner(&wait, now + other, now);
    if ((other = ports_tick()) >= 0) sooner(&wait, now + other, now);
    if (starts_due_ms() >= 0) sooner(&wait, starts_due_ms(), now);
    for (struct exec *x = execs; x; x = x->next) {
        if (x->killing && !x->shim_gone) sooner(&wait, x->kill_ms, now);
        if (x->grace_ms && !x->recorded) sooner(&wait, x->grace_ms, now);
        if (x->recorded && (!x->saved || (exec_closed(x) && !kept(x)))) sooner(&wait, x->save_ms, now);
        if (x->limit_ms) sooner(&wait, x->limit_ms, now);
        if (x->term_ms && !x->shim_gone) sooner(&wait, x->term_ms, now);
        for (struct waiter *w = x->waiters; w; w = w->next)
            if (w->kind != WAIT_START && w->kind != WAIT_KILL)
                sooner(&wait, w->deadline_ms, now);
    }
    return wait;
}
