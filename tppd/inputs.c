/* Standard input of commands, by offset: what was taken already is recognised, a hole is refused, and
 * no more than STDIN_QUEUE bytes wait for a program that does not read. */
#include "tppd.h"

#include <errno.h>
#include <stdlib.h>
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
    free(in->writers);
    in->writers = NULL;
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

/* How much was taken of what this writer typed: several people type into one terminal, each at offsets of his
 * own, so that none need know of the others to repeat what may be lost. NULL: not a terminal, or no id. */
static uint64_t *writer_of(struct exec *x, const struct request *r) {
    struct input *in = &x->in;
    struct bytes id;
    if (!(x->flags & START_PTY) || in->pipe < 0 || !field(r, TAG_WRITER, &id) || !id.len || id.len > ID_MAX) return NULL;
    if (!in->writers && !(in->writers = calloc(MAX_WRITERS, sizeof *in->writers))) abort();
    struct writer *oldest = in->writers;
    for (struct writer *w = in->writers; w < in->writers + MAX_WRITERS; w++) {
        if (strlen(w->id) == id.len && !memcmp(w->id, id.at, id.len)) {
            w->turn = ++in->turns;
            return &w->taken;
        }
        if (w->turn < oldest->turn) oldest = w;
    }
    *oldest = (struct writer){.turn = ++in->turns};
    memcpy(oldest->id, id.at, id.len);
    return &oldest->taken;
}

static void taken_is(struct conn *c, const struct request *r, uint64_t taken) {
    size_t begin = reply_begin(&c->out, STATUS_OK, r->id);
    reply_number(&c->out, TAG_OFFSET, (int64_t)taken);
    reply_end(&c->out, begin);
}

void exec_input(struct exec *x, struct conn *c, const struct request *r) {
    struct input *in = &x->in;
    uint64_t *writer = writer_of(x, r), *taken = writer ? writer : &in->taken;
    struct bytes data = {NULL, 0};
    field(r, TAG_DATA, &data);
    uint64_t offset = (uint64_t)field_number(r, TAG_OFFSET, 0);
    bool eof = field_number(r, TAG_FLAGS, 0) & 1;
    if (eof && x->flags & START_PTY) {
        reply_error(&c->out, STATUS_INVALID, r->id, 0, "a terminal's input has no end: type what its program takes for one");
        return;
    }
    if (x->flags & START_PTY && in->pipe < 0) {
        reply_error(&c->out, STATUS_FINISHED, r->id, 0, "%s has ended", x->id);
        return;
    }
    if (offset > *taken) {
        size_t begin = reply_begin(&c->out, STATUS_OFFSET, r->id);
        static const char text[] = "standard input was written beyond what was taken so far";
        reply_number(&c->out, TAG_OFFSET, (int64_t)*taken);
        reply_bytes(&c->out, TAG_DETAIL, text, sizeof text - 1);
        reply_end(&c->out, begin);
        return;
    }
    bool repeated = offset + data.len <= *taken && (!eof || in->eof);
    if (!repeated && (in->pipe < 0 || in->eof || !(x->flags & (START_STDIN | START_PTY)))) {
        reply_error(&c->out, STATUS_FINISHED, r->id, 0, "%s has ended or its standard input is closed", x->id);
        return;
    }
    if (!repeated) {
        size_t known = (size_t)(*taken - offset);
        size_t fresh = data.len > known ? data.len - known : 0;
        size_t room = in->queue.len < STDIN_QUEUE ? STDIN_QUEUE - in->queue.len : 0;
        if (fresh && !room && writer) {
            taken_is(c, r, *taken); /* comes again, and need not wait here for a program that does not read */
            return;
        }
        if (fresh && !room) {
            exec_wait(x, c, r->id, WAIT_STDIN, r, false); /* answered when there is room; sent again then */
            return;
        }
        size_t take = fresh < room ? fresh : room;
        if (take) buffer_add(&in->queue, data.at + known, take);
        *taken += take;
        in->eof = eof && take == fresh;
        uint64_t now = *taken; /* pumping may find that nobody reads, and then forgets who wrote */
        input_pump(in);
        taken_is(c, r, now);
        return;
    }
    taken_is(c, r, *taken);
}

void input_open(struct exec *x, int pipe) {
    x->in = (struct input){.handle = {input_ready}, .exec = x, .pipe = pipe};
    if (pipe < 0) return;
    fcntl(pipe, F_SETFL, O_NONBLOCK);
    watch(pipe, &x->in.handle, 0); /* EPOLLERR always comes: the reader is gone */
}
