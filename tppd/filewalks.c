/* WALK: what is in a whole tree, for whoever keeps versions of it, in one request.
 *
 * It tells each directory as one record, its entries by the bytes of their names, so that a directory in
 * which nothing changed gives the same bytes again. No symlink is followed.
 *
 * What it costs is a call of the kernel per entry, so a second thread looks into directories ahead of the one that
 * tells them: those that lie beside the one at hand, some of them, each of which keeps its record until its turn
 * comes. Where no thread can be had it goes without. */
#include "fileops.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PAGE_BYTES (4u * 1024 * 1024)   /* of records, then a page ends */
#define DIRECTORY_BYTES (8u * 1024 * 1024) /* of one record: what has more is told as too large */
#define AHEAD 64            /* directories that the second thread has open */
#define AHEAD_BYTES (16u * 1024 * 1024)

/* ---- one directory ---- */

enum state { WAITING, TAKEN, LOOKED_INTO };

/* A directory within one that was looked into. fd -1: it could not be opened; `error`: why there are no entries. */
struct folder {
    char *name;
    enum state state;
    bool ahead; /* the second thread has looked into it */
    int fd, error;
    struct buffer entries; /* as its record has them */
    char **inner;
    size_t inner_count;
};

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

static void put_entry(struct folder *f, const struct name *n) {
    char target[4096];
    ssize_t size = S_ISLNK(n->s.st_mode) ? readlinkat(f->fd, n->text, target, sizeof target) : 0;
    uint16_t lengths[2] = {(uint16_t)strlen(n->text), size > 0 ? (uint16_t)size : 0};
    file_put_stat(&f->entries, &n->s);
    buffer_add(&f->entries, lengths, sizeof lengths);
    buffer_add(&f->entries, n->text, lengths[0]);
    buffer_add(&f->entries, target, lengths[1]);
}

/* Fill in what is in the directory `fd`, which becomes the folder's. */
static void look_into(struct folder *f, int fd) {
    size_t count = 0;
    struct name *names = NULL;
    int listed = fd < 0 ? -1 : dup(fd);
    DIR *dir = listed < 0 ? NULL : fdopendir(listed);
    f->fd = fd;
    if (!dir || !(names = names_of(dir, &count))) f->error = errno;
    if (!dir && listed >= 0) close(listed);
    for (size_t i = 0; names && i < count; i++) f->inner_count += S_ISDIR(names[i].s.st_mode);
    if (f->inner_count && !(f->inner = malloc(f->inner_count * sizeof *f->inner))) abort();
    size_t inner = 0;
    for (size_t i = 0; names && i < count; i++) {
        put_entry(f, names + i);
        if (!S_ISDIR(names[i].s.st_mode)) continue;
        f->inner[inner++] = names[i].text;
        names[i].text = NULL;
    }
    if (names) forget(names, count);
    if (dir) closedir(dir);
}

static void close_folder(struct folder *f) {
    if (f->fd >= 0) close(f->fd);
    for (size_t i = 0; i < f->inner_count; i++) free(f->inner[i]);
    free(f->inner);
    buffer_free(&f->entries);
    *f = (struct folder){.fd = -1, .state = LOOKED_INTO};
}

/* ---- two threads ---- */

/* The directories within the one at hand; `outer`: within the one that it lies in. */
struct level { struct folder *folders; size_t count, next; int fd; struct level *outer; };

static struct {
    size_t begin, page, told;
    bool more;
    pthread_mutex_t lock; /* of all below, and of each folder's state */
    pthread_cond_t changed;
    struct level *innermost;
    size_t ahead, ahead_bytes;
    bool helped, over;
    pthread_t helper;
} walk = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static struct folder *next_ahead(struct level **level) {
    if (walk.ahead >= AHEAD || walk.ahead_bytes > AHEAD_BYTES) return NULL;
    for (struct level *l = *level = walk.innermost; l; l = *level = l->outer)
        for (; l->next < l->count; l->next++)
            if (l->folders[l->next].state == WAITING) return l->folders + l->next;
    return NULL;
}

/* Look into the next directory whose turn comes later, or wait for something to change. Holds the lock. */
static void look_ahead(void) {
    struct level *level;
    struct folder *f = next_ahead(&level);
    if (!f) {
        pthread_cond_wait(&walk.changed, &walk.lock);
        return;
    }
    f->state = TAKEN;
    walk.ahead++;
    pthread_mutex_unlock(&walk.lock);
    look_into(f, file_open_dir(level->fd, f->name));
    pthread_mutex_lock(&walk.lock);
    f->state = LOOKED_INTO;
    f->ahead = true;
    walk.ahead_bytes += f->entries.len;
    pthread_cond_broadcast(&walk.changed);
}

static void *help(void *unused) {
    pthread_mutex_lock(&walk.lock);
    while (!walk.over) look_ahead();
    pthread_mutex_unlock(&walk.lock);
    return unused;
}

static void enter(struct level *level) {
    pthread_mutex_lock(&walk.lock);
    level->outer = walk.innermost;
    walk.innermost = level;
    if (level->count > 1 && !walk.helped) walk.helped = pthread_create(&walk.helper, NULL, help, NULL) == 0;
    pthread_cond_broadcast(&walk.changed);
    pthread_mutex_unlock(&walk.lock);
}

