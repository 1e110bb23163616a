/* Many files at once, for whoever keeps versions of a tree: read, or made. Each does in one request what would
 * else be thousands; filewalks.c tells what is there.
 *
 * READ_FILES and WRITE_FILES open their paths below the tree's root and do not end at the first that fails: each
 * failure is told by itself. A process inside that exchanges a directory for a symlink meanwhile leads them where
 * it could go itself.
 *
 * What WRITE_FILES puts in the place of something may depend on what that is (`struct item`), so that nothing is
 * lost which a command wrote since its client looked. The check is made before and, of what came out, after one
 * exchange of the two: what is written by way of the path is either there before it, and then seen, or goes into
 * what is new. Only a command that had the old file open, and writes behind the second check, writes in vain. What
 * is not as it was wanted stays beside it under a name of its own (ASIDE), which a walk tells like any other. */
#include "fileops.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FILE_BYTES (4 * 1024 * 1024)
#define READ_BYTES (8u * 1024 * 1024)
#define HOLE 65536
#define ASIDE ".tpp-aside-"
#define ASIDE_MAX 64 /* of its name */

void file_put_stat(struct buffer *b, const struct stat *s) {
    uint32_t mode = s->st_mode;
    int64_t numbers[4] = {s->st_size, file_mtime(s), file_nanoseconds(s->st_ctim), (int64_t)s->st_ino};
    buffer_add(b, &mode, 4);
    buffer_add(b, numbers, sizeof numbers); /* both architectures are little-endian */
}

/* ---- READ_FILES ---- */

static uint8_t *piece; /* FILE_BYTES, made when first needed */

static void need_piece(void) {
    if (!piece && !(piece = malloc(FILE_BYTES))) abort();
}

static char *text_of(struct bytes v) {
    char *text = v.len && !memchr(v.at, 0, v.len) ? malloc(v.len + 1) : NULL;
    if (text) memcpy(text, v.at, v.len), text[v.len] = 0;
    return text;
}

static void read_one(int root, const char *path, size_t limit, int64_t looked) {
    struct stat before = {0}, s = {0};
    struct buffer record = {0};
    size_t got = 0;
    uint32_t error = 0;
    int fd = path ? openat(root, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC) : -1;
    if (!path) errno = EINVAL;
    if (fd < 0 || fstat(fd, &before) < 0) error = (uint32_t)errno;
    else if (!S_ISREG(before.st_mode)) error = EISDIR;
    else if (before.st_size > (int64_t)limit) error = EFBIG;
    if (error == EFBIG) s = before;
    ssize_t n = 0;
    while (!error && got < limit && (n = pread(fd, piece + got, limit - got, (off_t)got)) > 0) got += (size_t)n;
    if (!error && (n < 0 || fstat(fd, &s) < 0)) error = (uint32_t)errno;
    if (!error && s.st_size > (int64_t)limit) error = EFBIG; /* it grew */
    /* What changed while it was read, or within the clock's last tick, may change again unseen. */
    bool same = file_nanoseconds(before.st_ctim) == file_nanoseconds(s.st_ctim) && before.st_size == s.st_size;
    uint8_t settled = !error && same && file_nanoseconds(s.st_ctim) < looked;
    buffer_add(&record, &error, 4);
    file_put_stat(&record, &s);
    buffer_add(&record, &settled, 1);
    if (!error) buffer_add(&record, piece, got);
    reply_bytes(file_out, TAG_NAME, record.at, record.len);
    buffer_free(&record);
    if (fd >= 0) close(fd);
}

void file_read_files(const struct request *r, const char *path) {
    int64_t limit = field_number(r, TAG_LIMIT, FILE_BYTES), looked = file_clock();
    if (limit < 0 || limit > FILE_BYTES) limit = FILE_BYTES;
    int root = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (root < 0) {
        file_failed(r->id, path);
        return;
    }
    need_piece();
    size_t begin = reply_begin(file_out, STATUS_OK, r->id), cursor = 0;
    uint8_t tag;
    struct bytes v;
    while (field_next(r, &cursor, &tag, &v) && file_out->len - begin < READ_BYTES) {
        if (tag != TAG_NAME) continue;
        char *name = text_of(v);
        read_one(root, name, (size_t)limit, looked);
        free(name);
    }
    reply_end(file_out, begin);
    close(root);
}

/* ---- WRITE_FILES ---- */

static bool is_hole(const uint8_t *at, size_t length) {
    return length == HOLE && !*at && !memcmp(at, at + 1, length - 1);
}

