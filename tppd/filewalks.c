/* WALK: what is in a whole tree, for whoever keeps versions of it, in one request.
 *
 * It tells each directory as one record, its entries by the bytes of their names, so that a directory in
 * which nothing changed gives the same bytes again. No symlink is followed. */
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
        file_put_stat(&record, s);
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