/* Look into the folder, unless the other thread has begun: then into others until that has ended. */
static void need(struct level *level, struct folder *f) {
    pthread_mutex_lock(&walk.lock);
    bool mine = f->state == WAITING;
    if (mine) f->state = TAKEN;
    while (!mine && f->state != LOOKED_INTO) look_ahead();
    pthread_mutex_unlock(&walk.lock);
    if (mine) look_into(f, file_open_dir(level->fd, f->name));
}

static void done_with(struct folder *f) {
    pthread_mutex_lock(&walk.lock);
    f->state = LOOKED_INTO;
    if (f->ahead) {
        walk.ahead--;
        walk.ahead_bytes -= f->entries.len;
        pthread_cond_broadcast(&walk.changed);
    }
    pthread_mutex_unlock(&walk.lock);
    free(f->name);
    close_folder(f);
}

/* Nobody looks into what is left of it any more. */
static void leave(struct level *level) {
    pthread_mutex_lock(&walk.lock);
    walk.innermost = level->outer;
    for (size_t i = 0; i < level->count; i++) {
        if (level->folders[i].state == WAITING) level->folders[i].state = LOOKED_INTO;
        while (level->folders[i].state != LOOKED_INTO) pthread_cond_wait(&walk.changed, &walk.lock);
    }
    pthread_mutex_unlock(&walk.lock);
    for (size_t i = 0; i < level->count; i++) done_with(level->folders + i);
    free(level->folders);
}

/* ---- the tree ---- */

static void put_directory(const char *path, const struct folder *f) {
    uint32_t head[2] = {(uint32_t)f->error, (uint32_t)strlen(path)};
    uint32_t length = (uint32_t)(sizeof head + head[1] + f->entries.len);
    uint8_t tag = TAG_NAME;
    buffer_add(file_out, &tag, 1);
    buffer_add(file_out, &length, 4);
    buffer_add(file_out, head, sizeof head);
    buffer_add(file_out, path, head[1]);
    buffer_add(file_out, f->entries.at, f->entries.len);
    walk.told++;
}

/* Where a directory stands to the last one that was told, whose path goes on within it: behind it 1, it is the one
 * 0, it was told -1. */
static int order_of(const char *name, const char *after, size_t length) {
    if (!after || !*after) return 1;
    int order = strncmp(name, after, length);
    return order == 0 && name[length] ? 1 : order;
}

static void tell(struct folder *f, const char *path, const char *after);

static void tell_inner(struct level *level, struct folder *f, const char *path, const char *after) {
    if (walk.told && file_out->len - walk.begin > walk.page) {
        walk.more = true;
        return;
    }
    need(level, f);
    char *whole = *path ? file_join(path, f->name) : strdup(f->name);
    if (!whole) abort();
    if (f->fd >= 0) tell(f, whole, after);
    else if (f->error != ENOENT && f->error != ENOTDIR && f->error != ELOOP) put_directory(whole, f);
    free(whole);
    done_with(f);
    f->name = NULL;
}

/* The record of a directory, and of those in it. `after`: the relative path of the last directory that was told,
 * NULL: none of these was. */
static void tell(struct folder *f, const char *path, const char *after) {
    size_t length = after ? strcspn(after, "/") : 0;
    const char *rest = after && after[length] ? after + length + 1 : "";
    struct level level = {calloc(f->inner_count + 1, sizeof *level.folders), 0, 0, f->fd, NULL};
    if (!level.folders) abort();
    if (!after) put_directory(path, f);
    bool begun = false; /* the first one was told already, or in part */
    for (size_t i = 0; i < f->inner_count; i++) {
        int order = order_of(f->inner[i], after, length);
        if (order < 0) continue;
        if (order == 0) begun = true;
        level.folders[level.count++] = (struct folder){.name = f->inner[i], .fd = -1};
        f->inner[i] = NULL;
    }
    enter(&level);
    for (size_t i = 0; i < level.count && !walk.more && !file_client_gone(); i++)
        tell_inner(&level, level.folders + i, path, i == 0 && begun ? rest : NULL);
    leave(&level);
}

void file_walk(const struct request *r, const char *path) {
    int64_t page = field_number(r, TAG_LIMIT, PAGE_BYTES), looked = file_clock();
    char *after = field_text(r, TAG_AFTER);
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        file_failed(r->id, path);
        free(after);
        return;
    }
    struct folder top = {.fd = -1};
    walk.begin = reply_begin(file_out, STATUS_OK, r->id);
    walk.page = page < 0 ? 0 : page > (int64_t)PAGE_BYTES ? PAGE_BYTES : (size_t)page;
    walk.told = 0;
    walk.more = walk.helped = walk.over = false;
    look_into(&top, fd);
    tell(&top, "", after);
    close_folder(&top);
    pthread_mutex_lock(&walk.lock);
    walk.over = true;
    pthread_cond_broadcast(&walk.changed);
    pthread_mutex_unlock(&walk.lock);
    if (walk.helped) pthread_join(walk.helper, NULL);
    reply_number(file_out, TAG_MTIME_NS, looked);
    reply_number(file_out, TAG_MORE, walk.more);
    reply_end(file_out, walk.begin);
    free(after);
}
