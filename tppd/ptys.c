/* Terminals: a command whose three streams are one pseudo-terminal.
 *
 * Its output is journalled as any other. Beside the journal lies `marks`, what a recording needs and the bytes
 * do not say, a line each; OFFSET is that of the next byte of output, MS since the start:
 *
 *     o OFFSET MS             the byte at OFFSET came then (made when none was made for a while)
 *     r OFFSET MS COLS ROWS   the terminal got this size; the first line is its size at the start
 *     m OFFSET MS LABEL       somebody marked this place
 *
 * The more output marks there are, the farther they lie apart, so their file is bounded: 10 ms at first, twice
 * as much after each MARKS_A_STEP, at most 41 s. Marks are not made while the disk has no room for output.
 *
 * The program's side stays open here until the command has ended: a program that closes all it has may open its
 * terminal again later. The pseudo-terminal belongs to the sandbox user, who may open it by name. */
#include "tppd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#define MARKS_A_STEP 16384
#define MARK_US 10000
#define LABEL_MAX 200
#define SIDE_MAX 1000

#ifndef TIOCGPTPEER
#define TIOCGPTPEER 0x5441 /* _IO('T', 0x41), linux 4.13 */
#endif

static bool sane(int64_t rows, int64_t cols) { return rows > 0 && cols > 0 && rows <= SIDE_MAX && cols <= SIDE_MAX; }

int pty_size(const struct launch *what, const char **why) {
    if (!(what->flags & START_PTY) || sane(what->rows, what->cols)) return STATUS_OK;
    *why = "a terminal has 1 to 1000 rows and columns";
    return STATUS_INVALID;
}

static int size(int fd, int rows, int cols) {
    struct winsize w = {.ws_row = (unsigned short)rows, .ws_col = (unsigned short)cols};
    return ioctl(fd, TIOCSWINSZ, &w);
}

/* pair[0]: our side, pair[1]: the program's. */
int pty_open(struct exec *x, const struct launch *what, int pair[2]) {
    int unlocked = 0;
    uid_t uid = 0;
    gid_t gid = 0;
    (void)x;
    if (options.drop) gid = (gid_t)setfsgid(options.gid), uid = (uid_t)setfsuid(options.uid);
    pair[0] = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (options.drop) setfsuid(uid), setfsgid(gid);
    if (pair[0] < 0 || ioctl(pair[0], TIOCSPTLCK, &unlocked) < 0) return -1;
    pair[1] = ioctl(pair[0], TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    struct termios t;
    if (pair[1] < 0 || tcgetattr(pair[1], &t) < 0) return -1;
    t.c_iflag |= IUTF8; /* so that erasing takes back whole characters */
    if (tcsetattr(pair[1], TCSANOW, &t) < 0) return -1;
    return size(pair[0], what->rows, what->cols);
}

void pty_close(struct exec *x) {
    if (x->terminal >= 0) close(x->terminal);
    if (x->marks >= 0) close(x->marks);
    x->terminal = x->marks = -1;
}

static void mark(struct exec *x, const char *kind, uint64_t offset, const char *rest) {
    char line[LABEL_MAX + 96];
    int64_t ms = (now_us() - x->started_us) / 1000;
    int n = snprintf(line, sizeof line, "%s %llu %lld%s\n", kind, (unsigned long long)offset, (long long)ms, rest);
    if (x->marks < 0 || n >= (int)sizeof line || write(x->marks, line, (size_t)n) == n) return;
    close(x->marks); /* a full disk: half a line would be followed by another */
    x->marks = -1;
}

void pty_begin(struct exec *x, const struct launch *what) {
    char name[ID_MAX + 32], rest[32];
    snprintf(name, sizeof name, "output/%s", x->id);
    if (mkdirat(options.run_fd, name, 0700) < 0 && errno != EEXIST) return;
    snprintf(name, sizeof name, "output/%s/marks", x->id);
    x->marks = openat(options.run_fd, name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    snprintf(rest, sizeof rest, " %d %d", what->cols, what->rows);
    mark(x, "r", 0, rest);
}

void pty_output(struct exec *x, uint64_t offset) {
    int64_t now = now_us(), step = (int64_t)(x->mark_count / MARKS_A_STEP);
    if (x->mark_count && now - x->marked_us < MARK_US << (step < 12 ? step : 12)) return;
    x->marked_us = now;
    x->mark_count++;
    mark(x, "o", offset, "");
}

static bool no_terminal(struct exec *x, struct conn *c, const struct request *r) {
    if (x->flags & START_PTY) return false;
    reply_error(&c->out, STATUS_INVALID, r->id, 0, "%s has no terminal", x->id);
    return true;
}

/* Answered with the offset at which it took effect: what had been printed before is read first. */
void pty_resize(struct exec *x, struct conn *c, const struct request *r) {
    int64_t rows = field_number(r, TAG_ROWS, 0), cols = field_number(r, TAG_COLS, 0);
    char rest[32];
    if (no_terminal(x, c, r)) return;
    if (!sane(rows, cols)) {
        reply_error(&c->out, STATUS_INVALID, r->id, 0, "a terminal has 1 to %d rows and columns", SIDE_MAX);
        return;
    }
    stream_read(&x->out, 1024 * 1024);
    if (x->out.pipe < 0 || size(x->out.pipe, (int)rows, (int)cols) < 0) {
        reply_error(&c->out, STATUS_FINISHED, r->id, 0, "%s has ended", x->id);
        return;
    }
    snprintf(rest, sizeof rest, " %d %d", (int)cols, (int)rows);
    mark(x, "r", x->out.end, rest);
    size_t begin = reply_begin(&c->out, STATUS_OK, r->id);
    reply_number(&c->out, TAG_OUT_END, (int64_t)x->out.end);
    reply_end(&c->out, begin);
    exec_settle(x);
}

void pty_mark(struct exec *x, struct conn *c, const struct request *r) {
    struct bytes label = {NULL, 0};
    char text[LABEL_MAX + 2] = " ";
    if (no_terminal(x, c, r)) return;
    field(r, TAG_DATA, &label);
    size_t n = label.len < LABEL_MAX ? label.len : LABEL_MAX;
    for (size_t i = 0; i < n; i++) text[i + 1] = label.at[i] < 0x20 || label.at[i] == 0x7f ? ' ' : (char)label.at[i];
    text[n + 1] = 0;
    stream_read(&x->out, 1024 * 1024);
    mark(x, "m", x->out.end, text);
    size_t begin = reply_begin(&c->out, STATUS_OK, r->id);
    reply_number(&c->out, TAG_OUT_END, (int64_t)x->out.end);
    reply_end(&c->out, begin);
    exec_settle(x);
}
