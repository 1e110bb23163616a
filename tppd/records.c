/* What stays of each command: one file of two or three lines, JSON each. The first says what was started, the
 * second how it ended, the third when its output ended where that came later; a line counts once its line
 * feed is there. A command thus costs one inode: on ext4
 * each one more costs more than the fork.
 *
 * The two numbers beside them (generation, epoch) are written aside and renamed: a reader sees all or none. */
#include "tppd.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define SPARE ".record"

/* 0, or -1 with errno: a disk that takes only a part is full. */
static int write_whole(int fd, const void *data, size_t len) {
    ssize_t n = write(fd, data, len);
    if (n == (ssize_t)len) return 0;
    if (n >= 0) errno = ENOSPC;
    return -1;
}

static int read_whole(const char *name, struct buffer *b) {
    int fd = openat(options.run_fd, name, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return -1;
    char chunk[4096];
    ssize_t n;
    while ((n = read(fd, chunk, sizeof chunk)) > 0) buffer_add(b, chunk, (size_t)n);
    close(fd);
    return n < 0 ? -1 : 0;
}

int64_t number_read(const char *name) {
    struct buffer b = {0};
    int64_t value = 0;
    if (read_whole(name, &b) == 0) {
        buffer_add(&b, "", 1);
        value = strtoll((char *)b.at, NULL, 10);
    }
    buffer_free(&b);
    return value;
}

int number_write(const char *name, int64_t value) {
    char text[32], aside[64];
    int n = snprintf(text, sizeof text, "%lld\n", (long long)value);
    snprintf(aside, sizeof aside, ".%s.new", name);
    int fd = openat(options.run_fd, aside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) return -1;
    int written = write_whole(fd, text, (size_t)n);
    close(fd);
    if (written == 0 && renameat(options.run_fd, aside, options.run_fd, name) == 0) return 0;
    int error = errno;
    unlinkat(options.run_fd, aside, 0);
    errno = error;
    return -1;
}

/* ---- commands ---- */

static void path_of(const char *id, char path[ID_MAX + 16]) { snprintf(path, ID_MAX + 16, "records/%s", id); }

/* Making a file takes ext4 a third of a millisecond, during which the command would have to wait. So the
 * next record's is made while a command runs, and takes its name once the first line stands in it. */
static int spare_fd = -1;

void record_prepare(void) {
    int flags = O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC;
    if (spare_fd < 0) spare_fd = openat(options.run_fd, SPARE, flags, 0600);
}

/* Never over another's record: `record_of` was asked before, but it may have met an error. */
static int spare_name(const char *path) {
    if (syscall(SYS_renameat2, options.run_fd, SPARE, options.run_fd, path, 1u /* RENAME_NOREPLACE */) == 0) return 0;
    if (errno != EINVAL) return -1; /* else a file system that knows renaming only */
    return renameat(options.run_fd, SPARE, options.run_fd, path);
}

int record_begin(struct exec *x, int64_t at_epoch) {
    char path[ID_MAX + 16];
    struct buffer b = {0};
    buffer_text(&b, "{\"exec_id\":\"%s\",\"generation\":%lld,\"epoch\":%lld,\"spec_hash\":\"%s\",", x->id,
                (long long)options.generation, (long long)at_epoch, x->spec_hash);
    buffer_text(&b, "\"started_at_ms\":%lld,\"merged\":%s}\n", (long long)x->started_ms,
                x->flags & START_MERGE ? "true" : "false");
    path_of(x->id, path);
    x->begun = (off_t)b.len;
    record_prepare();
    int result = spare_fd < 0 ? -1 : write_whole(spare_fd, b.at, b.len);
    if (result == 0) result = spare_name(path);
    if (result == 0) {
        x->record_fd = spare_fd;
        spare_fd = -1;
    } else if (spare_fd >= 0) {
        close(spare_fd); /* the next one begins anew */
        spare_fd = -1;
    }
    buffer_free(&b);
    return result;
}

/* May be tried again: what a full disk took of it is cut off. */
static int record_add(struct exec *x, const struct buffer *line, off_t at) {
    if (write_whole(x->record_fd, line->at, line->len) == 0) return 0;
    if (ftruncate(x->record_fd, at) < 0) say("%s: cannot cut its record: %s", x->id, strerror(errno));
    return -1;
}

int record_end(struct exec *x) { return record_add(x, &x->record, x->begun); }

int record_close(struct exec *x) {
    struct buffer b = {0};
    buffer_text(&b, "{\"closed_at_ms\":%lld,\"out_bytes\":%llu,\"err_bytes\":%llu}\n", (long long)wall_ms(),
                (unsigned long long)x->out.end, (unsigned long long)x->err.end);
    int result = record_add(x, &b, x->begun + (off_t)x->record.len);
    buffer_free(&b);
    return result;
}

static int64_t micros(struct timeval t) { return (int64_t)t.tv_sec * 1000000 + t.tv_usec; }

/* Killed, or a shell whose program was (137), by nobody of ours, and the kernel has killed for want of memory
 * meanwhile. Each kill is told of one command: another one that somebody killed is not named after it. */
static bool by_memory(const struct exec *x) {
    static int64_t told;
    int status = x->wait_status;
    bool killed = WIFSIGNALED(status) ? WTERMSIG(status) == SIGKILL : WEXITSTATUS(status) == 128 + SIGKILL;
    if (!killed || x->killing || x->swept) return false;
    int64_t kills = memory_kills();
    if (kills <= x->oom_kills || kills <= told) return false;
    told = kills;
    return true;
}

void record_compose(struct exec *x) {
    struct buffer *b = &x->record;
    bool ran = !x->start_errno && x->started, signalled = ran && WIFSIGNALED(x->wait_status);
    const char *reason = !ran ? "not-started" : x->timed_out ? "timeout" : by_memory(x) ? "out-of-memory"
                         : signalled ? "signalled" : "exited";
    b->len = 0;
    buffer_text(b, "{\"exec_id\":\"%s\",\"reason\":\"%s\",", x->id, reason);
    if (ran && !signalled) buffer_text(b, "\"exit_code\":%d,\"signal\":null,", WEXITSTATUS(x->wait_status));
    else if (signalled) buffer_text(b, "\"exit_code\":null,\"signal\":%d,", WTERMSIG(x->wait_status));
    else buffer_text(b, "\"exit_code\":null,\"signal\":null,");
    buffer_text(b, "\"error\":");
    buffer_json(b, x->start_error);
    buffer_text(b, ",\"generation\":%lld,\"started_at_ms\":%lld,\"ended_at_ms\":%lld,\"duration_ms\":%.3f,",
                (long long)options.generation, (long long)x->started_ms, (long long)x->ended_ms,
                (double)(x->ended_us - x->started_us) / 1000.0);
    buffer_text(b, "\"out_bytes\":%llu,\"err_bytes\":%llu,\"streams_open\":%s,",
                (unsigned long long)x->out.end, (unsigned long long)x->err.end,
                x->out.pipe >= 0 || x->err.pipe >= 0 ? "true" : "false");
    buffer_text(b, "\"cpu_ms\":%.3f,\"max_rss_bytes\":%lld}\n",
                (double)(micros(x->usage.ru_utime) + micros(x->usage.ru_stime)) / 1000.0,
                (long long)x->usage.ru_maxrss * 1024);
}

/* A first line has this one shape, so a search for the key is a parser. */
static const char *after(const char *text, const char *key) {
    const char *at = strstr(text, key);
    return at ? at + strlen(key) : NULL;
}

int record_of(const char *id, char spec_hash[65], struct buffer *end) {
    char path[ID_MAX + 16];
    struct buffer b = {0};
    int result = RECORD_NONE;
    path_of(id, path);
    bool whole = read_whole(path, &b) == 0;
    if (whole) buffer_add(&b, "", 1);
    char *first = whole ? strchr((char *)b.at, '\n') : NULL; /* half a reading has no end to stop at */
    if (first) {
        *first = 0;
        const char *hash = after((char *)b.at, "\"spec_hash\":\"");
        size_t n = hash ? strcspn(hash, "\"") : 0;
        memcpy(spec_hash, hash ? hash : "", n < 65 ? n : 64);
        spec_hash[n < 65 ? n : 64] = 0;
        char *second = strchr(first + 1, '\n');
        if (second) buffer_add(end, first + 1, (size_t)(second - first));
        /* Of this generation but neither ended nor in the table: its end met a full disk. */
        result = second ? RECORD_ENDED : RECORD_LOST;
    } else if (whole) {
        unlinkat(options.run_fd, path, 0); /* its writer died in the middle: nothing was started */
    }
    buffer_free(&b);
    return result;
}
