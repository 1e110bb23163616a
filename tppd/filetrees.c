/* File operations on more than one name: listing, removing, moving, copying.
 *
 * No symlink is followed below the name that was given: every step opens a directory by its name under one
 * that is open. A listing of many pages is by key: entries come in the order of their bytes, a directory
 * before what is in it, and a page begins behind the last path of the one before, so what was there all the
 * time comes exactly once, whatever is made and removed meanwhile. Of a directory only the names that can
 * be on the page are kept in memory. Long work ends early when its client has gone. */
#include "fileops.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MAX_ENTRIES 100000
#define MAX_PAGE 1000
#define MAX_PAGE_BYTES (8u * 1024 * 1024)
#define CONNECTION 3 /* of a file process */
#define COPY_STEP (16 * 1024 * 1024)

#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE 1
#endif

bool file_client_gone(void) {
    char byte;
    if (recv(CONNECTION, &byte, 1, MSG_PEEK | MSG_DONTWAIT) != 0) return false;
    errno = ECONNABORTED;
    return true;
}

static bool is_dot(const char *name) { return !strcmp(name, ".") || !strcmp(name, ".."); }

int file_open_dir(int dir, const char *name) {
    return openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

/* ---- removing ---- */

int file_remove_at(int dir, const char *name, bool recursive) {
    if (unlinkat(dir, name, 0) == 0 || errno == ENOENT) return 0;
    if (errno != EISDIR && errno != EPERM) return -1;
    if (unlinkat(dir, name, AT_REMOVEDIR) == 0 || errno == ENOENT) return 0;
    if (!recursive || (errno != ENOTEMPTY && errno != EEXIST)) return -1;
    int fd = file_open_dir(dir, name);
    if (fd < 0 && errno == EACCES && fchmodat(dir, name, 0700, 0) == 0) fd = file_open_dir(dir, name);
    if (fd < 0) return -1;
    fchmod(fd, 0700); /* one's own directory without write permission */
    DIR *list = fdopendir(fd);
    if (!list) {
        close(fd);
        return -1;
    }
    int result = 0;
    for (struct dirent *e; result == 0 && (e = readdir(list));)
        if (!is_dot(e->d_name)) result = file_remove_at(fd, e->d_name, true);
    int error = errno;
    closedir(list);
    errno = error;
    if (result < 0) return -1;
    return unlinkat(dir, name, AT_REMOVEDIR) == 0 || errno == ENOENT ? 0 : -1;
}

/* ---- listing ---- */

void file_listdir(const struct request *r, const char *path) {
    DIR *dir = opendir(path);
    if (!dir) {
        file_failed(r->id, path);
        return;
    }
    struct buffer *out = file_out;
    size_t begin = reply_begin(out, STATUS_OK, r->id);
    int count = 0;
    struct stat s;
    for (struct dirent *e; (e = readdir(dir)) && count <= MAX_ENTRIES && out->len - begin < MAX_FRAME - 512;) {
        if (is_dot(e->d_name)) continue;
        if (fstatat(dirfd(dir), e->d_name, &s, AT_SYMLINK_NOFOLLOW) < 0) continue;
        uint8_t entry[21 + 256];
        int64_t size = s.st_size, mtime = file_mtime(&s);
        uint32_t mode = s.st_mode & 07777;
        size_t n = strlen(e->d_name);
        entry[0] = (uint8_t)file_kind(s.st_mode);
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

static struct page { size_t begin; int limit, count; bool more; } page;

static int by_bytes(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static void keep_first(char **names, size_t *count, size_t wanted) {
    qsort(names, *count, sizeof *names, by_bytes);
    for (; *count > wanted; --*count) free(names[*count - 1]);
}

/* The first `wanted` names of a directory behind `after`, in order; malloc'ed. NULL: errno. */
static char **names_of(DIR *dir, const char *after, size_t wanted, size_t *count) {
    char **names = malloc(2 * wanted * sizeof *names);
    if (!names) abort();
    *count = 0;
    size_t seen = 0;
    for (struct dirent *e; (e = readdir(dir));) {
        if (++seen % 4096 == 0 && file_client_gone()) break;
        if (is_dot(e->d_name) || (after && strcmp(e->d_name, after) <= 0)) continue;
        if (*count == 2 * wanted) keep_first(names, count, wanted);
        char *name = strdup(e->d_name);
        if (!name) abort();
        names[(*count)++] = name;
    }
    keep_first(names, count, wanted);
    return names;
}

static void put_entry(int dir, const char *name, const char *path, const struct stat *s, uint32_t error) {
    char target[4096];
    ssize_t n = S_ISLNK(s->st_mode) ? readlinkat(dir, name, target, sizeof target) : 0;
    uint32_t mode = s->st_mode & 07777, length = n > 0 ? (uint32_t)n : 0;
    int64_t size = s->st_size, mtime = file_mtime(s);
    uint8_t head[29];
    head[0] = (uint8_t)file_kind(s->st_mode);
    memcpy(head + 1, &size, 8);
    memcpy(head + 9, &mode, 4);
    memcpy(head + 13, &mtime, 8);
    memcpy(head + 21, &error, 4);
    memcpy(head + 25, &length, 4);
    struct buffer entry = {0};
    buffer_add(&entry, head, sizeof head);
    buffer_add(&entry, target, length);
    buffer_add(&entry, path, strlen(path));
    reply_bytes(file_out, TAG_NAME, entry.at, entry.len);
    buffer_free(&entry);
}

static char *below(const char *prefix, const char *name) {
    char *path = *prefix ? file_join(prefix, name) : strdup(name);
    if (!path) abort();
    return path;
}

/* The entries of the directory `fd`, which is closed, behind the relative path `after`. */
static void list_tree(int fd, const char *prefix, const char *after, int depth) {
    DIR *dir = fdopendir(fd);
    if (!dir) {
        close(fd);
        return;
    }
    char *first = after ? strdup(after) : NULL, *rest = first ? strchr(first, '/') : NULL;
    if (rest) *rest++ = 0;
    if (first && depth > 1) {
        char *path = below(prefix, first);
        int inner = file_open_dir(fd, first);
        if (inner >= 0) list_tree(inner, path, rest, depth - 1);
        free(path);
    }
    size_t count = 0;
    char **names = names_of(dir, first, (size_t)(page.limit - page.count) + 1, &count);
    for (size_t i = 0; i < count && !page.more; i++) {
        struct stat s;
        if (fstatat(fd, names[i], &s, AT_SYMLINK_NOFOLLOW) < 0) continue;
        if (page.count == page.limit || file_out->len - page.begin > MAX_PAGE_BYTES) {
            page.more = true;
            break;
        }
        char *path = below(prefix, names[i]);
        int inner = S_ISDIR(s.st_mode) && depth > 1 ? file_open_dir(fd, names[i]) : -1;
        put_entry(fd, names[i], path, &s, S_ISDIR(s.st_mode) && depth > 1 && inner < 0 ? (uint32_t)errno : 0);
        page.count++;
        if (inner >= 0) list_tree(inner, path, NULL, depth - 1);
        free(path);
    }
    for (size_t i = 0; i < count; i++) free(names[i]);
    free(names);
    free(first);
    closedir(dir);
}

void file_listtree(const struct request *r, const char *path) {
    int64_t limit = field_number(r, TAG_LIMIT, MAX_PAGE), depth = field_number(r, TAG_DEPTH, 1);
    char *after = field_text(r, TAG_AFTER);
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        file_failed(r->id, path);
    } else {
        page = (struct page){reply_begin(file_out, STATUS_OK, r->id), 0, 0, false};
        page.limit = limit < 1 ? 1 : limit > MAX_PAGE ? MAX_PAGE : (int)limit;
        list_tree(fd, "", after && *after ? after : NULL, depth < 1 ? 1 : depth > 4096 ? 4096 : (int)depth);
        reply_number(file_out, TAG_MORE, page.more);
        reply_end(file_out, page.begin);
    }
    free(after);
}

/* ---- moving ---- */

/* EEXIST when there is something at `to`; nothing is replaced. */
int file_rename_new(const char *from, const char *to) {
    return (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE);
}

static int move(const char *from, const char *to, bool overwrite) {
    return overwrite ? rename(from, to) : file_rename_new(from, to);
}

/* The other path of the request, absolute; NULL: answered with INVALID. */
static char *other_path(const struct request *r) {
    char *given = field_text(r, TAG_TARGET);
    char *path = given && *given ? file_join(options.home, given) : NULL;
    free(given);
    if (!path) reply_error(file_out, STATUS_INVALID, r->id, 0, "a second path is needed");
    return path;
}

/* The error, with the one of two paths that it is about. */
static void not_both(uint32_t id, const char *from, const char *to) {
    struct stat s;
    int error = errno;
    bool missing = lstat(from, &s) < 0;
    errno = error;
    file_failed(id, missing ? from : to);
}

void file_rename(const struct request *r, const char *path) {
    int64_t flags = field_number(r, TAG_FLAGS, 0);
    char *to = other_path(r);
    if (!to) return;
    if ((flags & FILE_PARENTS && file_make_parents(to) < 0) || move(path, to, flags & FILE_OVERWRITE) < 0)
        not_both(r->id, path, to);
    else
        file_ok(r->id);
    free(to);
}

/* ---- copying ---- */

static char trouble[256]; /* the entry that could not be copied */

static int copy_bytes(int from, int to) {
    static char piece[262144];
    for (bool by_kernel = true;;) {
        if (file_client_gone()) return -1;
        ssize_t n = by_kernel ? copy_file_range(from, NULL, to, NULL, COPY_STEP, 0) : read(from, piece, sizeof piece);
        if (by_kernel && n <= 0) { /* not between these two; or 0: files of /proc have no size and bytes */
            by_kernel = false;
            continue;
        }
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return (int)n;
        for (ssize_t done = 0; !by_kernel && done < n;) {
            ssize_t wrote = write(to, piece + done, (size_t)(n - done));
            if (wrote < 0 && errno != EINTR) return -1;
            if (wrote > 0) done += wrote;
        }
    }
}

static int copy_file(int from_dir, const char *from, int to_dir, const char *to) {
    struct stat s;
    int result = -1, in = openat(from_dir, from, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    int made = in < 0 ? -1 : openat(to_dir, to, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (made >= 0 && fstat(in, &s) == 0 && copy_bytes(in, made) == 0) result = fchmod(made, s.st_mode & 07777);
    int error = errno;
    if (in >= 0) close(in);
    if (made >= 0) close(made);
    errno = error;
    return result;
}

static int copy_at(int from_dir, const char *from, int to_dir, const char *to);

static int copy_dir(int from_dir, const char *from, int to_dir, const char *to, mode_t mode) {
    int in = file_open_dir(from_dir, from), made = -1, result = -1;
    if (in >= 0 && mkdirat(to_dir, to, 0700) == 0) made = file_open_dir(to_dir, to);
    DIR *list = made >= 0 ? fdopendir(in) : NULL;
    if (list) {
        result = 0;
        for (struct dirent *e; result == 0 && (e = readdir(list));)
            if (!is_dot(e->d_name)) result = copy_at(in, e->d_name, made, e->d_name);
        if (result == 0) result = fchmod(made, mode);
    }
    int error = errno;
    if (list) closedir(list);
    else if (in >= 0) close(in);
    if (made >= 0) close(made);
    errno = error;
    return result;
}

static int copy_at(int from_dir, const char *from, int to_dir, const char *to) {
    struct stat s;
    char target[4096];
    int result = -1;
    if (fstatat(from_dir, from, &s, AT_SYMLINK_NOFOLLOW) == 0) {
        if (S_ISREG(s.st_mode)) {
            result = copy_file(from_dir, from, to_dir, to);
        } else if (S_ISDIR(s.st_mode)) {
            result = copy_dir(from_dir, from, to_dir, to, s.st_mode & 07777);
        } else if (S_ISLNK(s.st_mode)) {
            ssize_t n = readlinkat(from_dir, from, target, sizeof target - 1);
            if (n >= 0) target[n] = 0, result = symlinkat(target, to_dir, to);
        } else if (S_ISFIFO(s.st_mode)) {
            result = mkfifoat(to_dir, to, s.st_mode & 07777);
        } else {
            errno = EOPNOTSUPP; /* a socket or a device */
        }
    }
    int error = errno;
    if (result < 0 && !*trouble) snprintf(trouble, sizeof trouble, "%s", from);
    errno = error;
    return result;
}

/* Whether `dir` is `s` or lies in it: a copy of a directory into itself has no end. */
static bool lies_in(const char *dir, const struct stat *s) {
    int fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    struct stat at = {0}, up;
    bool found = false;
    while (fd >= 0 && !found && fstat(fd, &up) == 0 && (up.st_ino != at.st_ino || up.st_dev != at.st_dev)) {
        at = up;
        found = at.st_ino == s->st_ino && at.st_dev == s->st_dev;
        int above = openat(fd, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);
        close(fd);
        fd = above;
    }
    if (fd >= 0) close(fd);
    return found;
}

static int copy(const char *path, const char *to, const char *parent, const char *aside, int64_t flags) {
    struct stat s, there;
    if (lstat(path, &s) < 0 || (flags & FILE_PARENTS && file_make_parents(to) < 0)) return -1;
    if (!(flags & FILE_OVERWRITE) && lstat(to, &there) == 0) errno = EEXIST; /* before the work, not behind it */
    else if (S_ISDIR(s.st_mode) && lies_in(parent, &s)) errno = EINVAL;
    else if (copy_at(AT_FDCWD, path, AT_FDCWD, aside) == 0) return move(aside, to, flags & FILE_OVERWRITE);
    return -1;
}

/* Made beside its place under another name and moved there as a whole. */
void file_copy(const struct request *r, const char *path) {
    char *to = other_path(r), name[64];
    if (!to) return;
    snprintf(name, sizeof name, ".tppd-%llx.new", (unsigned long long)field_number(r, TAG_WRITE_ID, 0));
    char *parent = file_parent(to), *aside = file_join(parent, name);
    *trouble = 0;
    if (copy(path, to, parent, aside, field_number(r, TAG_FLAGS, 0)) == 0) {
        file_ok(r->id);
    } else {
        int error = errno;
        file_remove_at(AT_FDCWD, aside, true);
        errno = error;
        if (*trouble) file_failed(r->id, trouble);
        else not_both(r->id, path, to);
    }
    free(aside);
    free(parent);
    free(to);
}
