/* A provider for the bench over HTTP/1.1, one thread, epoll, loopback only: OpenAI's chat completions
 * at /chat/completions, Anthropic's streamed messages at /messages.
 *
 * usage: mock SECONDS [polls]
 *
 * Prints "port N" and serves until SECONDS have passed, its parent has gone or it is killed.
 * It `polls` as load.c does.
 * It keeps no state between requests: what a request wants stands in its text, so that it comes
 * through any gateway:
 *     bench:n=ID,chunks=COUNT,rate=PER_SECOND,fault=NAME,padding=BYTES,answer=BYTES
 * ID comes back in the answer's id. Each chunk of a stream carries its number, ID and the time (us of
 * CLOCK_MONOTONIC) at which it was sent, so that the other end notices an answer that was lost, cut,
 * reordered or mixed up with another, and knows how long a chunk was under way. rate=0 sends as fast
 * as the reader takes; otherwise the first chunk leaves at once and the others at even distances,
 * each stream at a phase of its own, so that chunks travel alone; a reader that falls behind by more
 * than MOST_BEHIND gets no more until it has caught up. A request with `padding` has to hold so many
 * letters of pattern.h, or it is answered 500; a plain answer has `answer` of them.
 * The faults exist to prove that the load generator sees them.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "pattern.h"

#define MAX_REQUEST (4u << 20)
#define BATCH (64u << 10)
#define READ (256u << 10)
#define MOST_BEHIND (256u << 10)
#define ID_DIGITS 10
#define NUMBER_DIGITS 8
#define STAMP_DIGITS 13
#define SECOND 1000000000ull

/* What the digits of the id replace, and those of a chunk's number, id and time. */
#define ID "0000000000"
#define NUMBER "00000000"
#define TEXT NUMBER " " ID " 0000000000000"

#define CHUNK_HEAD                                                                                 \
    "data: {\"id\":\"chatcmpl-" ID "\",\"object\":\"chat.completion.chunk\",\"created\":1760000000," \
    "\"model\":\"bench\",\"system_fingerprint\":\"fp_bench\","
#define FIRST_EVENT                                                                                \
    CHUNK_HEAD "\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"" TEXT     \
               "\"},\"logprobs\":null,\"finish_reason\":null}],\"usage\":null}\n\n"
#define NEXT_EVENT                                                                                 \
    CHUNK_HEAD "\"choices\":[{\"index\":0,\"delta\":{\"content\":\"" TEXT                            \
               "\"},\"logprobs\":null,\"finish_reason\":null}],\"usage\":null,"        \
               "\"obfuscation\":\"q8Zl0vT3\"}\n\n"
#define FINISH_EVENT                                                                               \
    CHUNK_HEAD "\"choices\":[{\"index\":0,\"delta\":{},\"logprobs\":null,"                           \
               "\"finish_reason\":\"stop\"}],\"usage\":null}\n\n"
#define USAGE_EVENT                                                                                \
    CHUNK_HEAD "\"choices\":[],\"usage\":{\"prompt_tokens\":24,\"completion_tokens\":64,"            \
               "\"total_tokens\":88,\"prompt_tokens_details\":{\"cached_tokens\":0}}}\n\n"
#define DONE_EVENT "data: [DONE]\n\n"

#define NEXT_MESSAGE_EVENT                                                                         \
    "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,"              \
    "\"delta\":{\"type\":\"text_delta\",\"text\":\"" TEXT "\"}}\n\n"
#define FIRST_MESSAGE_EVENT                                                                        \
    "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_" ID "\","    \
    "\"type\":\"message\",\"role\":\"assistant\",\"model\":\"bench\",\"content\":[],"                  \
    "\"stop_reason\":null,\"stop_sequence\":null,\"usage\":{\"input_tokens\":24,"                    \
    "\"output_tokens\":1}}}\n\nevent: content_block_start\ndata: {\"type\":\"content_block_start\","  \
    "\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n" NEXT_MESSAGE_EVENT
#define FINISH_MESSAGE_EVENT                                                                       \
    "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n"
#define USAGE_MESSAGE_EVENT                                                                        \
    "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":"           \
    "\"end_turn\",\"stop_sequence\":null},\"usage\":{\"output_tokens\":64}}\n\n"
#define DONE_MESSAGE_EVENT "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"

