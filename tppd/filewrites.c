/* Writing a file: under another name, or none, beside its place, and moved there as a whole. A write in parts
 * ends with its last part, when it is given up, or with its connection. */
#include "fileops.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_WRITES 64

static struct write_slot { int64_t id; int fd; bool nameless; char *path, *aside; } writes[MAX_WRITES];

/* Where a write through symlinks ends, dangling ones included. */
static char *written_path(const char *path) {
    char *at = strdup(path);
    for (int i = 0; at && i < 40; i++) {
        char target[4096];
        ssize_t n = readlink(at, target, sizeof target - 1);
        if (n < 0) return at;
        target[n] = 0;
        char *parent = file_parent(at), *next = file_join(parent, target);
        free(parent);
        free(at);
        at = next;
    }
    free(at);
    errno = ELOOP;
    return NULL;
}

static void abandon(struct write_slot *w) {
    if (w->fd >= 0) close(w->fd);
    unlink(w->aside);
    free(w->aside);
    free(w->path);
    *w = (struct write_slot){.fd = -1};
}

static struct write_slot *slot_of(int64_t id) {
    for (int i = 0; i < MAX_WRITES; i++)
        if (writes[i].path && writes[i].id == id) return writes + i;
    return NULL;
}

static struct write_slot *write_begin(const struct request *r, const char *path, int64_t id) {
    struct write_slot *w = slot_of(id);
    struct stat s;
    if (w) abandon(w); /* sent again after a broken connection */
    for (w = writes; w < writes + MAX_WRITES && w->path;) w++;
    if (w == writes + MAX_WRITES) {
        errno = ENFILE;
        return NULL;
    }
    char *target = written_path(path);
    if (!target) return NULL;
    if (field_number(r, TAG_FLAGS, 0) & FILE_PARENTS && file_make_parents(target) < 0) goto failed;
    if (lstat(target, &s) == 0 && !S_ISREG(s.st_mode)) {
        errno = S_ISDIR(s.st_mode) ? EISDIR : EINVAL;
        goto failed;
    }
    char *parent = file_parent(target), name[64];
    snprintf(name, sizeof name, ".tppd-%llx.new", (unsigned long long)id);
    *w = (struct write_slot){id, -1, false, target, file_join(parent, name)};
    /* What comes in parts has no name until it is whole: nothing is left of it, whoever is killed. */
    if (!(field_number(r, TAG_FLAGS, FILE_FINAL) & FILE_FINAL))
        w->fd = open(parent, O_WRONLY | O_TMPFILE | O_CLOEXEC, 0600);
    free(parent);
    w->nameless = w->fd >= 0;
    if (!w->nameless) w->fd = open(w->aside, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (w->fd >= 0) return w;
    int error = errno;
    abandon(w);
    errno = error;
    return NULL;
failed:
    free(target);
    return NULL;
}

static bool must_be_absent(const struct request *r) {
    size_t cursor = 0;
    uint8_t tag;
    struct bytes v;
    while (field_next(r, &cursor, &tag, &v))
        if (tag == TAG_NONE_MATCH && v.len == 1 && *v.at == '*') return true;
    return false;
}

static int appear(const struct write_slot *w, bool absent) {
    if (!w->nameless) return absent ? file_rename_new(w->aside, w->path) : rename(w->aside, w->path);
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", w->fd);
    if (!absent) unlink(w->aside);
    if (linkat(AT_FDCWD, link, AT_FDCWD, absent ? w->path : w->aside, AT_SYMLINK_FOLLOW) < 0) return -1;
    return absent ? 0 : rename(w->aside, w->path);
}

static int write_end(const struct request *r, struct write_slot *w) {
    struct stat s;
    bool existed, absent = must_be_absent(r);
    int64_t mode = field_number(r, TAG_MODE, -1);
    if (mode < 0) mode = stat(w->path, &s) == 0 ? s.st_mode & 07777 : 0644;
    if (fchmod(w->fd, (mode_t)mode & 07777) < 0 || !file_locked()) return -1;
    int result = file_met(r, w->path, &existed) ? appear(w, absent) : -1;
    if (result < 0 && absent && errno == EEXIST) errno = UNMET;
    file_unlock();
    int64_t looked = file_clock();
    if (result < 0 || fstat(w->fd, &s) < 0) return -1;
    size_t begin = reply_begin(file_out, STATUS_OK, r->id);
    file_describe(&s, looked);
    reply_number(file_out, TAG_CREATED, !existed);
    reply_end(file_out, begin);
    close(w->fd);
    free(w->aside);
    free(w->path);
    *w = (struct write_slot){.fd = -1};
    return 0;
}

void file_write(const struct request *r, const char *path) {
    int64_t flags = field_number(r, TAG_FLAGS, FILE_FINAL | FILE_FIRST), id = field_number(r, TAG_WRITE_ID, 0);
    struct bytes data = {NULL, 0};
    field(r, TAG_DATA, &data);
    if (flags & FILE_ABANDON) {
        struct write_slot *given_up = slot_of(id);
        if (given_up) abandon(given_up);
        file_ok(r->id);
        return;
    }
    struct write_slot *w = flags & FILE_FIRST ? write_begin(r, path, id) : slot_of(id);
    if (!w && !(flags & FILE_FIRST)) errno = ESTALE; /* the connection of the first part is gone */
    size_t done = 0;
    while (w && done < data.len) {
        ssize_t n = write(w->fd, data.at + done, data.len - done);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) break;
        done += (size_t)n;
    }
    if (!w || done < data.len || (flags & FILE_FINAL && write_end(r, w) < 0)) {
        file_failed(r->id, path);
        if (w) abandon(w);
        return;
    }
    if (!(flags & FILE_FINAL)) file_ok(r->id);
}

void file_abandon_all(void) {
    for (int i = 0; i < MAX_WRITES; i++)
        if (writes[i].path) abandon(writes + i);
}
