/* CONNECT: a client's connection becomes the bytes of one to a port inside.
 *
 * Only 127.0.0.1 and ::1 of the sandbox's own network namespace are ever connected to, so nothing but a program
 * inside can be reached, whatever network the sandbox has. Each direction ends by itself (half-close) and holds
 * at most one piece that its reader has not taken: who does not read stops the other side and nobody else.
 * Both sides are watched edge-triggered: a side on which nothing is to be done says only once that it is gone. */
#include "tppd.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define PIECE 65536
#define TURN (4 * PIECE) /* bytes of one direction before others have their turn */

struct side {
    struct handle handle;
    struct relay *relay;
    struct side *other;
    int fd;
    uint32_t armed;
    bool ended, shut;    /* nothing more is read from it; nothing more is written to it */
    struct buffer out;   /* for it, not taken yet from `sent` on */
    size_t sent;
};
struct relay {
    struct side client, server;
    uint32_t id;
    int port, family;
    bool connecting, gone, dead;
};
static int relay_count;

static void relay_close(struct relay *r) {
    if (r->dead) return;
    r->dead = true;
    relay_count--;
    for (struct side *s = &r->client; s; s = s == &r->client ? &r->server : NULL) {
        if (s->fd >= 0) {
            unwatch(s->fd);
            close(s->fd);
        }
        buffer_free(&s->out);
    }
    bury(r);
}

/* Write what waits for it. What a side that is gone does not take is dropped. */
static void side_flush(struct side *s) {
    while (s->sent < s->out.len && !s->shut) {
        ssize_t n = send(s->fd, s->out.at + s->sent, s->out.len - s->sent, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno == EAGAIN) return;
        if (n < 0) s->shut = true;
        else s->sent += (size_t)n;
    }
    s->sent = s->out.len = 0;
    if (s->out.cap > 2 * PIECE) buffer_free(&s->out);
}

/* Read from it for the other side as long as that one takes it; true: there may be more at once. */
static bool side_read(struct side *s) {
    static uint8_t chunk[PIECE];
    size_t moved = 0;
    while (!s->ended && !s->other->shut && !s->other->out.len) {
        if (moved >= TURN) return true;
        ssize_t n = recv(s->fd, chunk, sizeof chunk, MSG_DONTWAIT);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno == EAGAIN) break;
        if (n <= 0) {
            s->ended = true;
            break;
        }
        moved += (size_t)n;
        buffer_add(&s->other->out, chunk, (size_t)n);
        side_flush(s->other);
    }
    return false;
}

static void side_arm(struct side *s, bool again) {
    bool read = !s->ended && !s->other->shut && !s->other->out.len && !s->relay->connecting;
    bool write = s->out.len || (s->relay->connecting && s == &s->relay->server);
    uint32_t wanted = EPOLLET | (read ? EPOLLIN : 0) | (write ? EPOLLOUT : 0);
    if (wanted == s->armed && !again) return;
    s->armed = wanted;
    rewatch(s->fd, &s->handle, wanted);
}

static void relay_go_on(struct relay *r) {
    bool more[2];
    for (int i = 0; i < 2; i++) {
        struct side *s = i ? &r->server : &r->client;
        side_flush(s);
        more[i] = side_read(s);
    }
    for (int i = 0; i < 2; i++) {
        struct side *s = i ? &r->server : &r->client;
        if (s->other->ended && !s->out.len && !s->shut) {
            s->shut = true;
            shutdown(s->fd, SHUT_WR);
        }
    }
    if (r->gone || (r->client.shut && r->server.shut)) {
        relay_close(r);
        return;
    }
    side_arm(&r->client, more[0]);
    side_arm(&r->server, more[1]);
}

/* The last word to the client, which is told why there is no connection. */
static void relay_refuse(struct relay *r, uint8_t status, int error, const char *why) {
    reply_error(&r->client.out, status, r->id, error, "port %d: %s", r->port, why);
    side_flush(&r->client);
    relay_close(r);
}

