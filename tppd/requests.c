/* One function per operation. Every operation that changes something passes `allowed` first: an epoch
 * older than the highest one seen is refused, a newer one is kept and shuts the older owners out. */
#include "tppd.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern char **environ;

static int64_t stored_epoch = -1;

/* On a full disk the epoch holds in memory: what is running can be stopped, only START (which could not
 * be recorded either) has to wait. */
static bool epoch_stored(void) {
    if (stored_epoch != *epoch && number_write("epoch", *epoch) == 0) stored_epoch = *epoch;
    return stored_epoch == *epoch;
}

static bool allowed(struct conn *c, const struct request *r) {
    int64_t given = field_number(r, TAG_EPOCH, -1);
    if (given < *epoch) {
        reply_error(&c->out, STATUS_FENCED, r->id, 0, "epoch %lld is over; the owner is at %lld",
                    (long long)given, (long long)*epoch);
        return false;
    }
    *epoch = given;
    epoch_stored();
    return true;
}

static bool id_of(struct conn *c, const struct request *r, char id[ID_MAX + 1]) {
    struct bytes v = {NULL, 0};
    bool good = field(r, TAG_EXEC_ID, &v) && v.len > 0 && v.len <= ID_MAX && v.at[0] != '.';
    for (size_t i = 0; good && i < v.len; i++) {
        uint8_t a = v.at[i];
        good = (a >= 'a' && a <= 'z') || (a >= 'A' && a <= 'Z') || (a >= '0' && a <= '9') || a == '-' ||
               a == '_' || a == '.';
    }
    if (!good) {
        reply_error(&c->out, STATUS_INVALID, r->id, 0, "not an execution id");
        return false;
    }
    memcpy(id, v.at, v.len);
    id[v.len] = 0;
    return true;
}

static void hello(struct conn *c, const struct request *r) {
    struct bytes v;
    if (field(r, TAG_EPOCH, &v) && !allowed(c, r)) return;
    size_t begin = reply_begin(&c->out, STATUS_OK, r->id);
    reply_number(&c->out, TAG_VERSION, TPPD_VERSION);
    reply_number(&c->out, TAG_GENERATION, options.generation);
    reply_number(&c->out, TAG_EPOCH, *epoch);
    reply_number(&c->out, TAG_STARTED_MS, started_ms);
    reply_end(&c->out, begin);
}

/* What the disk says about a command that is no longer in the table; false when it was never started. */
static bool from_disk(struct conn *c, uint32_t id, const char *exec_id, const char *spec_hash) {
    char hash[65] = "";
    struct buffer end = {0};
    int record = record_of(exec_id, hash, &end);
    if (record != RECORD_NONE && spec_hash && strcmp(hash, spec_hash)) {
        reply_error(&c->out, STATUS_CONFLICT, id, 0, "%s was started with another command", exec_id);
    } else if (record != RECORD_NONE) {
        size_t begin = reply_begin(&c->out, STATUS_OK, id);
        reply_number(&c->out, TAG_STATE, record == RECORD_ENDED ? STATE_ENDED : STATE_LOST);
        reply_number(&c->out, TAG_CLOSED, 1); /* nothing is left of what left the table */
        if (end.len) reply_bytes(&c->out, TAG_RECORD, end.at, end.len);
        reply_end(&c->out, begin);
    }
    buffer_free(&end);
    return record != RECORD_NONE;
}

static char *text_of(struct bytes v) {
    char *text = malloc(v.len + 1);
    if (!text) abort();
    if (v.len) memcpy(text, v.at, v.len);
    text[v.len] = 0;
    return text;
}

static char **texts(const struct request *r, uint8_t wanted, size_t *count) {
    size_t cursor = 0, cap = 16;
    uint8_t tag;
    struct bytes v;
    char **list = calloc(cap, sizeof *list);
    *count = 0;
    while (list && field_next(r, &cursor, &tag, &v)) {
        if (tag != wanted) continue;
        if (*count + 1 == cap) list = realloc(list, (cap *= 2) * sizeof *list);
        if (!list) break;
        list[(*count)++] = text_of(v);
        list[*count] = NULL;
    }
    if (!list) abort();
    return list;
}

static void free_texts(char **list) {
    for (char **p = list; *p; p++) free(*p);
    free(list);
}

static bool has(char **list, size_t count, const char *variable) {
    size_t n = strcspn(variable, "=");
    for (size_t i = 0; i < count; i++)
        if (!strncmp(list[i], variable, n) && list[i][n] == '=') return true;
    return false;
}

