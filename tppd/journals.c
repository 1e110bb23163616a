/* Output of commands to disk, in segments named by the logical offset of their first byte. The first
 * KEEP_FIRST and the last KEEP_LAST segments are kept. Bytes that cannot be written (no space) are
 * dropped and counted, and the next segment begins behind them: readers see the gap either way. */
#include "tppd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATH_LEN (ID_MAX + 40)

static void name_of(const struct stream *s, uint64_t offset, char name[PATH_LEN]) {
    snprintf(name, PATH_LEN, "output/%s/%s.%016llu", s->exec->id, s->prefix, (unsigned long long)offset);
}

/* The folder is made with the first segment: a command that prints nothing costs none. */
static int create(const struct stream *s, const char *name) {
    char folder[ID_MAX + 8];
    int flags = O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, fd = openat(options.run_fd, name, flags, 0600);
    if (fd >= 0 || errno != ENOENT) return fd;
    snprintf(folder, sizeof folder, "output/%s", s->exec->id);
    if (mkdirat(options.run_fd, folder, 0700) < 0) return -1;
    return openat(options.run_fd, name, flags, 0600);
}

static void end_segment(struct stream *s) {
    if (s->file >= 0) close(s->file);
    s->file = -1;
}

static bool begin_segment(struct stream *s) {
    char name[PATH_LEN];
    name_of(s, s->end, name);
    if ((s->file = create(s, name)) < 0) return false;
    s->segment = s->end;
    s->kept[s->count++] = s->end;
    if (s->count > KEEP_FIRST + KEEP_LAST) {
        name_of(s, s->kept[KEEP_FIRST], name);
        unlinkat(options.run_fd, name, 0);
        memmove(s->kept + KEEP_FIRST, s->kept + KEEP_FIRST + 1, KEEP_LAST * sizeof *s->kept);
        s->count--;
    }
    return true;
}

static void append(struct stream *s, const uint8_t *data, size_t len) {
    while (len) {
        if (s->file >= 0 && s->end - s->segment >= SEGMENT_BYTES) end_segment(s);
        size_t want = len;
        if (s->file >= 0 || begin_segment(s)) {
            size_t room = SEGMENT_BYTES - (size_t)(s->end - s->segment);
            if (want > room) want = room;
            ssize_t n = write(s->file, data, want);
            if (n < 0 && errno == EINTR) continue;
            if (n > 0) {
                want = (size_t)n;
            } else {
                end_segment(s);
                char name[PATH_LEN];
                name_of(s, s->segment, name);
                if (s->segment == s->end) { /* an empty one would be in the way of the next */
                    unlinkat(options.run_fd, name, 0);
                    s->count--;
                }
            }
        }
        s->end += want; /* written, or lost to a full disk: the offset goes on */
        data += want;
        len -= want;
    }
}

size_t stream_read(struct stream *s, size_t budget) {
    static uint8_t chunk[65536];
    size_t total = 0;
    while (s->pipe >= 0 && total < budget) {
        ssize_t n = read(s->pipe, chunk, sizeof chunk);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno == EAGAIN) break;
        if (n <= 0) {
            stream_close(s);
            break;
        }
        append(s, chunk, (size_t)n);
        total += (size_t)n;
    }
    return total;
}

static void stream_ready(struct handle *h, uint32_t events) {
    struct stream *s = (struct stream *)h;
    (void)events;
    stream_read(s, 262144); /* then the others have their turn */
    exec_settle(s->exec);
}

void stream_open(struct stream *s, struct exec *x, const char *prefix, int pipe) {
    *s = (struct stream){.handle = {stream_ready}, .exec = x, .pipe = pipe, .prefix = prefix, .file = -1};
    if (pipe >= 0) {
        fcntl(pipe, F_SETFL, O_NONBLOCK);
        watch(pipe, &s->handle, EPOLLIN);
    }
}

void stream_close(struct stream *s) {
    if (s->pipe >= 0) {
        unwatch(s->pipe);
        close(s->pipe);
        s->pipe = -1;
    }
    end_segment(s);
}
