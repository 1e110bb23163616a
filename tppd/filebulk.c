/* File operations on a whole tree at once, for whoever keeps versions of it: what is there, many files read,
 * many entries made. Each does in one request what would else be thousands.
 *
 * WALK tells each directory as one record, its entries by the bytes of their names, so that a directory in
 * which nothing changed gives the same bytes again. No symlink is followed. READ_FILES and WRITE_FILES open
 * their paths below the tree's root and do not end at the first that fails: each failure is told by itself.
 * A process inside that exchanges a directory for a symlink meanwhile leads them where it could go itself. */
#include "fileops.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PAGE_BYTES (4u * 1024 * 1024)   /* of records, then a page ends */
#define DIRECTORY_BYTES (8u * 1024 * 1024) /* of one record: what has more is told as too large */
#define FILE_BYTES (4 * 1024 * 1024)
#define READ_BYTES (8u * 1024 * 1024)
#define HOLE 65536

/* ---- WALK ---- */

static struct walk { size_t begin, page, told; bool more; } walk;

struct name { char *text; struct stat s; };

static int by_bytes(const void *a, const void *b) {
    return strcmp(((const struct name *)a)->text, ((const struct name *)b)->text);
}

static void forget(struct name *names, size_t count) {
    for (size_t i = 0; i < count; i++) free(names[i].text);
    free(names);
}

/* What is in a directory, by name; NULL: errno. E2BIG: it is too much for one record. EACCES: its names may be read,
 * but nothing else of what is in it. */
static struct name *names_of(DIR *dir, size_t *count) {
    size_t room = 64, bytes = 0;
    int error = 0;
    struct name *names = malloc(room * sizeof *names);
    if (!names) abort();
    *count = 0;
    for (struct dirent *e; !error && (e = readdir(dir));) {
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) continue;
        if (*count == room && !(names = realloc(names, (room *= 2) * sizeof *names))) abort();
        struct name *n = names + *count;
        if (fstatat(dirfd(dir), e->d_name, &n->s, AT_SYMLINK_NOFOLLOW) < 0) {
            if (errno != ENOENT) error = errno; /* else it is gone meanwhile */
            continue;
        }
        if (!(n->text = strdup(e->d_name))) abort();
        ++*count;
        bytes += 40 + strlen(e->d_name) + (S_ISLNK(n->s.st_mode) ? (size_t)n->s.st_size : 0);
        if (bytes > DIRECTORY_BYTES) error = E2BIG;
    }
    if (error) {
        forget(names, *count);
        errno = error;
        return NULL;
    }
    qsort(names, *count, sizeof *names, by_bytes);
    return names;
}

static void put_stat(struct buffer *b, const struct stat *s) {
    uint32_t mode = s->st_mode;
    int64_t numbers[4] = {s->st_size, file_mtime(s), file_nanoseconds(s->st_ctim), (int64_t)s->st_ino};
    buffer_add(b, &mode, 4);
    buffer_add(b, numbers, sizeof numbers); /* both architectures are little-endian */
}

static void put_directory(int fd, const char *path, const struct name *names, size_t count, int error) {
    struct buffer record = {0};
    uint32_t head[2] = {(uint32_t)error, (uint32_t)strlen(path)};
    buffer_add(&record, head, sizeof head);
    buffer_add(&record, path, head[1]);
    for (size_t i = 0; i < count; i++) {
        char target[4096];
        const struct stat *s = &names[i].s;
        ssize_t n = S_ISLNK(s->st_mode) ? readlinkat(fd, names[i].text, target, sizeof target) : 0;
        uint16_t lengths[2] = {(uint16_t)strlen(names[i].text), n > 0 ? (uint16_t)n : 0};
        put_stat(&record, s);
        buffer_add(&record, lengths, sizeof lengths);
        buffer_add(&record, names[i].text, lengths[0]);
        buffer_add(&record, target, lengths[1]);
    }
    reply_bytes(file_out, TAG_NAME, record.at, record.len);
    buffer_free(&record);
    walk.told++;
}

static void walk_into(int fd, const char *path, const char *after);

static void walk_below(int fd, const char *path, const char *name, const char *after) {
    if (walk.more) return;
    if (walk.told && file_out->len - walk.begin > walk.page) {
        walk.more = true;
        return;
    }
    char *inner_path = *path ? file_join(path, name) : strdup(name);
    if (!inner_path) abort();
    int inner = file_open_dir(fd, name);
    if (inner >= 0) walk_into(inner, inner_path, after);
    else if (errno != ENOENT && errno != ENOTDIR && errno != ELOOP) put_directory(-1, inner_path, NULL, 0, errno);
    free(inner_path);
}

/* The record of the directory `fd`, which is closed, and of those in it. `after`: the relative path of the last
 * directory that was told, NULL: none of these was. */