#define ANSWER_HEAD                                                                                \
    "{\"id\":\"chatcmpl-" ID "\",\"object\":\"chat.completion\",\"created\":1760000000,"             \
    "\"model\":\"bench\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\""
#define ANSWER_TEXT                                                                                \
    "A benchmark answers one question: what does this step cost, next to the same step without "   \
    "it? Everything else on this page is there to keep that answer honest."
#define ANSWER_TAIL                                                                                \
    "\",\"refusal\":null},\"logprobs\":null,\"finish_reason\":\"stop\"}],"                            \
    "\"usage\":{\"prompt_tokens\":24,\"completion_tokens\":31,\"total_tokens\":55,"                  \
    "\"prompt_tokens_details\":{\"cached_tokens\":0}},\"system_fingerprint\":\"fp_bench\"}"
#define MODELS "{\"object\":\"list\",\"data\":[{\"id\":\"bench\",\"object\":\"model\"}]}"
#define FAILURE "{\"error\":{\"message\":\"asked for\",\"type\":\"server_error\",\"code\":null}}"

#define STREAM_HEAD                                                                                \
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"                         \
    "cache-control: no-cache\r\nx-request-id: req_bench\r\ntransfer-encoding: chunked\r\n\r\n"

enum fault { NONE, CUT, GAP, MIXED, STATUS, TAIL, FAULTS };
static const char *const FAULT_NAMES[FAULTS] = {"none", "cut", "gap", "mixed", "status", "tail"};

struct wish {
    unsigned long long id;
    unsigned long chunks, rate, padding, answer;
    enum fault fault;
    int streamed;
};

struct rest {
    const char *bytes; /* not ours: they stay where they are */
    size_t len;
};

struct conn {
    int fd, last, writable_wanted;
    char *in, *out; /* bytes received and not yet used; bytes not yet taken by the socket */
    size_t in_len, in_cap, out_len, out_off, out_cap;
    struct rest rest[2]; /* goes out after `out` */
    int streaming;
    const struct events *events; /* of the stream under way */
    struct wish wish;
    unsigned long sent;      /* chunks of the stream under way */
    uint64_t due, interval;  /* ns; interval 0: not paced */
    size_t slot;             /* place in the heap plus one, 0: not there */
};

struct part {
    char *bytes; /* one HTTP chunk holding one event */
    size_t len, id_at, text_at; /* 0 where it has none */
};

struct events { /* of a dialect */
    struct part first, next, finish, usage, done;
};

static int poller;
static struct events chat, messages;
static char *pattern;
static struct conn **heap;
static size_t heap_len, heap_cap;
static unsigned long streams_started;

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static uint64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec;
}

static void *grown(void *memory, size_t *capacity, size_t needed, size_t unit)
{
    if (needed <= *capacity)
        return memory;
    size_t wanted = *capacity ? *capacity : 1024;
    while (wanted < needed)
        wanted *= 2;
    memory = realloc(memory, wanted * unit);
    if (!memory)
        die("realloc");
    *capacity = wanted;
    return memory;
}

static void digits(char *at, int width, unsigned long long value)
{
    while (width--) {
        at[width] = (char)('0' + value % 10);
        value /= 10;
    }
}

static struct part part(const char *event)
{
    struct part p = {0};
    int len = asprintf(&p.bytes, "%zx\r\n%s\r\n", strlen(event), event);
    if (len < 0)
        die("asprintf");
    char *id = strstr(p.bytes, "chatcmpl-" ID), *message = strstr(p.bytes, "msg_" ID);
    char *text = strstr(p.bytes, "\"" TEXT "\"");
    p.len = (size_t)len;
    p.id_at = id ? (size_t)(id - p.bytes) + strlen("chatcmpl-") : 0;
    p.id_at = message ? (size_t)(message - p.bytes) + strlen("msg_") : p.id_at;
    p.text_at = text ? (size_t)(text - p.bytes) + 1 : 0;
    return p;
}

static size_t put(char *to, const struct part *p, unsigned long long id, unsigned long number, uint64_t time)
{
    memcpy(to, p->bytes, p->len);
    if (p->id_at)
        digits(to + p->id_at, ID_DIGITS, id);
    if (p->text_at) {
        char *text = to + p->text_at;
        digits(text, NUMBER_DIGITS, number);
        digits(text + NUMBER_DIGITS + 1, ID_DIGITS, id);
        digits(text + NUMBER_DIGITS + ID_DIGITS + 2, STAMP_DIGITS, time / 1000);
    }
    return p->len;
}

