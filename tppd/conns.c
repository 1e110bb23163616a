/* Connections of clients. Nothing here blocks: a client that sends half a frame or reads no replies
 * costs its own buffers, and is cut off when they are full. */
#include "tppd.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static struct conn *conns;
static int conn_count;

static void forget(struct conn *c) {
    for (struct conn **p = &conns; *p; p = &(*p)->next)
        if (*p == c) {
            *p = c->next;
            conn_count--;
            break;
        }
    execs_forget(c);
    unwatch(c->fd);
    c->dead = true;
    buffer_free(&c->in);
    buffer_free(&c->out);
    bury(c);
}

void conn_close(struct conn *c) {
    if (c->dead) return;
    forget(c);
    close(c->fd);
}

int conn_release(struct conn *c) {
    forget(c);
    return c->fd;
}

void conn_flush(struct conn *c) {
    if (c->dead) return;
    while (c->sent < c->out.len) {
        ssize_t n = send(c->fd, c->out.at + c->sent, c->out.len - c->sent, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0) {
            if (errno == EINTR) continue;
            if (errno == EAGAIN) break;
            conn_close(c);
            return;
        }
        c->sent += (size_t)n;
    }
    if (c->sent == c->out.len) {
        c->sent = c->out.len = 0;
        if (c->out.cap > 65536) buffer_free(&c->out);
    } else if (c->out.len - c->sent > MAX_OUT_QUEUE) {
        conn_close(c);
        return;
    }
    rewatch(c->fd, &c->handle, c->out.len ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

/* Hand each whole frame on; false when the connection is gone. */
static bool take_frames(struct conn *c) {
    size_t at = 0;
    while (c->in.len - at >= 4) {
        const uint8_t *p = c->in.at + at;
        uint32_t size = (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
        struct request r;
        if (size > MAX_FRAME) {
            conn_close(c);
            return false;
        }
        if (c->in.len - at - 4 < size) break;
        if (!request_parse(p + 4, size, &r)) {
            conn_close(c);
            return false;
        }
        request_handle(c, &r);
        if (c->dead) return false;
        at += 4 + (size_t)size;
    }
    if (at) {
        memmove(c->in.at, c->in.at + at, c->in.len - at);
        c->in.len -= at;
        if (!c->in.len && c->in.cap > 65536) buffer_free(&c->in);
    }
    return true;
}

static void conn_ready(struct handle *h, uint32_t events) {
    struct conn *c = (struct conn *)h;
    static uint8_t chunk[65536];
    if (c->dead) return;
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
        ssize_t n = recv(c->fd, chunk, sizeof chunk, MSG_DONTWAIT);
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
            conn_close(c);
            return;
        }
        if (n > 0) {
            buffer_add(&c->in, chunk, (size_t)n);
            if (!take_frames(c)) return;
        }
    }
    conn_flush(c);
}

#define PAUSE_MS 50
static struct { struct handle handle; int fd; int64_t again_ms; } listener;

/* The listener stays readable while a client waits: without a descriptor for it, it is not looked at for a
 * moment rather than always. */
static void pause_listening(void) {
    unwatch(listener.fd);
    listener.again_ms = now_ms() + PAUSE_MS;
}

int64_t conns_resume(int64_t now) {
    if (!listener.again_ms) return -1;
    if (now < listener.again_ms) return listener.again_ms - now;
    listener.again_ms = 0;
    watch(listener.fd, &listener.handle, EPOLLIN);
    return -1;
}

static void listener_ready(struct handle *h, uint32_t events) {
    (void)h, (void)events;
    int fd = accept4(listener.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0 && errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) pause_listening();
    if (fd < 0) return;
    if (conn_count >= MAX_CONNS) {
        close(fd);
        return;
    }
    struct conn *c = calloc(1, sizeof *c);
    if (!c) abort();
    c->handle.ready = conn_ready;
    c->fd = fd;
    c->next = conns;
    conns = c;
    conn_count++;
    watch(fd, &c->handle, EPOLLIN);
}

void conns_listen(int fd) {
    listener.handle.ready = listener_ready;
    listener.fd = fd;
    watch(fd, &listener.handle, EPOLLIN);
}
