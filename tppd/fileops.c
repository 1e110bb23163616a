/* The operations of a file connection on one name; filewrites.c has writing, filetrees.c those on more than
 * one, files.c is the process in which they run.
 *
 * A file's *stamp* (inode, size, times of change) tells one state of it from another: whoever holds one may
 * make a change depend on it (MATCH, NONE_MATCH). Comparing and changing is one step among all file
 * processes of the sandbox, which share a lock; a command that writes between the two, some microseconds,
 * is not seen, because the kernel has no such call. That nothing is replaced which must not be there
 * (NONE_MATCH *) is the kernel's own word, against commands too.
 * The kernel's clock for these times moves a few milliseconds at a time. A stamp is *settled* when its time
 * of change had passed before we looked: then no later change, however soon, can have the same. */
#include "fileops.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MAX_READ (4 * 1024 * 1024)
#define LOCK_ROUNDS 25000 /* of 200 us */

struct buffer *file_out;
#define out file_out

/* ---- replies ---- */

void file_ok(uint32_t id) { reply_end(out, reply_begin(out, STATUS_OK, id)); }

void file_failed(uint32_t id, const char *path) {
    int e = errno;
    if (e == UNMET) {
        reply_error(out, STATUS_PRECONDITION, id, 0, "%.300s: it is not as the request's condition wants it", path);
        return;
    }
    uint8_t s = e == ENOENT                   ? STATUS_NOT_FOUND
                : e == ENOSPC || e == EDQUOT  ? STATUS_DISK_FULL
                : e == EFBIG                  ? STATUS_TOO_LARGE
                : e == BUSY || e == ENFILE    ? STATUS_OVERLOADED
                                              : STATUS_FILE;
    reply_error(out, s, id, e, "%.300s", path);
}

int file_kind(mode_t mode) { return S_ISREG(mode) ? 1 : S_ISDIR(mode) ? 2 : S_ISLNK(mode) ? 3 : 4; }

int64_t file_nanoseconds(struct timespec t) {
    if (t.tv_sec > INT64_MAX / 1000000000 - 1) return INT64_MAX;
    if (t.tv_sec < INT64_MIN / 1000000000 + 1) return INT64_MIN;
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}
int64_t file_mtime(const struct stat *s) { return file_nanoseconds(s->st_mtim); }

/* ---- stamps ---- */

int64_t file_clock(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME_COARSE, &now); /* the one that files get their times from */
    return file_nanoseconds(now);
}

static void stamp_of(const struct stat *s, char text[STAMP_MAX]) {
    snprintf(text, STAMP_MAX, "%llx-%llx-%llx-%llx", (unsigned long long)s->st_ino, (unsigned long long)s->st_size,
             (unsigned long long)file_mtime(s), (unsigned long long)file_nanoseconds(s->st_ctim));
}

/* `looked`: file_clock from before `s` was taken; 0: not settled, whatever the clock says. */
void file_describe(const struct stat *s, int64_t looked) {
    char stamp[STAMP_MAX];
    reply_number(out, TAG_KIND, file_kind(s->st_mode));
    reply_number(out, TAG_SIZE, s->st_size);
    reply_number(out, TAG_MODE, s->st_mode & 07777);
    reply_number(out, TAG_MTIME_NS, file_mtime(s));
    if (!S_ISREG(s->st_mode)) return;
    stamp_of(s, stamp);
    reply_bytes(out, TAG_STAMP, stamp, strlen(stamp));
    reply_number(out, TAG_SETTLED, file_nanoseconds(s->st_ctim) < looked);
}

/* Whether what is at `path` is as MATCH and NONE_MATCH want it, each of which may come several times; errno UNMET. */
bool file_met(const struct request *r, const char *path, bool *exists) {
    struct stat s;
    char stamp[STAMP_MAX] = "";
    *exists = stat(path, &s) == 0;
    if (*exists && S_ISREG(s.st_mode)) stamp_of(&s, stamp);
    bool wanted = false, found = false, refused = false;
    size_t cursor = 0;
    uint8_t tag;
    struct bytes v;
    while (field_next(r, &cursor, &tag, &v)) {
        if (tag != TAG_MATCH && tag != TAG_NONE_MATCH) continue;
        bool same = *exists && ((v.len == 1 && *v.at == '*') ||
                                (v.len == strlen(stamp) && v.len && !memcmp(v.at, stamp, v.len)));
        if (tag == TAG_MATCH) wanted = true, found |= same;
        else refused |= same;
    }
    if (refused || (wanted && !found)) errno = UNMET;
    return !refused && (!wanted || found);
}

