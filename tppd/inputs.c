/* Standard input of commands, by offset: what was taken already is recognised, a hole is refused, and
 * no more than STDIN_QUEUE bytes wait for a program that does not read. */
#include "tppd.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

void input_close(struct input *in) {
    if (in->pipe < 0) return;
    unwatch(in->pipe);
    close(in->pipe);
    in->pipe = -1;
    buffer_free(&in->queue);
}

static void input_pump(struct input *in) {
    size_t done = 0;
    while (done < in->queue.len) {
        ssize_t n = write(in->pipe, in->queue.at + done, in->queue.len - done);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno == EAGAIN) break;
        if (n < 0) {
            input_close(in); /* nobody reads it any more */
            return;
        }
        done += (size_t)n;
    }
    memmove(in->queue.at, in->queue.at + done, in->queue.len - done);
    in->queue.len -= done;
    if (!in->queue.len && in->eof) input_close(in);
    else rewatch(in->pipe, &in->handle, in->queue.len ? EPOLLOUT : 0);
}

static void input_ready(struct handle *h, uint32_t events) {
    struct input *in = (struct input *)h;
    if (in->pipe < 0) return;
    if (events & EPOLLERR) input_close(in);
    else input_pump(in);
    exec_settle(in->exec);
}

void exec_input(struct exec *x, struct conn *c, const struct request *r) {
    struct input *in = &x->in;
    struct bytes data = {NULL, 0};
    field(r, TAG_DATA, &data);
    uint64_t offset = (uint64_t)field_number(r, TAG_OFFSET, 0);
    bool eof = field_number(r, TAG_FLAGS, 0) & 1;
    if (offset > in->taken) {
        size_t begin = reply_begin(&c->out, STATUS_OFFSET, r->id);
        static const char text[] = "standard input was written beyond what was taken so far";
        reply_number(&c->out, TAG_OFFSET, (int64_t)in->taken);
        reply_bytes(&c->out, TAG_DETAIL, text, sizeof text - 1);
        reply_end(&c->out, begin);
        return;
    }
    bool repeated = offset + data.len <= in->taken && (!eof || in->eof);
    if (!repeated && (in->pipe < 0 || in->eof || !(x->flags & START_STDIN))) {
        reply_error(&c->out, STATUS_FINISHED, r->id, 0, "%s has ended or its standard input is closed", x->id);
        return;
    }
    if (!repeated) {
        size_t known = (size_t)(in->taken - offset);
        size_t fresh = data.len > known ? data.len - known : 0;
        size_t room = in->queue.len < STDIN_QUEUE ? STDIN_QUEUE - in->queue.len : 0;
        if (fresh && !room) {
            exec_wait(x, c, r->id, WAIT_STDIN, r, false); /* answered when there is room; sent again then */
            return;
        }
        size_t take = fresh < room ? fresh : room;
        if (take) buffer_add(&in->queue, data.at + known, take);
        in->taken += take;
        in->eof = eof && take == fresh;
        input_pump(in);
    }
    size_t begin = reply_begin(&c->out, STATUS_OK, r->id);
    reply_number(&c->out, TAG_OFFSET, (int64_t)in->taken);
    reply_end(&c->out, begin);
}

void input_open(struct exec *x, int pipe) {
    x->in = (struct input){.handle = {input_ready}, .exec = x, .pipe = pipe};
    if (pipe < 0) return;
    fcntl(pipe, F_SETFL, O_NONBLOCK);
    watch(pipe, &x->in.handle, 0); /* EPOLLERR always comes: the reader is gone */
}