static int write_all(int fd, const uint8_t *at, size_t length) {
    bool ends_empty = false;
    for (size_t done = 0; done < length;) {
        size_t part = length - done < HOLE ? length - done : HOLE;
        if ((ends_empty = is_hole(at + done, part))) { /* zeros take no room */
            if (lseek(fd, (off_t)part, SEEK_CUR) < 0) return -1;
            done += part;
            continue;
        }
        ssize_t n = write(fd, at + done, part);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return -1;
        done += (size_t)n;
    }
    return ends_empty ? ftruncate(fd, (off_t)length) : 0;
}

enum when { ANYTHING, NOTHING, STAMPED, SET_ASIDE, FROM = 4 };
struct item { uint32_t mode; uint8_t when; bool from; char *path; const uint8_t *stamp, *data; size_t length; };

static int rename_as(int root, const char *from, const char *to, unsigned flags) {
    return (int)syscall(SYS_renameat2, root, from, root, to, flags);
}

/* Whether `path` is what the stamp was taken of. Being renamed changes the time of change: without it behind that. */
static bool as_stamped(int root, const char *path, const uint8_t *stamp, bool renamed) {
    struct stat s;
    if (fstatat(root, path, &s, AT_SYMLINK_NOFOLLOW) < 0) return false;
    int64_t now[3] = {file_mtime(&s), file_nanoseconds(s.st_ctim), (int64_t)s.st_ino};
    return !memcmp(now, stamp, 8) && (renamed || !memcmp(now + 1, stamp + 8, 8)) && !memcmp(now + 2, stamp + 16, 8);
}

/* A name beside `path` at which nothing is. */
static char *aside_of(int root, const char *path) {
    static unsigned number;
    struct stat s;
    char *parent = file_parent(path), name[ASIDE_MAX], *aside = NULL;
    bool top = !strcmp(parent, path); /* a name without a directory */
    do {
        free(aside);
        snprintf(name, sizeof name, ASIDE "%x-%x", (unsigned)getpid(), ++number);
        aside = top ? strdup(name) : file_join(parent, name);
        if (!aside) abort();
    } while (fstatat(root, aside, &s, AT_SYMLINK_NOFOLLOW) == 0);
    free(parent);
    return aside;
}

/* What was at the item's path is at `aside` now: it goes if it is what was to be replaced. */
static int let_go(int root, const struct item *i, const char *aside) {
    if (i->when == SET_ASIDE) return 0;
    if (as_stamped(root, aside, i->stamp, true)) return unlinkat(root, aside, 0);
    errno = UNMET;
    return -1;
}

static int take_away(int root, const struct item *i) {
    if (i->when == STAMPED && !as_stamped(root, i->path, i->stamp, false)) {
        errno = UNMET;
        return -1;
    }
    char *aside = aside_of(root, i->path);
    int result = rename_as(root, i->path, aside, RENAME_NOREPLACE);
    if (result == 0) result = let_go(root, i, aside);
    else if (errno == ENOENT) result = 0;
    free(aside);
    return result;
}

/* What is at `aside` comes to the item's path. When it cannot, it is not there any more. */
static int place(int root, const struct item *i, const char *aside) {
    int result = -1;
    if (i->when == NOTHING) {
        result = rename_as(root, aside, i->path, RENAME_NOREPLACE);
        if (result < 0 && errno == EEXIST) errno = UNMET;
    } else if (i->when == ANYTHING) {
        result = renameat(root, aside, root, i->path);
        if (result < 0 && errno == EISDIR && file_remove_at(root, i->path, false) == 0)
            result = renameat(root, aside, root, i->path);
    } else if (i->when == STAMPED && !as_stamped(root, i->path, i->stamp, false)) {
        errno = UNMET;
    } else if (rename_as(root, aside, i->path, RENAME_EXCHANGE) == 0) {
        return let_go(root, i, aside);
    } else if (errno == ENOENT) {
        errno = UNMET;
    } else if (errno == EINVAL && take_away(root, i) == 0) { /* a kernel or file system that cannot exchange */
        result = rename_as(root, aside, i->path, RENAME_NOREPLACE);
        if (result < 0 && errno == EEXIST) errno = UNMET;
    }
    int error = errno;
    if (result < 0) unlinkat(root, aside, 0);
    errno = error;
    return result;
}