/* Its holder may have been killed; one that was stopped holds up nobody for ever. errno BUSY. */
bool file_locked(void) {
    for (int i = 0; i < LOCK_ROUNDS; i++) {
        int64_t holder = 0;
        if (__atomic_compare_exchange_n(file_lock, &holder, getpid(), false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
            return true;
        if (kill((pid_t)holder, 0) < 0 && errno == ESRCH &&
            __atomic_compare_exchange_n(file_lock, &holder, getpid(), false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
            return true;
        usleep(200);
    }
    errno = BUSY;
    return false;
}

void file_unlock(void) {
    int error = errno;
    __atomic_store_n(file_lock, 0, __ATOMIC_RELEASE);
    errno = error;
}

/* ---- paths ---- */

char *file_join(const char *dir, const char *name) {
    char *path = malloc(strlen(dir) + strlen(name) + 2);
    if (!path) abort();
    if (*name == '/') return strcpy(path, name);
    strcat(strcat(strcpy(path, dir), "/"), name);
    return path;
}

char *file_parent(const char *path) {
    char *parent = strdup(path);
    if (!parent) abort();
    char *end = parent + strlen(parent);
    while (end > parent + 1 && end[-1] == '/') *--end = 0;
    char *slash = strrchr(parent, '/');
    if (slash) slash[slash == parent] = 0;
    return parent;
}

/* After mkdir has failed; errno stays. */
static bool is_there(const char *path) {
    struct stat s;
    int error = errno;
    bool found = error == EEXIST && stat(path, &s) == 0 && S_ISDIR(s.st_mode);
    errno = error;
    return found;
}

static int make_all(const char *path, mode_t mode) {
    if (mkdir(path, mode) == 0) return 0;
    if (errno != ENOENT) return is_there(path) ? 0 : -1;
    char *parent = file_parent(path);
    int result = strcmp(parent, path) ? make_all(parent, 0755) : -1;
    if (result < 0 && errno == EEXIST) errno = ENOTDIR; /* not what was asked for is there, but its parent */
    free(parent);
    if (result < 0 || mkdir(path, mode) == 0) return result;
    return is_there(path) ? 0 : -1;
}

int file_make_parents(const char *path) {
    char *parent = file_parent(path);
    int result = make_all(parent, 0755);
    if (result < 0 && errno == EEXIST) errno = ENOTDIR;
    free(parent);
    return result;
}

/* ---- operations ---- */

static void op_stat(const struct request *r, const char *path) {
    struct stat s;
    int64_t looked = file_clock();
    if ((field_number(r, TAG_FLAGS, 1) & 1 ? stat(path, &s) : lstat(path, &s)) < 0) {
        file_failed(r->id, path);
        return;
    }
    size_t begin = reply_begin(out, STATUS_OK, r->id);
    file_describe(&s, looked);
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
    struct stat s, after;
    int64_t looked = file_clock();
    if (fd < 0 || fstat(fd, &s) < 0) {
        file_failed(r->id, path);
    } else if (!S_ISREG(s.st_mode)) {
        errno = S_ISDIR(s.st_mode) ? EISDIR : EINVAL;
        file_failed(r->id, path);
    } else {
        size_t want = limit < 0 ? 0 : limit > MAX_READ ? MAX_READ : (size_t)limit, got = 0;
        ssize_t n = 0;
        while (got < want && (n = pread(fd, data + got, want - got, offset + (int64_t)got)) > 0) got += (size_t)n;
        if (n < 0 || fstat(fd, &after) < 0) {
            file_failed(r->id, path);
        } else {
            char was[STAMP_MAX], is[STAMP_MAX];
            stamp_of(&s, was);
            stamp_of(&after, is);
            size_t begin = reply_begin(out, STATUS_OK, r->id);
            file_describe(&after, strcmp(was, is) ? 0 : looked);
            reply_bytes(out, TAG_DATA, data, got);
            reply_end(out, begin);
        }
    }
    if (fd >= 0) close(fd);
}

static void op_mkdir(const struct request *r, const char *path) {
    mode_t mode = (mode_t)field_number(r, TAG_MODE, 0755) & 07777;
    bool parents = field_number(r, TAG_FLAGS, 0) & FILE_PARENTS;
    if ((parents ? make_all(path, mode) : mkdir(path, mode)) < 0) file_failed(r->id, path);
    else file_ok(r->id);
}

static void op_symlink(const struct request *r, const char *path) {
    char *target = field_text(r, TAG_TARGET), *parent = file_parent(path), *aside = file_join(parent, ".tppd-link.new");
    bool parents = field_number(r, TAG_FLAGS, 0) & FILE_PARENTS;
    errno = EINVAL;
    if (target && (!parents || file_make_parents(path) == 0)) {
        unlink(aside);
        errno = 0;
        if (symlink(target, aside) == 0 && rename(aside, path) < 0) {
            int error = errno;
            unlink(aside);
            errno = error;
        }
    }
    if (errno) file_failed(r->id, path);
    else file_ok(r->id);
    free(target);
    free(parent);
    free(aside);
}

static void op_remove(const struct request *r, const char *path) {
    bool exists;
    int result = file_locked() ? 0 : -1;
    if (result == 0) {
        result = file_met(r, path, &exists) ? unlinkat(AT_FDCWD, path, 0) : -1;
        file_unlock();
    }
    if (result < 0 && errno != UNMET && errno != BUSY) /* a directory, or there is no such thing */
        result = file_remove_at(AT_FDCWD, path, field_number(r, TAG_FLAGS, 0) & 1);
    if (result < 0) file_failed(r->id, path);
    else file_ok(r->id);
}

static int set(const struct request *r, const char *path) {
    bool exists;
    int64_t mode = field_number(r, TAG_MODE, -1), mtime = field_number(r, TAG_MTIME_NS, INT64_MIN);
    struct timespec times[2] = {{0, UTIME_OMIT}, {mtime / 1000000000, mtime % 1000000000}};
    if (times[1].tv_nsec < 0) times[1].tv_sec--, times[1].tv_nsec += 1000000000;
    if (!file_met(r, path, &exists)) return -1;
    if (mode >= 0 && chmod(path, (mode_t)mode & 07777) < 0) return -1;
    return mtime == INT64_MIN ? 0 : utimensat(AT_FDCWD, path, times, 0);
}

static void op_set(const struct request *r, const char *path) {
    struct stat s;
    int result = file_locked() ? 0 : -1;
    if (result == 0) {
        result = set(r, path);
        file_unlock();
    }
    int64_t looked = file_clock();
    if (result < 0 || stat(path, &s) < 0) {
        file_failed(r->id, path);
        return;
    }
    size_t begin = reply_begin(out, STATUS_OK, r->id);
    file_describe(&s, looked);
    reply_end(out, begin);
}

void file_serve(struct buffer *to, const struct request *r) {
    out = to;
    int64_t given = field_number(r, TAG_EPOCH, -1);
    bool changes = r->op != OP_STAT && r->op != OP_READ && r->op != OP_LISTDIR && r->op != OP_LISTTREE &&
                   r->op != OP_WALK && r->op != OP_READ_FILES && r->op != OP_HOLDERS;
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
    char *path = file_join(options.home, given_path);
    switch (r->op) {
    case OP_HOLDERS: ports_holders(out, r); break;
    case OP_STAT: op_stat(r, path); break;
    case OP_READ: op_read(r, path); break;
    case OP_WRITE: file_write(r, path); break;
    case OP_MKDIR: op_mkdir(r, path); break;
    case OP_SYMLINK: op_symlink(r, path); break;
    case OP_REMOVE: op_remove(r, path); break;
    case OP_SET: op_set(r, path); break;
    case OP_LISTDIR: file_listdir(r, path); break;
    case OP_LISTTREE: file_listtree(r, path); break;
    case OP_RENAME: file_rename(r, path); break;
    case OP_COPY: file_copy(r, path); break;
    case OP_WALK: file_walk(r, path); break;
    case OP_READ_FILES: file_read_files(r, path); break;
    case OP_WRITE_FILES: file_write_files(r, path); break;
    default: reply_error(out, STATUS_INVALID, r->id, 0, "unknown file operation %d", r->op);
    }
    free(path);
    free(given_path);
}
