/* File operations. One process per file connection, forked from tppd, that first takes exactly the rights to
 * files that a command has (its user and group, no capability, same filter) and then serves its client in order, blocking as it
 * likes: a slow disk or an endless directory holds up nobody else, and no path, whatever symlinks it
 * goes through, can name anything that a command could not open itself. */
#include "tppd.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static pid_t workers[MAX_WORKERS];
static struct buffer out;

bool files_is_worker(pid_t pid) {
    for (int i = 0; i < MAX_WORKERS; i++)
        if (workers[i] == pid) return true;
    return false;
}

bool files_reaped(pid_t pid) {
    for (int i = 0; i < MAX_WORKERS; i++)
        if (workers[i] == pid) {
            workers[i] = 0;
            return true;
        }
    return false;
}

/* ---- the process ---- */

static bool send_all(int fd) {
    for (size_t done = 0; done < out.len;) {
        ssize_t n = send(fd, out.at + done, out.len - done, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        done += (size_t)n;
    }
    out.len = 0;
    return true;
}

/* Answers are gathered while more requests lie ready, so thousands of small ones cost few switches. */
static void serve(int fd) {
    struct buffer in = {0};
    static uint8_t chunk[262144];
    for (size_t at = 0;;) {
        uint32_t size = 0;
        if (in.len - at >= 4) memcpy(&size, in.at + at, 4);
        if (in.len - at >= 4 && size > MAX_FRAME) return;
        if (in.len - at >= 4 && in.len - at - 4 >= size) {
            struct request r;
            if (!request_parse(in.at + at + 4, size, &r)) return;
            file_serve(&out, &r);
            at += 4 + (size_t)size;
            if (out.len > 262144 && !send_all(fd)) return;
            continue;
        }
        if (at) memmove(in.at, in.at + at, in.len - at);
        in.len -= at;
        at = 0;
        if (!send_all(fd)) return;
        ssize_t n = recv(fd, chunk, sizeof chunk, 0);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return;
        buffer_add(&in, chunk, (size_t)n);
    }
}

static _Noreturn void work(int conn, uint32_t id) {
    const char *step = "";
    int fd = fcntl(conn, F_DUPFD_CLOEXEC, 100), null = open("/dev/null", O_RDWR);
    for (int i = 0; i < 3; i++) dup2(null, i);
    dup2(fd, 3);
    close_from(4);
    fcntl(3, F_SETFL, 0);
    prctl(PR_SET_NAME, "tppd-files");
    for (int signo = 1; signo < 32; signo++) signal(signo, SIG_DFL);
    signal(SIGXFSZ, SIG_IGN);
    if (drop_to_files(&step) < 0) {
        reply_error(&out, STATUS_INTERNAL, id, errno, "the file process could not %s", step);
        send_all(3);
        _exit(1);
    }
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0); /* changing the user has set it again */
    umask(022);
    reply_end(&out, reply_begin(&out, STATUS_OK, id));
    serve(3);
    file_abandon_all();
    _exit(0);
}

void files_take(struct conn *c, uint32_t id) {
    int slot = 0;
    while (slot < MAX_WORKERS && workers[slot]) slot++;
    if (slot == MAX_WORKERS) {
        reply_error(&c->out, STATUS_OVERLOADED, id, 0, "%d file connections are open", MAX_WORKERS);
        return;
    }
    pid_t pid = fork();
    if (pid == 0) work(c->fd, id);
    if (pid < 0) {
        reply_error(&c->out, STATUS_OVERLOADED, id, errno, "no process for a file connection");
        return;
    }
    workers[slot] = pid;
    close(conn_release(c));
}