/* ---- the streams by the time of their next chunk ---- */

static void place(struct conn *c, size_t at)
{
    heap[at] = c;
    c->slot = at + 1;
}

static void sift(size_t at)
{
    struct conn *c = heap[at];
    while (at && heap[(at - 1) / 2]->due > c->due) {
        place(heap[(at - 1) / 2], at);
        at = (at - 1) / 2;
    }
    for (;;) {
        size_t child = 2 * at + 1;
        if (child + 1 < heap_len && heap[child + 1]->due < heap[child]->due)
            child++;
        if (child >= heap_len || heap[child]->due >= c->due)
            break;
        place(heap[child], at);
        at = child;
    }
    place(c, at);
}

static void schedule(struct conn *c)
{
    if (!c->slot) {
        heap = grown(heap, &heap_cap, heap_len + 1, sizeof *heap);
        place(c, heap_len++);
    }
    sift(c->slot - 1);
}

static void unschedule(struct conn *c)
{
    if (!c->slot)
        return;
    size_t at = c->slot - 1;
    c->slot = 0;
    struct conn *moved = heap[--heap_len];
    if (moved != c) {
        place(moved, at);
        sift(at);
    }
}

/* ---- connections ---- */

static void want_writable(struct conn *c, int wanted)
{
    if (c->writable_wanted == wanted)
        return;
    struct epoll_event e = {.events = EPOLLIN | (wanted ? EPOLLOUT : 0), .data.ptr = c};
    epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &e);
    c->writable_wanted = wanted;
}

static void drop(struct conn *c)
{
    unschedule(c);
    close(c->fd);
    free(c->in);
    free(c->out);
    free(c);
}

static int unsent(const struct conn *c)
{
    return c->out_len > c->out_off || c->rest[0].len || c->rest[1].len;
}

/* Returns 0 when the connection has broken; the caller then drops it. */
static int send_bytes(struct conn *c, const char *bytes, size_t len)
{
    if (c->out_len == c->out_off) {
        ssize_t n = send(c->fd, bytes, len, MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN)
            return 0;
        if (n > 0) {
            bytes += n;
            len -= (size_t)n;
        }
        c->out_len = c->out_off = 0;
    }
    if (len) {
        c->out = grown(c->out, &c->out_cap, c->out_len + len, 1);
        memcpy(c->out + c->out_len, bytes, len);
        c->out_len += len;
    }
    return 1;
}

static int flush(struct conn *c)
{
    size_t len = c->out_len - c->out_off;
    if (len) {
        ssize_t n = send(c->fd, c->out + c->out_off, len, MSG_NOSIGNAL);
        if (n < 0)
            return errno == EAGAIN;
        c->out_off += (size_t)n;
        if ((size_t)n < len)
            return 1;
        c->out_len = c->out_off = 0;
    }
    for (int i = 0; i < 2; i++) {
        if (!c->rest[i].len)
            continue;
        ssize_t n = send(c->fd, c->rest[i].bytes, c->rest[i].len, MSG_NOSIGNAL);
        if (n < 0)
            return errno == EAGAIN;
        c->rest[i].bytes += n;
        c->rest[i].len -= (size_t)n;
        if (c->rest[i].len)
            return 1;
    }
    return 1;
}

/* ---- answers ---- */

static int send_head(struct conn *c, const char *status, size_t len)
{
    char bytes[256];
    int head = snprintf(bytes, sizeof bytes,
                        "HTTP/1.1 %s\r\ncontent-type: application/json\r\n"
                        "x-request-id: req_bench\r\ncontent-length: %zu\r\n\r\n",
                        status, len);
    return send_bytes(c, bytes, (size_t)head);
}

static int send_failure(struct conn *c, const char *status)
{
    return send_head(c, status, strlen(FAILURE)) && send_bytes(c, FAILURE, strlen(FAILURE));
}

