/* The operations of a file connection; files.c is the process in which they run. */
#include "tppd.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_READ (4 * 1024 * 1024)
#define MAX_ENTRIES 100000
#define MAX_WRITES 64

static struct buffer *out; /* where the replies of the request at hand go */
static struct write_slot { int64_t id; int fd; char *path, *aside; } writes[MAX_WRITES];

/* ---- replies ---- */

static void ok(uint32_t id) { reply_end(out, reply_begin(out, STATUS_OK, id)); }

static void failed(uint32_t id, const char *path) {
    int e = errno;
    uint8_t s = e == ENOENT                   ? STATUS_NOT_FOUND
                : e == ENOSPC || e == EDQUOT  ? STATUS_DISK_FULL
                : e == EFBIG                  ? STATUS_TOO_LARGE
                                              : STATUS_FILE;
    reply_error(out, s, id, e, "%.300s", path);
}

static int kind_of(mode_t mode) { return S_ISREG(mode) ? 1 : S_ISDIR(mode) ? 2 : S_ISLNK(mode) ? 3 : 4; }
static int64_t mtime_of(const struct stat *s) {
    return (int64_t)s->st_mtim.tv_sec * 1000000000 + s->st_mtim.tv_nsec;
}

/* ---- paths ---- */

static char *join(const char *dir, const char *name) {
    char *path = malloc(strlen(dir) + strlen(name) + 2);
    if (!path) abort();
    if (*name == '/') return strcpy(path, name);
    strcat(strcat(strcpy(path, dir), "/"), name);
    return path;
}

static char *parent_of(const char *path) {
    char *parent = strdup(path);
    if (!parent) abort();
    char *end = parent + strlen(parent);
    while (end > parent + 1 && end[-1] == '/') *--end = 0;
    char *slash = strrchr(parent, '/');
    if (slash) slash[slash == parent] = 0;
    return parent;
}

static int make_all(const char *path, mode_t mode) {
    if (mkdir(path, mode) == 0) return 0;
    struct stat s;
    if (errno == EEXIST && stat(path, &s) == 0 && S_ISDIR(s.st_mode)) return 0;
    if (errno != ENOENT) return -1;
    char *parent = parent_of(path);
    int result = strcmp(parent, path) ? make_all(parent, 0755) : -1;
    free(parent);
    if (result < 0) return -1;
    if (mkdir(path, mode) == 0) return 0;
    return errno == EEXIST && stat(path, &s) == 0 && S_ISDIR(s.st_mode) ? 0 : -1;
}

static int make_parents(const char *path) {
    char *parent = parent_of(path);
    int result = make_all(parent, 0755);
    free(parent);
    return result;
}

/* Where a write through symlinks ends, dangling ones included. */
static char *written_path(const char *path) {
    char *at = strdup(path);
    for (int i = 0; at && i < 40; i++) {
        char target[4096];
        ssize_t n = readlink(at, target, sizeof target - 1);
        if (n < 0) return at;
        target[n] = 0;
        char *parent = parent_of(at), *next = join(parent, target);
        free(parent);
        free(at);
        at = next;
    }
    free(at);
    errno = ELOOP;
    return NULL;
}

/* ---- operations ---- */

static void op_stat(const struct request *r, const char *path) {
    struct stat s;
    if ((field_number(r, TAG_FLAGS, 1) & 1 ? stat(path, &s) : lstat(path, &s)) < 0) {
        failed(r->id, path);
        return;
    }
    size_t begin = reply_begin(out, STATUS_OK, r->id);
    reply_number(out, TAG_KIND, kind_of(s.st_mode));
    reply_number(out, TAG_SIZE, s.st_size);
    reply_number(out, TAG_MODE, s.st_mode & 07777);
    reply_number(out, TAG_MTIME_NS, mtime_of(&s));
    if (S_ISLNK(s.st_mode)) {
        char target[4096];
        ssize_t n = readlink(path, target, sizeof target);
        reply_bytes(out, TAG_TARGET, target, n > 0 ? (size_t)n : 0);
    }
    reply_end(out, begin);
}