static void walk_into(int fd, const char *path, const char *after) {
    DIR *dir = fdopendir(fd);
    if (!dir) {
        close(fd);
        return;
    }
    size_t count = 0, length = after ? strcspn(after, "/") : 0;
    const char *rest = after && after[length] ? after + length + 1 : "";
    struct name *names = names_of(dir, &count);
    if (!names) count = 0;
    if (!after) put_directory(fd, path, names, count, names ? 0 : errno);
    for (size_t i = 0; i < count && !walk.more && !file_client_gone(); i++) {
        if (!S_ISDIR(names[i].s.st_mode)) continue;
        int order = 1;
        if (after && *after) {
            order = strncmp(names[i].text, after, length);
            if (order == 0 && names[i].text[length]) order = 1;
        }
        if (order >= 0) walk_below(fd, path, names[i].text, order == 0 ? rest : NULL);
    }
    if (names) forget(names, count);
    closedir(dir);
}

void file_walk(const struct request *r, const char *path) {
    int64_t page = field_number(r, TAG_LIMIT, PAGE_BYTES), looked = file_clock();
    char *after = field_text(r, TAG_AFTER);
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        file_failed(r->id, path);
    } else {
        walk = (struct walk){reply_begin(file_out, STATUS_OK, r->id), 0, 0, false};
        walk.page = page < 0 ? 0 : page > (int64_t)PAGE_BYTES ? PAGE_BYTES : (size_t)page;
        walk_into(fd, "", after);
        reply_number(file_out, TAG_MTIME_NS, looked);
        reply_number(file_out, TAG_MORE, walk.more);
        reply_end(file_out, walk.begin);
    }
    free(after);
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
    put_stat(&record, &s);
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
    for (size_t done = 0; done < length;) {
        size_t part = length - done < HOLE ? length - done : HOLE;
        if (is_hole(at + done, part)) { /* zeros take no room */
            if (lseek(fd, (off_t)part, SEEK_CUR) < 0) return -1;
            done += part;
            continue;
        }
        ssize_t n = write(fd, at + done, part);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return -1;
        done += (size_t)n;
    }
    return ftruncate(fd, (off_t)length);
}

struct item { uint32_t mode; char *path; const uint8_t *data; size_t length; };

/* In a free place at once; in place of something, aside and then moved there. */
static int make_file(int root, const struct item *i, const char *aside) {
    bool there = false;
    int fd = openat(root, i->path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0 && errno == EEXIST) {
        there = true;
        unlinkat(root, aside, 0);
        fd = openat(root, aside, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    }
    if (fd < 0) return -1;
    int result = write_all(fd, i->data, i->length);
    if (result == 0) result = fchmod(fd, i->mode & 07777);
    if (result == 0 && there) {
        result = renameat(root, aside, root, i->path);
        if (result < 0 && errno == EISDIR && file_remove_at(root, i->path, false) == 0)
            result = renameat(root, aside, root, i->path);
    }
    int error = errno;
    close(fd);
    if (result < 0) unlinkat(root, there ? aside : i->path, 0);
    errno = error;
    return result;
}

static int make_directory(int root, const struct item *i) {
    struct stat s;
    if (mkdirat(root, i->path, 0700) < 0) {
        if (errno != EEXIST || fstatat(root, i->path, &s, AT_SYMLINK_NOFOLLOW) < 0) return -1;
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
    if (symlinkat(target, root, i->path) == 0) return 0;
    if (errno != EEXIST || file_remove_at(root, i->path, false) < 0) return -1;
    return symlinkat(target, root, i->path);
}

static int make(int root, const struct item *i, const char *aside) {
    switch (i->mode & S_IFMT) {
    case S_IFREG: return make_file(root, i, aside);
    case S_IFDIR: return make_directory(root, i);
    case S_IFLNK: return make_link(root, i);
    case 0: return file_remove_at(root, i->path, false);
    default: errno = EINVAL; return -1;
    }
}

/* u32 mode with the kind (0: take away what is there, a directory only when it is empty) | u16 length of the path | the path | content or target */
static bool parse(struct bytes v, struct item *i) {
    uint16_t length;
    if (v.len < 6) return false;
    memcpy(&i->mode, v.at, 4);
    memcpy(&length, v.at + 4, 2);
    if ((size_t)length + 6 > v.len) return false;
    i->path = text_of((struct bytes){v.at + 6, length});
    i->data = v.at + 6 + length;
    i->length = v.len - 6 - length;
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
        bool made = false;
        if (parse(v, &i)) {
            char *parent = file_parent(i.path), name[32];
            bool top = !strcmp(parent, i.path); /* a name without a directory */
            snprintf(name, sizeof name, ".tppd-%x.new", (unsigned)getpid());
            char *aside = top ? strdup(name) : file_join(parent, name);
            made = aside && make(root, &i, aside) == 0;
            int error = errno;
            free(aside);
            free(parent);
            errno = error;
        }
        if (!made) {
            uint32_t failure[2] = {number, (uint32_t)errno};
            reply_bytes(file_out, TAG_NAME, failure, sizeof failure);
        }
        free(i.path);
        number++;
    }
    reply_end(file_out, begin);
    close(root);
}
