/* The way out of a sandbox that has no network: a TCP socket that listens on its loopback and is accepted from
 * on the host. tppd makes it, in the sandbox's own network namespace, keeps it, and hands a copy of it to
 * whoever asks over the control socket: the egress proxy, which lets out what the sandbox's policy allows. No
 * byte passes through here, so nothing here can be full, slow or blocked. While no proxy runs, what connects
 * waits in the socket's queue: nothing else ever takes it. */
#include "tppd.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BACKLOG 256

static int listener = -1, listens_on;

static void stop_listening(void) {
    if (listener < 0) return;
    shutdown(listener, SHUT_RDWR); /* ends the listening for every holder of a copy, also one that sleeps */
    close(listener);
    listener = -1;
    port_show(listens_on);
}

static int listen_on(int port) {
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), yes = 1;
    if (fd < 0) return -1;
    name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes); /* connections of before may linger */
    if (bind(fd, (struct sockaddr *)&name, sizeof name) == 0 && listen(fd, BACKLOG) == 0) return fd;
    int error = errno;
    close(fd);
    errno = error;
    return -1;
}

/* The answer and the descriptor are one message, so they go past the queue: it must be empty. */
static bool hand_over(struct conn *c, uint32_t id) {
    struct buffer out = {0};
    char control[CMSG_SPACE(sizeof(int))] = {0};
    if (c->out.len) {
        errno = EAGAIN;
        return false;
    }
    size_t begin = reply_begin(&out, STATUS_OK, id);
    reply_number(&out, TAG_PORT, listens_on);
    reply_end(&out, begin);
    struct iovec part = {.iov_base = out.at, .iov_len = out.len};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control,
                             .msg_controllen = sizeof control};
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(head), &listener, sizeof listener);
    ssize_t sent = sendmsg(c->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent > 0 && (size_t)sent < out.len) buffer_add(&c->out, out.at + sent, out.len - (size_t)sent);
    buffer_free(&out);
    return sent > 0;
}

void egress_open(struct conn *c, const struct request *r) {
    int64_t port = field_number(r, TAG_PORT, 0);
    if (port < 1024 || port > 65535) {
        reply_error(&c->out, STATUS_INVALID, r->id, 0, "PORT is not between 1024 and 65535");
        return;
    }
    if (listener >= 0 && listens_on != port) stop_listening();
    if (listener < 0) {
        listener = listen_on((int)port);
        listens_on = (int)port;
        if (listener >= 0) port_hide(listener); /* it is no program's */
    }
    if (listener < 0)
        reply_error(&c->out, errno == EADDRINUSE ? STATUS_CONFLICT : STATUS_INTERNAL, r->id, errno,
                    "port %d of the sandbox's loopback cannot be listened on", (int)port);
    else if (!hand_over(c, r->id))
        reply_error(&c->out, STATUS_OVERLOADED, r->id, errno, "the socket could not be handed over");
}

void egress_close(struct conn *c, uint32_t id) {
    stop_listening();
    reply_end(&c->out, reply_begin(&c->out, STATUS_OK, id));
}