/* The request's variables, then the image's own, then what any program expects. */
static char **environment(const struct request *r) {
    static const char *const otherwise[] = {
        "USER=user", "LOGNAME=user", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG=C.UTF-8", "SHELL=/bin/sh", NULL,
    };
    size_t count, more = 8;
    char **list = texts(r, TAG_ENV, &count);
    for (char **e = environ; *e; e++) more++;
    list = realloc(list, (count + more + 1) * sizeof *list);
    if (!list) abort();
    char *home = malloc(strlen(options.home) + 6);
    if (!home) abort();
    strcat(strcpy(home, "HOME="), options.home);
    if (!has(list, count, "HOME=")) list[count++] = home;
    else free(home);
    for (int i = 0; i < 2; i++)
        if (!has(list, count, otherwise[i])) list[count++] = strdup(otherwise[i]);
    for (char **e = environ; *e; e++)
        if (!has(list, count, *e)) list[count++] = strdup(*e);
    for (int i = 2; otherwise[i]; i++)
        if (!has(list, count, otherwise[i])) list[count++] = strdup(otherwise[i]);
    list[count] = NULL;
    return list;
}

static bool hash_of(struct conn *c, const struct request *r, char spec_hash[65]) {
    struct bytes hash;
    if (!field(r, TAG_SPEC_HASH, &hash) || hash.len != 64) {
        reply_error(&c->out, STATUS_INVALID, r->id, 0, "a spec hash of 64 characters is needed");
        return false;
    }
    memcpy(spec_hash, hash.at, 64);
    spec_hash[64] = 0;
    if (strspn(spec_hash, "0123456789abcdef") == 64) return true;
    reply_error(&c->out, STATUS_INVALID, r->id, 0, "the spec hash is not hexadecimal");
    return false;
}

/* What START is to run; to be freed with `launch_free`. */
static struct launch launch_of(const struct request *r) {
    size_t count;
    return (struct launch){.argv = texts(r, TAG_ARG, &count), .envp = environment(r), .cwd = field_text(r, TAG_CWD),
                           .flags = (int)field_number(r, TAG_FLAGS, 0),
                           .rows = (int)field_number(r, TAG_ROWS, 24), .cols = (int)field_number(r, TAG_COLS, 80),
                           .limit_ms = field_number(r, TAG_LIMIT_MS, 0)};
}

static void launch_free(struct launch *l) {
    free_texts(l->argv);
    free_texts(l->envp);
    free((char *)l->cwd);
}

static bool runnable(const struct launch *l) { return l->argv[0] && *l->argv[0]; }

static void start(struct conn *c, const struct request *r) {
    char id[ID_MAX + 1], spec_hash[65];
    if (!id_of(c, r, id) || !allowed(c, r) || !hash_of(c, r, spec_hash)) return;
    struct exec *x = exec_find(id);
    if (x) {
        if (strcmp(x->spec_hash, spec_hash))
            reply_error(&c->out, STATUS_CONFLICT, r->id, 0, "%s was started with another command", id);
        else exec_wait(x, c, r->id, WAIT_START, r, false);
        return;
    }
    if (from_disk(c, r->id, id, spec_hash)) return;
    if (!epoch_stored()) {
        reply_error(&c->out, STATUS_DISK_FULL, r->id, errno, "%s was not started: cannot store the epoch", id);
        return;
    }
    struct launch l = launch_of(r);
    const char *why = "no program";
    int status = runnable(&l) ? pty_size(&l, &why) : STATUS_INVALID;
    if (status == STATUS_OK) status = exec_start(id, spec_hash, *epoch, &l, &x, &why);
    if (status == STATUS_OK) exec_wait(x, c, r->id, WAIT_START, r, true);
    else reply_error(&c->out, (uint8_t)status, r->id, 0, "%s was not started: %s", id, why);
    launch_free(&l);
}

/* The same fields as START, no reply: its process is had ready. Nothing depends on it: whatever is odd
 * is left to START to refuse. */
static void prepare(const struct request *r) {
    struct conn nobody = {.fd = -1};
    char id[ID_MAX + 1], spec_hash[65];
    struct buffer end = {0};
    if (field_number(r, TAG_EPOCH, -1) >= *epoch && id_of(&nobody, r, id) && hash_of(&nobody, r, spec_hash) &&
        !exec_find(id) && record_of(id, (char[65]){0}, &end) == RECORD_NONE) {
        struct launch l = launch_of(r);
        if (runnable(&l) && !(l.flags & START_PTY)) start_hold(id, spec_hash, &l);
        launch_free(&l);
    }
    buffer_free(&end);
    buffer_free(&nobody.out);
}

static void unknown(struct conn *c, const struct request *r, const char *id) {
    reply_error(&c->out, STATUS_NOT_FOUND, r->id, 0, "no such execution: %s", id);
}

