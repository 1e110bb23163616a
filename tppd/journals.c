/* Output of commands to disk, in segments named by the logical offset of their first byte. The first
 * KEEP_FIRST and the last KEEP_LAST segments of a stream are kept.
 *
 * All open streams together keep at most options.journal_bytes: the more there are, the smaller the segments
 * they begin, and what is too much is taken from the middle of the stream that has most. Bytes that cannot be
 * written, or not without going below options.journal_floor on the disk, are dropped and counted, and the
 * next segment begins behind them. Readers see the gap in each case. */
#include "tppd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
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

static uint64_t kept_bytes; /* in the segments of all open streams */
static int open_streams;

static uint64_t bytes_of(const struct stream *s) {
    uint64_t sum = 0;
    for (int i = 0; i < s->count; i++) sum += s->size[i];
    return sum;
}

static void drop(struct stream *s, int at) {
    char name[PATH_LEN];
    name_of(s, s->kept[at], name);
    unlinkat(options.run_fd, name, 0);
    kept_bytes -= s->size[at];
    s->count--;
    memmove(s->kept + at, s->kept + at + 1, (size_t)(s->count - at) * sizeof *s->kept);
    memmove(s->size + at, s->size + at + 1, (size_t)(s->count - at) * sizeof *s->size);
}

/* Of the stream that has most: its first segment and its last, which is being written, stay. */
static bool drop_largest(void) {
    struct stream *largest = NULL;
    uint64_t most = 0;
    for (struct exec *x = execs; x; x = x->next)
        for (int i = 0; i < 2; i++) {
            struct stream *s = i ? &x->err : &x->out;
            uint64_t has = s->pipe >= 0 && s->count > 2 ? bytes_of(s) : 0;
            if (has > most) most = has, largest = s;
        }
    if (largest) drop(largest, 1);
    return largest != NULL;
}

static bool begin_segment(struct stream *s) {
    char name[PATH_LEN];
    name_of(s, s->end, name);
    if ((s->file = create(s, name)) < 0) return false;
    s->segment = s->end;
    s->limit = options.journal_bytes / (KEEP_FIRST + KEEP_LAST) / (uint64_t)(open_streams ? open_streams : 1);
    if (s->limit > SEGMENT_BYTES) s->limit = SEGMENT_BYTES;
    if (s->limit < SEGMENT_LEAST) s->limit = SEGMENT_LEAST;
    s->kept[s->count] = s->end;
    s->size[s->count++] = 0;
    if (s->count > KEEP_FIRST + KEEP_LAST) drop(s, KEEP_FIRST);
    while (kept_bytes > options.journal_bytes && drop_largest()) continue;
    return true;
}

/* Asked four times a second: what others write in between is what the floor leaves room for. */
static bool disk_low(void) {
    static int64_t asked_ms;
    static bool low;
    int64_t now = now_ms();
    if (options.journal_floor && (!asked_ms || now - asked_ms >= 250)) {
        struct statvfs room;
        asked_ms = now;
        low = fstatvfs(options.run_fd, &room) == 0 && (uint64_t)room.f_bavail * room.f_frsize < options.journal_floor;
    }
    return low;
}

static void append(struct stream *s, const uint8_t *data, size_t len) {
    if (disk_low()) {
        end_segment(s);
        s->end += len;
        return;
    }
    while (len) {
        if (s->file >= 0 && s->end - s->segment >= s->limit) end_segment(s);
        size_t want = len;
        if (s->file >= 0 || begin_segment(s)) {
            size_t room = s->limit - (size_t)(s->end - s->segment);
            if (want > room) want = room;
            ssize_t n = write(s->file, data, want);
            if (n < 0 && errno == EINTR) continue;
            if (n > 0) {
                want = (size_t)n;
                s->size[s->count - 1] += want;
                kept_bytes += want;
            } else {
                end_segment(s);
                if (s->segment == s->end) drop(s, s->count - 1); /* an empty one would be in the way of the next */
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
        if (s->exec->marks >= 0) pty_output(s->exec, s->end);
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
        open_streams++;
        fcntl(pipe, F_SETFL, O_NONBLOCK);
        watch(pipe, &s->handle, EPOLLIN);
    }
}

void stream_close(struct stream *s) {
    if (s->pipe >= 0) {
        unwatch(s->pipe);
        close(s->pipe);
        s->pipe = -1;
        open_streams--;
        kept_bytes -= bytes_of(s); /* from here on the host's retention counts them */
    }
    end_segment(s);
}
