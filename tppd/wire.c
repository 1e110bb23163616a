/* Frames and growing buffers. A frame that does not hold what it says is refused as a whole. */
#include "tppd.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void buffer_add(struct buffer *b, const void *data, size_t len) {
    if (b->len + len > b->cap) {
        size_t cap = b->cap ? b->cap : 256;
        while (cap < b->len + len) cap *= 2;
        uint8_t *at = realloc(b->at, cap);
        if (!at) abort(); /* process 1 without memory: the sandbox ends, its commands are lost */
        b->at = at;
        b->cap = cap;
    }
    if (len) memcpy(b->at + b->len, data, len);
    b->len += len;
}

void buffer_text(struct buffer *b, const char *format, ...) {
    char text[1024];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (n > 0) buffer_add(b, text, (size_t)n < sizeof text ? (size_t)n : sizeof text - 1);
}

void buffer_json(struct buffer *b, const char *text) {
    buffer_add(b, "\"", 1);
    for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
        if (*p == '"' || *p == '\\') buffer_text(b, "\\%c", *p);
        else if (*p < 0x20) buffer_text(b, "\\u%04x", *p);
        else if (*p >= 0x7f) buffer_add(b, "?", 1); /* it may not be UTF-8 */
        else buffer_add(b, p, 1);
    }
    buffer_add(b, "\"", 1);
}

void buffer_free(struct buffer *b) {
    free(b->at);
    *b = (struct buffer){0};
}

static uint32_t u32(const uint8_t *at) {
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static void put32(uint8_t *at, uint32_t v) {
    for (int i = 0; i < 4; i++) at[i] = (uint8_t)(v >> (8 * i));
}

bool field_next(const struct request *r, size_t *cursor, uint8_t *tag, struct bytes *value) {
    if (r->len - *cursor < 5) return false;
    const uint8_t *at = r->fields + *cursor;
    uint32_t len = u32(at + 1);
    if (r->len - *cursor - 5 < len) return false;
    *tag = at[0];
    *value = (struct bytes){at + 5, len};
    *cursor += 5 + (size_t)len;
    return true;
}

bool request_parse(const uint8_t *frame, size_t len, struct request *r) {
    if (len < 5) return false;
    *r = (struct request){frame[0], u32(frame + 1), frame + 5, len - 5};
    size_t cursor = 0;
    uint8_t tag;
    struct bytes value;
    while (field_next(r, &cursor, &tag, &value)) {}
    return cursor == r->len;
}

bool field(const struct request *r, uint8_t tag, struct bytes *value) {
    size_t cursor = 0;
    uint8_t t;
    while (field_next(r, &cursor, &t, value))
        if (t == tag) return true;
    return false;
}

int64_t field_number(const struct request *r, uint8_t tag, int64_t otherwise) {
    struct bytes v;
    if (!field(r, tag, &v) || v.len != 8) return otherwise;
    return (int64_t)((uint64_t)u32(v.at) | (uint64_t)u32(v.at + 4) << 32);
}

char *field_text(const struct request *r, uint8_t tag) {
    struct bytes v;
    if (!field(r, tag, &v) || memchr(v.at, 0, v.len)) return NULL;
    char *text = malloc(v.len + 1);
    if (!text) abort();
    memcpy(text, v.at, v.len);
    text[v.len] = 0;
    return text;
}

size_t reply_begin(struct buffer *b, uint8_t status, uint32_t id) {
    size_t begin = b->len;
    uint8_t head[9] = {0};
    head[4] = status;
    put32(head + 5, id);
    buffer_add(b, head, sizeof head);
    return begin;
}

void reply_bytes(struct buffer *b, uint8_t tag, const void *data, size_t len) {
    uint8_t head[5] = {tag};
    put32(head + 1, (uint32_t)len);
    buffer_add(b, head, sizeof head);
    buffer_add(b, data, len);
}

void reply_number(struct buffer *b, uint8_t tag, int64_t value) {
    uint8_t v[8];
    put32(v, (uint32_t)value);
    put32(v + 4, (uint32_t)((uint64_t)value >> 32));
    reply_bytes(b, tag, v, sizeof v);
}

void reply_end(struct buffer *b, size_t begin) {
    put32(b->at + begin, (uint32_t)(b->len - begin - 4));
}

void reply_error(struct buffer *b, uint8_t status, uint32_t id, int error, const char *format, ...) {
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    size_t begin = reply_begin(b, status, id);
    if (error) {
        reply_number(b, TAG_ERRNO, error);
        size_t used = strlen(text);
        snprintf(text + used, sizeof text - used, ": %s", strerror(error));
    }
    reply_bytes(b, TAG_DETAIL, text, strlen(text));
    reply_end(b, begin);
}