static int answer_plain(struct conn *c)
{
    static char small[2048];
    const char *text = c->wish.answer ? pattern : ANSWER_TEXT;
    size_t text_len = c->wish.answer ? c->wish.answer : strlen(ANSWER_TEXT);
    size_t head_len = strlen(ANSWER_HEAD), tail_len = strlen(ANSWER_TAIL);
    size_t len = head_len + text_len + tail_len;
    int head = snprintf(small, sizeof small,
                        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
                        "x-request-id: req_bench\r\ncontent-length: %zu\r\n\r\n" ANSWER_HEAD,
                        len);
    digits(strstr(small, "chatcmpl-") + strlen("chatcmpl-"), ID_DIGITS, c->wish.id);
    if (c->wish.fault == CUT) {
        send_bytes(c, small, (size_t)head);
        return 0;
    }
    if (c->wish.answer) {
        c->rest[0] = (struct rest){text, c->wish.fault == GAP ? text_len - 1 : text_len};
        c->rest[1] = (struct rest){c->wish.fault == GAP ? " " ANSWER_TAIL : ANSWER_TAIL,
                                   c->wish.fault == GAP ? tail_len + 1 : tail_len};
        return send_bytes(c, small, (size_t)head) && flush(c);
    }
    memcpy(small + head, text, text_len);
    memcpy(small + (size_t)head + text_len, ANSWER_TAIL, tail_len);
    return send_bytes(c, small, (size_t)head + text_len + tail_len);
}

static size_t put_end(struct conn *c, char *to)
{
    size_t len = put(to, &c->events->finish, c->wish.id, 0, 0);
    len += put(to + len, &c->events->usage, c->wish.id, 0, 0);
    if (c->wish.fault != TAIL)
        len += put(to + len, &c->events->done, 0, 0, 0);
    memcpy(to + len, "0\r\n\r\n", 5);
    return len + 5;
}

/* Up to `most` chunks of a stream and, after the last of them, its end. Returns 0 when it broke. */
static int send_chunks(struct conn *c, unsigned long most)
{
    static char batch[BATCH + 8192];
    size_t len = 0;
    uint64_t time = now();
    while (most-- && c->sent < c->wish.chunks && len < BATCH) {
        int half = c->sent == c->wish.chunks / 2;
        if (half && c->wish.fault == CUT) {
            send_bytes(c, batch, len);
            return 0;
        }
        if (!(half && c->wish.fault == GAP))
            len += put(batch + len, c->sent ? &c->events->next : &c->events->first, c->wish.id,
                       c->sent, time);
        c->sent++;
    }
    if (c->sent == c->wish.chunks) {
        len += put_end(c, batch + len);
        c->streaming = 0;
        unschedule(c);
    }
    return send_bytes(c, batch, len);
}

static int start_stream(struct conn *c, const struct events *events)
{
    c->streaming = 1;
    c->events = events;
    c->sent = 0;
    c->interval = c->wish.rate ? SECOND / c->wish.rate : 0;
    if (!send_bytes(c, STREAM_HEAD, strlen(STREAM_HEAD)))
        return 0;
    if (!c->interval)
        return 1;
    if (!send_chunks(c, 1))
        return 0;
    if (c->streaming) {
        /* Multiples of the golden ratio spread the phases evenly for any number of streams. */
        double turn = (double)++streams_started * 0.6180339887498949;
        c->due = now() + (uint64_t)((turn - (double)(unsigned long)turn) * (double)c->interval);
        schedule(c);
    }
    return 1;
}

static int send_due(struct conn *c)
{
    int behind = c->out_len - c->out_off > MOST_BEHIND;
    if (!behind && !send_chunks(c, 1))
        return 0;
    if (c->streaming) {
        c->due += c->interval;
        sift(c->slot - 1);
    }
    return 1;
}

/* ---- requests ---- */

static const char *header(const char *head, const char *end, const char *name)
{
    size_t len = strlen(name);
    for (const char *line = strstr(head, "\r\n"); line && line + 2 < end; line = strstr(line, "\r\n")) {
        line += 2;
        if (!strncasecmp(line, name, len) && line[len] == ':') {
            line += len + 1;
            return line + strspn(line, " \t");
        }
    }
    return NULL;
}