static int dial(int family, int port) {
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port),
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port),
                               .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    const void *name = family == AF_INET ? (const void *)&four : (const void *)&six;
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), one = 1;
    if (fd < 0) return -1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(fd, name, family == AF_INET ? sizeof four : sizeof six) == 0 || errno == EINPROGRESS) return fd;
    int error = errno;
    close(fd);
    errno = error;
    return -1;
}

/* A port from which connections go out can be met by its own caller, where nobody listens. */
static bool is_itself(int fd) {
    struct sockaddr_storage mine = {0}, theirs = {0};
    socklen_t a = sizeof mine, b = sizeof theirs;
    return getsockname(fd, (struct sockaddr *)&mine, &a) == 0 && getpeername(fd, (struct sockaddr *)&theirs, &b) == 0 &&
           a == b && !memcmp(&mine, &theirs, a);
}

static void server_ready(struct handle *h, uint32_t events);

/* Try 127.0.0.1, then ::1. */
static void relay_dial(struct relay *r, int error) {
    while (r->server.fd < 0 && r->family != AF_INET6) {
        r->family = r->family == AF_UNSPEC ? AF_INET : AF_INET6;
        r->server.fd = dial(r->family, r->port);
        if (r->server.fd < 0 && !error) error = errno;
    }
    if (r->server.fd >= 0) {
        r->server.armed = EPOLLET | EPOLLOUT;
        watch(r->server.fd, &r->server.handle, r->server.armed);
    } else if (error == ECONNREFUSED) {
        relay_refuse(r, STATUS_NOT_FOUND, 0, "nobody listens there");
    } else {
        relay_refuse(r, STATUS_OVERLOADED, error, strerror(error));
    }
}

static void server_ready(struct handle *h, uint32_t events) {
    struct relay *r = ((struct side *)h)->relay;
    if (r->dead) return;
    if (!r->connecting) {
        relay_go_on(r);
        return;
    }
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(r->server.fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (!error && !(events & (EPOLLOUT | EPOLLERR | EPOLLHUP))) return;
    if (!error && is_itself(r->server.fd)) error = ECONNREFUSED;
    if (error) {
        unwatch(r->server.fd);
        close(r->server.fd);
        r->server.fd = -1;
        relay_dial(r, error);
        return;
    }
    r->connecting = false;
    reply_end(&r->client.out, reply_begin(&r->client.out, STATUS_OK, r->id));
    relay_go_on(r);
}

/* Gone for good: what it had said is passed on as far as it is taken at once. After both ends were shut the
 * kernel says the same of one that is still there. */
static void client_ready(struct handle *h, uint32_t events) {
    struct relay *r = ((struct side *)h)->relay;
    if (r->dead) return;
    if ((events & (EPOLLHUP | EPOLLERR)) && !r->client.shut) r->gone = true;
    if (!r->connecting) relay_go_on(r);
    else if (r->gone) relay_close(r);
}

void relay_begin(struct conn *c, const struct request *q) {
    int64_t port = field_number(q, TAG_PORT, 0);
    if (port < 1 || port > 65535) {
        reply_error(&c->out, STATUS_INVALID, q->id, 0, "a port is a number from 1 to 65535");
        return;
    }
    if (port_is_hidden((int)port)) {
        reply_error(&c->out, STATUS_NOT_FOUND, q->id, 0, "port %lld: nobody listens there", (long long)port);
        return;
    }
    if (relay_count >= MAX_RELAYS) {
        reply_error(&c->out, STATUS_OVERLOADED, q->id, 0, "%d connections to ports are open", MAX_RELAYS);
        return;
    }
    struct relay *r = calloc(1, sizeof *r);
    if (!r) abort();
    r->client = (struct side){.handle.ready = client_ready, .relay = r, .other = &r->server, .armed = EPOLLET};
    r->server = (struct side){.handle.ready = server_ready, .relay = r, .other = &r->client, .fd = -1};
    r->id = q->id;
    r->port = (int)port;
    r->connecting = true;
    relay_count++;
    r->client.fd = conn_release(c);
    watch(r->client.fd, &r->client.handle, EPOLLET);
    relay_dial(r, 0);
}