static void op_read(const struct request *r, const char *path) {
    static uint8_t data[MAX_READ];
    int64_t offset = field_number(r, TAG_OFFSET, 0), limit = field_number(r, TAG_LIMIT, MAX_READ);
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC); /* a FIFO must not hold us */
    struct stat s;
    if (fd < 0 || fstat(fd, &s) < 0) {
        failed(r->id, path);
    } else if (!S_ISREG(s.st_mode)) {
        errno = S_ISDIR(s.st_mode) ? EISDIR : EINVAL;
        failed(r->id, path);
    } else {
        size_t want = limit < 0 ? 0 : limit > MAX_READ ? MAX_READ : (size_t)limit, got = 0;
        ssize_t n = 0;
        while (got < want && (n = pread(fd, data + got, want - got, offset + (int64_t)got)) > 0) got += (size_t)n;
        if (n < 0) {
            failed(r->id, path);
        } else {
            size_t begin = reply_begin(out, STATUS_OK, r->id);
            reply_number(out, TAG_SIZE, s.st_size);
            reply_bytes(out, TAG_DATA, data, got);
            reply_end(out, begin);
        }
    }
    if (fd >= 0) close(fd);
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
        errno = EMFILE;
        return NULL;
    }
    char *target = written_path(path);
    if (!target) return NULL;
    if (field_number(r, TAG_FLAGS, 0) & FILE_PARENTS && make_parents(target) < 0) goto failed;
    if (lstat(target, &s) == 0 && !S_ISREG(s.st_mode)) {
        errno = S_ISDIR(s.st_mode) ? EISDIR : EINVAL;
        goto failed;
    }
    char *parent = parent_of(target), name[64];
    snprintf(name, sizeof name, ".tppd-%llx.new", (unsigned long long)id);
    *w = (struct write_slot){id, -1, target, join(parent, name)};
    free(parent);
    w->fd = open(w->aside, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (w->fd >= 0) return w;
    int error = errno;
    abandon(w);
    errno = error;
    return NULL;
failed:
    free(target);
    return NULL;
}

static int write_end(const struct request *r, struct write_slot *w) {
    struct stat s;
    int64_t mode = field_number(r, TAG_MODE, -1);
    if (mode < 0) mode = stat(w->path, &s) == 0 ? s.st_mode & 07777 : 0644;
    if (fchmod(w->fd, (mode_t)mode & 07777) < 0 || rename(w->aside, w->path) < 0) return -1;
    close(w->fd);
    free(w->aside);
    free(w->path);
    *w = (struct write_slot){.fd = -1};
    return 0;
}

static void op_write(const struct request *r, const char *path) {
    int64_t flags = field_number(r, TAG_FLAGS, FILE_FINAL | FILE_FIRST), id = field_number(r, TAG_WRITE_ID, 0);
    struct bytes data = {NULL, 0};
    field(r, TAG_DATA, &data);
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
        failed(r->id, path);
        if (w) abandon(w);
        return;
    }
    ok(r->id);
}

static void op_mkdir(const struct request *r, const char *path) {
    mode_t mode = (mode_t)field_number(r, TAG_MODE, 0755) & 07777;
    bool parents = field_number(r, TAG_FLAGS, 0) & FILE_PARENTS;
    if ((parents ? make_all(path, mode) : mkdir(path, mode)) < 0) failed(r->id, path);
    else ok(r->id);
}

static void op_symlink(const struct request *r, const char *path) {
    char *target = field_text(r, TAG_TARGET), *parent = parent_of(path), *aside = join(parent, ".tppd-link.new");
    bool parents = field_number(r, TAG_FLAGS, 0) & FILE_PARENTS;
    errno = EINVAL;
    if (target && (!parents || make_parents(path) == 0)) {
        unlink(aside);
        errno = 0;
        if (symlink(target, aside) == 0 && rename(aside, path) < 0) {
            int error = errno;
            unlink(aside);
            errno = error;
        }
    }
    if (errno) failed(r->id, path);
    else ok(r->id);
    free(target);
    free(parent);
    free(aside);
}