/* A new file at `path`. */
static int fill(int root, const struct item *i, const char *path) {
    int fd = openat(root, path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, i->mode & 0755);
    if (fd < 0) return -1;
    int result = write_all(fd, i->data, i->length);
    if (result == 0 && i->mode & 07777 & ~0755) result = fchmod(fd, i->mode & 07777); /* what umask takes away */
    int error = errno;
    close(fd);
    if (result < 0) unlinkat(root, path, 0);
    errno = error;
    return result;
}

static int make_file(int root, const struct item *i) {
    if (i->from) {
        char *source = text_of((struct bytes){i->data, i->length});
        errno = EINVAL;
        int result = source && *source != '/' ? place(root, i, source) : -1;
        free(source);
        return result;
    }
    if (i->when == ANYTHING) {
        int made = fill(root, i, i->path);
        if (made == 0 || errno != EEXIST) return made;
    }
    char *aside = aside_of(root, i->path);
    int result = fill(root, i, aside) < 0 ? -1 : place(root, i, aside);
    free(aside);
    return result;
}

static int make_directory(int root, const struct item *i) {
    struct stat s;
    if (mkdirat(root, i->path, 0700) < 0) {
        if (errno != EEXIST || fstatat(root, i->path, &s, AT_SYMLINK_NOFOLLOW) < 0) return -1;
        if (!S_ISDIR(s.st_mode) && i->when != ANYTHING) {
            errno = UNMET;
            return -1;
        }
        if (!S_ISDIR(s.st_mode) && (unlinkat(root, i->path, 0) < 0 || mkdirat(root, i->path, 0700) < 0)) return -1;
    }
    return fchmodat(root, i->path, i->mode & 07777, 0);
}

static int make_link(int root, const struct item *i) {
    char target[4096];
    if (i->length >= sizeof target || memchr(i->data, 0, i->length)) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(target, i->data, i->length);
    target[i->length] = 0;
    char *aside = aside_of(root, i->path);
    int result = symlinkat(target, root, aside) < 0 ? -1 : place(root, i, aside);
    free(aside);
    return result;
}

static int make(int root, const struct item *i) {
    switch (i->mode & S_IFMT) {
    case S_IFREG: return make_file(root, i);
    case S_IFDIR: return make_directory(root, i);
    case S_IFLNK: return make_link(root, i);
    case 0: return i->when == ANYTHING ? file_remove_at(root, i->path, false) : take_away(root, i);
    default: errno = EINVAL; return -1;
    }
}

/* Of the file processes one at a time looks and changes; a fork's first files, on no condition, need not wait. */
static int make_in_turn(int root, const struct item *i) {
    if (i->when == ANYTHING) return make(root, i);
    if (!file_locked()) return -1;
    int result = make(root, i);
    file_unlock();
    return result;
}

/* u32 mode with the kind (0: take away what is there, a directory only when it is empty) | u16 length of the path |
 * u8 what must be there (0 anything, 1 nothing, 2 what the stamp says, 3 anything: it is set aside; and 4: the
 * content is the file of that relative path) | for 2 the stamp as WALK tells it | the path | content or target */
static bool parse(struct bytes v, struct item *i) {
    uint16_t length;
    if (v.len < 7) return false;
    memcpy(&i->mode, v.at, 4);
    memcpy(&length, v.at + 4, 2);
    i->when = v.at[6] & 3;
    i->from = v.at[6] & FROM;
    i->stamp = v.at + 7;
    size_t head = i->when == STAMPED ? 31 : 7;
    if (v.at[6] > 7 || head + length > v.len) return false;
    i->path = text_of((struct bytes){v.at + head, length});
    i->data = v.at + head + length;
    i->length = v.len - head - length;
    return i->path && *i->path != '/';
}

void file_write_files(const struct request *r, const char *path) {
    int root = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (root < 0) {
        file_failed(r->id, path);
        return;
    }
    size_t begin = reply_begin(file_out, STATUS_OK, r->id), cursor = 0;
    uint8_t tag;
    struct bytes v;
    for (uint32_t number = 0; field_next(r, &cursor, &tag, &v);) {
        struct item i = {0};
        if (tag != TAG_NAME) continue;
        errno = EINVAL;
        if (!parse(v, &i) || make_in_turn(root, &i) < 0) {
            uint32_t failure[2] = {number, (uint32_t)errno};
            reply_bytes(file_out, TAG_NAME, failure, sizeof failure);
        }
        free(i.path);
        number++;
    }
    reply_end(file_out, begin);
    close(root);
}
