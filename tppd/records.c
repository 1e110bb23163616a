/* Small files of the run directory: each is written aside and renamed, so a reader sees all or none. */
#include "tppd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

int record_write(int dir, const char *name, const void *data, size_t len) {
    char aside[64];
    snprintf(aside, sizeof aside, ".%s.new", name);
    int fd = openat(dir, aside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) return -1;
    ssize_t n = write(fd, data, len);
    int error = n < 0 ? errno : ENOSPC;
    close(fd);
    if (n == (ssize_t)len && renameat(dir, aside, dir, name) == 0) return 0;
    if (n == (ssize_t)len) error = errno;
    unlinkat(dir, aside, 0);
    errno = error;
    return -1;
}

int record_read(int dir, const char *name, struct buffer *b) {
    int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
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
    if (record_read(options.run_fd, name, &b) == 0) {
        buffer_add(&b, "", 1);
        value = strtoll((char *)b.at, NULL, 10);
    }
    buffer_free(&b);
    return value;
}

int number_write(const char *name, int64_t value) {
    char text[32];
    int n = snprintf(text, sizeof text, "%lld\n", (long long)value);
    return record_write(options.run_fd, name, text, (size_t)n);
}

int start_write(int dir, const struct exec *x, int64_t at_epoch) {
    struct buffer b = {0};
    buffer_text(&b, "{\"exec_id\":\"%s\",\"generation\":%lld,\"epoch\":%lld,\"spec_hash\":\"%s\",", x->id,
                (long long)options.generation, (long long)at_epoch, x->spec_hash);
    buffer_text(&b, "\"started_at_ms\":%lld,\"merged\":%s}\n", (long long)x->started_ms,
                x->flags & START_MERGE ? "true" : "false");
    int result = record_write(dir, "start.json", b.at, b.len);
    buffer_free(&b);
    return result;
}

static int64_t micros(struct timeval t) { return (int64_t)t.tv_sec * 1000000 + t.tv_usec; }

void exit_compose(struct exec *x) {
    struct buffer *b = &x->record;
    const char *reason = x->start_errno || !x->started ? "not-started"
                         : WIFSIGNALED(x->wait_status) ? "signalled" : "exited";
    b->len = 0;
    buffer_text(b, "{\"exec_id\":\"%s\",\"reason\":\"%s\",", x->id, reason);
    if (*reason == 'e') buffer_text(b, "\"exit_code\":%d,\"signal\":null,", WEXITSTATUS(x->wait_status));
    else if (*reason == 's') buffer_text(b, "\"exit_code\":null,\"signal\":%d,", WTERMSIG(x->wait_status));
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

/* Our own start.json has this one shape, so a search for the key is a parser. */
static const char *after(const char *text, const char *key) {
    const char *at = strstr(text, key);
    return at ? at + strlen(key) : NULL;
}

int record_of(const char *id, char spec_hash[65], struct buffer *exit_json) {
    char path[ID_MAX + 8];
    snprintf(path, sizeof path, "x/%s", id);
    int dir = openat(options.run_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0) return RECORD_NONE;
    struct buffer b = {0};
    int result = RECORD_NONE;
    if (record_read(dir, "start.json", &b) == 0) {
        buffer_add(&b, "", 1);
        const char *hash = after((char *)b.at, "\"spec_hash\":\"");
        size_t n = hash ? strcspn(hash, "\"") : 0;
        memcpy(spec_hash, hash ? hash : "", n < 65 ? n : 64);
        spec_hash[n < 65 ? n : 64] = 0;
        /* Of this generation but neither ended nor in the table: its exit record met a full disk. */
        result = record_read(dir, "exit.json", exit_json) == 0 ? RECORD_ENDED : RECORD_LOST;
    }
    buffer_free(&b);
    close(dir);
    return result;
}
