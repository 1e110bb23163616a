/* What the files of file operations share. */
#ifndef FILEOPS_H
#define FILEOPS_H
#include "tppd.h"

#include <sys/stat.h>

/* Ours among the numbers of errno; no call used here returns them. */
#define UNMET ECANCELED      /* a condition of the request does not hold */
#define BUSY ETIMEDOUT       /* another file process kept the lock too long */
#define STAMP_MAX 72

/* ---- fileops.c ---- */
extern struct buffer *file_out;         /* where the replies of the request at hand go */
void file_ok(uint32_t id);
void file_failed(uint32_t id, const char *path); /* by errno */
int file_kind(mode_t mode);
int64_t file_nanoseconds(struct timespec t);
int64_t file_mtime(const struct stat *s);
int64_t file_clock(void);
void file_describe(const struct stat *s, int64_t looked);
char *file_join(const char *dir, const char *name);
char *file_parent(const char *path);
int file_make_parents(const char *path);
bool file_met(const struct request *r, const char *path, bool *exists);
bool file_locked(void);
void file_unlock(void);

/* ---- filewrites.c ---- */
void file_write(const struct request *r, const char *path);

/* ---- filetrees.c ---- */
int file_rename_new(const char *from, const char *to);
int file_open_dir(int dir, const char *name);
int file_remove_at(int dir, const char *name, bool recursive);
void file_listdir(const struct request *r, const char *path);
void file_listtree(const struct request *r, const char *path);
void file_rename(const struct request *r, const char *path);
void file_copy(const struct request *r, const char *path);
bool file_client_gone(void);

/* ---- filewalks.c ---- */
void file_walk(const struct request *r, const char *path);

/* ---- filebulk.c ---- */
void file_put_stat(struct buffer *b, const struct stat *s);
void file_read_files(const struct request *r, const char *path);
void file_write_files(const struct request *r, const char *path);

#endif