/* Never through a symlink: every step opens a directory by its name below one that is open. */
static int remove_at(int dir, const char *name, bool recursive) {
    if (unlinkat(dir, name, 0) == 0 || errno == ENOENT) return 0;
    if (errno != EISDIR && errno != EPERM) return -1;
    if (unlinkat(dir, name, AT_REMOVEDIR) == 0 || errno == ENOENT) return 0;
    if (!recursive || (errno != ENOTEMPTY && errno != EEXIST)) return -1;
    int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && errno == EACCES && fchmodat(dir, name, 0700, 0) == 0)
        fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) return -1;
    fchmod(fd, 0700); /* one's own directory without write permission */
    DIR *list = fdopendir(fd);
    if (!list) {
        close(fd);
        return -1;
    }
    int result = 0;
    for (struct dirent *e; result == 0 && (e = readdir(list));)
        if (strcmp(e->d_name, ".") && strcmp(e->d_name, "..")) result = remove_at(fd, e->d_name, true);
    int error = errno;
    closedir(list);
    errno = error;
    if (result < 0) return -1;
    return unlinkat(dir, name, AT_REMOVEDIR) == 0 || errno == ENOENT ? 0 : -1;
}

static void op_remove(const struct request *r, const char *path) {
    if (remove_at(AT_FDCWD, path, field_number(r, TAG_FLAGS, 0) & 1) < 0) failed(r->id, path);
    else ok(r->id);
}

static void op_listdir(const struct request *r, const char *path) {
    DIR *dir = opendir(path);
    if (!dir) {
        failed(r->id, path);
        return;
    }
    size_t begin = reply_begin(out, STATUS_OK, r->id);
    int count = 0;
    struct stat s;
    for (struct dirent *e; (e = readdir(dir)) && count <= MAX_ENTRIES && out->len - begin < MAX_FRAME - 512;) {
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) continue;
        if (fstatat(dirfd(dir), e->d_name, &s, AT_SYMLINK_NOFOLLOW) < 0) continue;
        uint8_t entry[21 + 256];
        int64_t size = s.st_size, mtime = mtime_of(&s);
        uint32_t mode = s.st_mode & 07777;
        size_t n = strlen(e->d_name);
        entry[0] = (uint8_t)kind_of(s.st_mode);
        memcpy(entry + 1, &size, 8); /* both architectures are little-endian */
        memcpy(entry + 9, &mode, 4);
        memcpy(entry + 13, &mtime, 8);
        memcpy(entry + 21, e->d_name, n);
        reply_bytes(out, TAG_NAME, entry, 21 + n);
        count++;
    }
    bool more = count > MAX_ENTRIES || out->len - begin >= MAX_FRAME - 512;
    closedir(dir);
    if (more) {
        out->len = begin;
        reply_error(out, STATUS_TOO_LARGE, r->id, 0, "%.300s: more than %d entries", path, MAX_ENTRIES);
        return;
    }
    reply_end(out, begin);
}

void file_abandon_all(void) {
    for (int i = 0; i < MAX_WRITES; i++)
        if (writes[i].path) abandon(writes + i);
}

void file_serve(struct buffer *to, const struct request *r) {
    out = to;
    int64_t given = field_number(r, TAG_EPOCH, -1);
    bool changes = r->op == OP_WRITE || r->op == OP_MKDIR || r->op == OP_SYMLINK || r->op == OP_REMOVE;
    if (changes && given < *epoch) {
        reply_error(out, STATUS_FENCED, r->id, 0, "epoch %lld is over; the owner is at %lld",
                    (long long)given, (long long)*epoch);
        return;
    }
    if (changes && given > *epoch) *epoch = given; /* stored by tppd with the next command or hello */
    char *given_path = field_text(r, TAG_PATH);
    if (!given_path || !*given_path) {
        free(given_path);
        reply_error(out, STATUS_INVALID, r->id, 0, "a path is needed");
        return;
    }
    char *path = join(options.home, given_path);
    switch (r->op) {
    case OP_STAT: op_stat(r, path); break;
    case OP_READ: op_read(r, path); break;
    case OP_WRITE: op_write(r, path); break;
    case OP_MKDIR: op_mkdir(r, path); break;
    case OP_SYMLINK: op_symlink(r, path); break;
    case OP_REMOVE: op_remove(r, path); break;
    case OP_LISTDIR: op_listdir(r, path); break;
    default: reply_error(out, STATUS_INVALID, r->id, 0, "unknown file operation %d", r->op);
    }
    free(path);
    free(given_path);
}