/* The length of a chunked body, 0 when more is to come; `move` puts its payload together at the front. */
static size_t unchunk(char *body, size_t len, size_t *payload, int move)
{
    size_t at = 0;
    *payload = 0;
    for (;;) {
        char *eol = memmem(body + at, len - at, "\r\n", 2);
        if (!eol)
            return 0;
        size_t size = strtoul(body + at, NULL, 16), data = (size_t)(eol - body) + 2;
        if (size > MAX_REQUEST || data + size + 2 > len)
            return 0;
        if (move)
            memmove(body + *payload, body + data, size);
        *payload += size;
        at = data + size + 2;
        if (!size)
            return at;
    }
}

static void read_wish(const char *body, size_t len, struct wish *w)
{
    char text[160] = "", name[16] = "none";
    *w = (struct wish){.chunks = 16};
    const char *at = memmem(body, len, "bench:n=", 8);
    if (at) {
        size_t left = len - (size_t)(at - body);
        memcpy(text, at, left < sizeof text - 1 ? left : sizeof text - 1);
        sscanf(text, "bench:n=%llu,chunks=%lu,rate=%lu,fault=%15[a-z],padding=%lu,answer=%lu", &w->id,
               &w->chunks, &w->rate, name, &w->padding, &w->answer);
    }
    for (int f = 0; f < FAULTS; f++)
        if (!strcmp(name, FAULT_NAMES[f]))
            w->fault = (enum fault)f;
    if (w->fault == MIXED)
        w->id++;
    at = memmem(body, len, "\"stream\":", 9);
    if (at)
        for (at += 9; at < body + len && *at == ' '; at++)
            ;
    w->streamed = at && at < body + len && *at == 't' && w->chunks;
}

/* Whether the request brought the letters that it says it has. */
static int padding_came(const char *body, size_t len, size_t padding)
{
    const char *at = padding ? memmem(body, len, pattern, MARK) : NULL;
    return !padding || (padding <= MAX_PATTERN && at && (size_t)(body + len - at) > padding &&
                        !memcmp(at, pattern, padding) && at[padding] == '"');
}

static int answer(struct conn *c, const char *head, const char *body, size_t len)
{
    int message = strstr(head, "/messages") != NULL;
    if (!strncmp(head, "GET ", 4)) /* a gateway that looks whether somebody is there */
        return send_head(c, "200 OK", strlen(MODELS)) && send_bytes(c, MODELS, strlen(MODELS));
    if (strncmp(head, "POST ", 5) || (!message && !strstr(head, "/chat/completions")))
        return send_failure(c, "404 Not Found");
    read_wish(body, len, &c->wish);
    if (c->wish.fault == STATUS || c->wish.answer > MAX_PATTERN || !padding_came(body, len, c->wish.padding))
        return send_failure(c, "500 Internal Server Error");
    if (c->wish.streamed)
        return start_stream(c, message ? &messages : &chat);
    return message ? send_failure(c, "501 Not Implemented") : answer_plain(c);
}

/* Takes one request off the input if it is whole. Returns 1 if so, 0 if not, -1 if the connection ends. */
static int take_request(struct conn *c)
{
    char *end = memmem(c->in, c->in_len, "\r\n\r\n", 4);
    if (!end)
        return c->in_len > MAX_REQUEST ? -1 : 0;
    end[2] = '\0'; /* the head as a string */
    char *body = end + 4;
    size_t got = c->in_len - (size_t)(body - c->in), used, payload;
    const char *coding = header(c->in, end, "transfer-encoding");
    const char *length = header(c->in, end, "content-length");
    const char *connection = header(c->in, end, "connection");
    int chunked = coding && !strncasecmp(coding, "chunked", 7), whole;
    if (chunked) {
        used = unchunk(body, got, &payload, 0);
        whole = used > 0;
    } else {
        used = payload = length ? strtoul(length, NULL, 10) : 0;
        whole = used <= got;
    }
    if (!whole) {
        end[2] = '\r';
        return payload > MAX_REQUEST || got > MAX_REQUEST ? -1 : 0;
    }
    if (chunked)
        unchunk(body, got, &payload, 1);
    c->last = connection && !strncasecmp(connection, "close", 5);
    if (!answer(c, c->in, body, payload))
        return -1;
    c->in_len = got - used;
    memmove(c->in, body + used, c->in_len);
    return 1;
}