static void status(struct conn *c, const struct request *r) {
    char id[ID_MAX + 1];
    if (!id_of(c, r, id)) return;
    struct exec *x = exec_find(id);
    if (!x) {
        if (!from_disk(c, r->id, id, NULL)) unknown(c, r, id);
    } else if (r->op == OP_STATUS) {
        exec_status(&c->out, x, r->id, false);
    } else {
        static const enum waiting until[] = {WAIT_EXIT, WAIT_OUTPUT, WAIT_CLOSED};
        int64_t wanted = field_number(r, TAG_UNTIL, 0);
        exec_wait(x, c, r->id, until[wanted > 0 && wanted < 3 ? wanted : 0], r, false);
    }
}

/* Of a terminal: an owner older than the highest that acted on it is shut out, as an older epoch is. */
static bool owned(struct exec *x, struct conn *c, const struct request *r) {
    int64_t given = field_number(r, TAG_OWNER, x->owner);
    if (given < x->owner) {
        reply_error(&c->out, STATUS_FENCED, r->id, 0, "owner %lld is over; %s is in the hands of %lld",
                    (long long)given, x->id, (long long)x->owner);
        return false;
    }
    x->owner = given;
    return true;
}

static void act(struct conn *c, const struct request *r) {
    char id[ID_MAX + 1], hash[65];
    if (!id_of(c, r, id) || !allowed(c, r)) return;
    struct exec *x = exec_find(id);
    struct buffer end = {0};
    int record = x ? RECORD_RUNNING : record_of(id, hash, &end);
    buffer_free(&end);
    int signo = (int)field_number(r, TAG_SIGNO, 0);
    bool tree = field_number(r, TAG_FLAGS, 0) & 1, done = false;
    if (record == RECORD_NONE) {
        unknown(c, r, id);
    } else if (r->op == OP_KILL_TREE) {
        if (x) {
            exec_kill(x);
            exec_wait(x, c, r->id, WAIT_KILL, r, false);
            return;
        }
        done = true; /* it left the table because nothing of it is left */
    } else if (r->op == OP_SIGNAL && (signo < 1 || signo > 64)) {
        reply_error(&c->out, STATUS_INVALID, r->id, 0, "no such signal: %d", signo);
    } else if (!x || (r->op == OP_SIGNAL && !tree && (x->command_ended || !x->started))) {
        reply_error(&c->out, STATUS_FINISHED, r->id, 0, "%s has ended", id);
    } else if (!owned(x, c, r)) {
        return;
    } else if (r->op == OP_STDIN) {
        exec_input(x, c, r);
    } else if (r->op == OP_RESIZE) {
        pty_resize(x, c, r);
    } else if (r->op == OP_MARK) {
        pty_mark(x, c, r);
    } else {
        if (!tree) kill(-x->command, signo);
        done = !tree || tree_signal(x, signo) > 0 || !x->command_ended;
        if (!done) reply_error(&c->out, STATUS_FINISHED, r->id, 0, "%s has ended and left no process", id);
    }
    if (done) reply_end(&c->out, reply_begin(&c->out, STATUS_OK, r->id));
}

static void list(struct conn *c, const struct request *r) {
    size_t begin = reply_begin(&c->out, STATUS_OK, r->id);
    for (struct exec *x = execs; x; x = x->next) reply_bytes(&c->out, TAG_EXEC_ID, x->id, strlen(x->id));
    reply_end(&c->out, begin);
}

void request_handle(struct conn *c, const struct request *r) {
    switch (r->op) {
    case OP_HELLO: hello(c, r); break;
    case OP_START: start(c, r); break;
    case OP_STATUS:
    case OP_WAIT: status(c, r); break;
    case OP_STDIN:
    case OP_RESIZE:
    case OP_MARK:
    case OP_SIGNAL:
    case OP_KILL_TREE: act(c, r); break;
    case OP_LIST: list(c, r); break;
    case OP_FILES: files_take(c, r->id); break;
    case OP_PREPARE: prepare(r); break;
    case OP_EGRESS: egress_open(c, r); break;
    case OP_EGRESS_CLOSE: egress_close(c, r->id); break;
    case OP_CONNECT: relay_begin(c, r); break;
    case OP_LISTEN: ports_listen(c, r); break;
    case OP_PROCESSES: processes_list(c, r->id); break;
    case OP_KILL_ALL:
        if (allowed(c, r)) processes_kill(c, r->id);
        break;
    default: reply_error(&c->out, STATUS_INVALID, r->id, 0, "unknown operation %d", r->op);
    }
}