static int read_requests(struct conn *c)
{
    /* What is large so far will be larger: small requests keep small buffers. */
    c->in = grown(c->in, &c->in_cap, c->in_len + (c->in_len ? READ : 16384), 1);
    ssize_t n = recv(c->fd, c->in + c->in_len, c->in_cap - c->in_len, 0);
    if (n <= 0)
        return n < 0 && errno == EAGAIN;
    c->in_len += (size_t)n;
    return c->in_len < 2 * MAX_REQUEST;
}

static void on_event(struct conn *c, uint32_t events)
{
    int taken = 1;
    if ((events & EPOLLIN) && !read_requests(c))
        return drop(c);
    if ((events & (EPOLLERR | EPOLLHUP)) && !(events & EPOLLIN))
        return drop(c);
    if ((events & EPOLLOUT) && !flush(c))
        return drop(c);
    /* An unpaced stream sends one batch a turn, so that streams share the time. */
    if (c->streaming && !c->interval && !unsent(c) && !send_chunks(c, c->wish.chunks))
        return drop(c);
    while (!c->streaming && !c->last && !unsent(c) && c->in_len && taken > 0)
        taken = take_request(c);
    if (taken < 0 || (c->last && !c->streaming && !unsent(c)))
        return drop(c);
    want_writable(c, unsent(c) || (c->streaming && !c->interval));
}

static void send_all_due(void)
{
    uint64_t time = now();
    while (heap_len && heap[0]->due <= time) {
        struct conn *c = heap[0];
        if (!send_due(c))
            drop(c);
        else if (!c->streaming || unsent(c))
            on_event(c, 0);
    }
}

static void accept_all(int listener)
{
    int fd, on = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct conn *c = calloc(1, sizeof *c);
        if (!c)
            die("calloc");
        c->fd = fd;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
        epoll_ctl(poller, EPOLL_CTL_ADD, fd, &e);
    }
}

static int listen_on_loopback(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, len) || listen(fd, 4096) ||
        getsockname(fd, (struct sockaddr *)&address, &len))
        die("listen");
    printf("port %d\n", ntohs(address.sin_port));
    fflush(stdout);
    return fd;
}

static void arm(int timer, uint64_t *armed)
{
    uint64_t due = heap_len ? heap[0]->due : 0;
    if (due == *armed)
        return;
    struct itimerspec when = {.it_value = {(time_t)(due / SECOND), (long)(due % SECOND)}};
    timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL);
    *armed = due;
}

int main(int argc, char **argv)
{
    int polls = argc == 3 && !strcmp(argv[2], "polls");
    if ((argc != 2 && !polls) || atoi(argv[1]) <= 0) {
        fprintf(stderr, "usage: mock SECONDS [polls]\n");
        return 2;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    alarm((unsigned)atoi(argv[1]));
    chat = (struct events){part(FIRST_EVENT), part(NEXT_EVENT), part(FINISH_EVENT), part(USAGE_EVENT),
                           part(DONE_EVENT)};
    messages = (struct events){part(FIRST_MESSAGE_EVENT), part(NEXT_MESSAGE_EVENT),
                               part(FINISH_MESSAGE_EVENT), part(USAGE_MESSAGE_EVENT),
                               part(DONE_MESSAGE_EVENT)};
    pattern = malloc(MAX_PATTERN);
    if (!pattern)
        die("malloc");
    fill_pattern(pattern, MAX_PATTERN);

    static int listener_tag, timer_tag;
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    poller = epoll_create1(EPOLL_CLOEXEC);
    int listener = listen_on_loopback();
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &(struct epoll_event){.events = EPOLLIN, .data.ptr = &listener_tag});
    epoll_ctl(poller, EPOLL_CTL_ADD, timer, &(struct epoll_event){.events = EPOLLIN, .data.ptr = &timer_tag});

    uint64_t armed = 0, expirations;
    struct epoll_event events[256];
    for (;;) {
        arm(timer, &armed);
        int n = epoll_wait(poller, events, 256, polls ? 0 : -1);
        if (!n)
            sched_yield();
        for (int i = 0; i < n; i++) {
            if (events[i].data.ptr == &listener_tag)
                accept_all(listener);
            else if (events[i].data.ptr == &timer_tag)
                armed = read(timer, &expirations, sizeof expirations) > 0 ? 1 : armed;
            else
                on_event(events[i].data.ptr, events[i].events);
        }
        send_all_due();
    }
}
