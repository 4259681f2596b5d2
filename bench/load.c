/* The load generator of the bench: chats over HTTP/1.1, one thread, epoll, loopback only.
 *
 * usage: load port=N [dialect=openai|anthropic] [connections=N] [chunks=N] [rate=N] [padding=BYTES]
 *             [answer=BYTES] [model=NAME] [models=N] [headers=LINES] [once=0|1] [open=S] [warm=S] [seconds=S] [count=N] [slow=BYTES]
 *             [drain=0|1] [limit=S] [fault=NAME] [polls=0|1]
 *
 * Opens `connections` evenly over `open` seconds. chunks=0 asks for plain answers, otherwise for
 * streams of that many chunks at `rate` a second (0: as fast as they come). Without `once` each
 * connection asks again as soon as it has its answer; with it each asks one time. A question has
 * `padding` more letters, a plain answer is `answer` long (pattern.h). The model is `model` (bench),
 * or with `models` that and "-000", "-001" and so on, in turn. anthropic asks for streams of
 * Anthropic's messages. `headers` are further ones, complete lines.
 * When all connections are open (with `once`: have their first chunk) and `warm` seconds have
 * passed, it measures for `seconds`, or until `count` answers have come, then lets what is under way
 * finish (drain=0: leaves). `limit` bounds it all. With `slow` each connection takes so many bytes in
 * 50 ms until the measured time has ended, and then the rest as fast as it can.
 *
 * Prints JSON lines: {"event":"begin",…} and {"event":"end",…} around the measured time, with the
 * answers and chunks so far and the streams open at that moment, with `slow` {"event":"sample",…}
 * each half second between them, and {"event":"done",…} with the totals, the time to the first chunk
 * and how long chunks of paced streams were under way in the measured time. Each answer is checked to
 * its last byte: status, framing, id, the number of every chunk, finish reason, usage, [DONE] or
 * message_stop. One that fails counts as an error of one of these kinds:
 *     connect   no connection, or closed before a byte of an answer
 *     status    not a 200
 *     cut       ended before its end
 *     wrong     not what was asked for
 *     late      not finished within the limit
 * The first error is told on standard error. With fault=short the question lacks a letter of those
 * that it says it has; the other faults are the provider's (mock.c).
 * With polls=1 it asks for events again and again instead of sleeping, and yields its CPU in
 * between: to wake a sleeper takes several microseconds, which whoever sends to it would pay.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <ctype.h>
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

#define MAX_HEAD (32u << 10)
#define MAX_TEXT (MAX_PATTERN + (1u << 20))
#define SIP_EVERY (SECOND / 20)
#define SAMPLE_EVERY (SECOND / 2)
#define NARROW (16 << 10) /* the receive buffer of a slow reader */
#define MOST_ERRORS 1000 /* a contender this broken needs no more load */
#define SECOND 1000000000ull
#define TICK 1000000 /* ns: how often openings and phases are looked at */
#define ID_DIGITS 10
#define ID_TEXT "chatcmpl-0000000000"
#define NUMBER_DIGITS 8
#define STAMP_DIGITS 13
#define TEXT_LEN (NUMBER_DIGITS + ID_DIGITS + STAMP_DIGITS + 2)
#define MODEL_DIGITS 3

enum error { CONNECT, STATUS, CUT, WRONG, LATE, ERRORS };
static const char *const ERROR_NAMES[ERRORS] = {"connect", "status", "cut", "wrong", "late"};

enum state { CLOSED, CONNECTING, HEAD, BODY };
enum framing { LENGTH, CHUNKED, UNTIL_CLOSE };
enum piece { SIZE_LINE, EXTENSION, DATA, DATA_END, TRAILER };
enum phase { OPENING, WARMING, MEASURING, DRAINING };

struct conn {
    int fd;
    enum state state;
    size_t request_sent;
    int attempted, finished; /* this connection has asked; with `once`, has no more to do */
    uint64_t asked_at;       /* ns; the connect counts, where there was one */
    char id[sizeof ID_TEXT];
    /* the head and framing of the answer */
    int last, status, event_stream, bytes_seen;
    enum framing framing;
    enum piece piece;
    unsigned long long left; /* bytes of the body or of the chunk under way */
    size_t trailer_len;
    /* its text: the head, a body or one line of an event stream, while incomplete */
    char *text;
    size_t text_len, text_cap;
    /* its meaning */
    unsigned long number; /* of the next chunk */
    int begun, pending, finish, usage, done, wrong;
};

struct options {
    unsigned port, connections, once, drain, models, polls;
    unsigned long chunks, rate, padding, answer, count, slow;
    double open, warm, seconds, limit;
    const char *fault, *dialect, *model, *headers;
};

static struct options options = {
    .connections = 1, .drain = 1, .seconds = 1, .limit = 60, .fault = "none", .dialect = "openai",
    .model = "bench", .headers = ""};
static int anthropic;
static struct conn *conns;
static char *request, *pattern;
static size_t request_len, id_at, model_at;
static unsigned long long next_id = 1;
static int poller;
static enum phase phase = OPENING;
static unsigned opened, open_streams;
static unsigned long answers, chunks, errors, errors_of[ERRORS];
static uint64_t started, phase_since, read_at;

struct times { /* ns */
    uint64_t *of;
    size_t len, cap;
};
static struct times first_tokens, transits;

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
    size_t wanted = *capacity ? *capacity : 256;
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

/* ---- errors ---- */

static void tell(enum error kind, const char *text, size_t len)
{
    fprintf(stderr, "load: first error: %s: ", ERROR_NAMES[kind]);
    for (size_t i = 0; i < len && i < 400; i++)
        fputc(isprint((unsigned char)text[i]) ? text[i] : ' ', stderr);
    fputc('\n', stderr);
}

static void leave(struct conn *c)
{
    if (c->state != CLOSED && options.chunks && c->number)
        open_streams--;
    if (c->state != CLOSED)
        close(c->fd);
    c->state = CLOSED;
    c->finished = options.once || phase == DRAINING;
}

static void fail(struct conn *c, enum error kind, const char *text, size_t len)
{
    if (!errors++)
        tell(kind, text, len);
    errors_of[kind]++;
    leave(c);
}

/* ---- asking ---- */

static void write_request(void)
{
    const char *path = "chat/completions";
    const char *question = "What does this step cost, next to the same without?";
    char *body, wish[256], model[32];
    int len, all, letters = (int)options.padding - (options.padding && !strcmp(options.fault, "short"));
    snprintf(model, sizeof model, options.models ? "%s-000" : "%s", options.model);
    snprintf(wish, sizeof wish, "bench:n=0000000000,chunks=%lu,rate=%lu,fault=%s,padding=%lu,answer=%lu",
             options.chunks, options.rate, options.fault, options.padding, options.answer);
    if (anthropic) {
        path = "messages";
        len = asprintf(&body,
                       "{\"model\":\"%s\",\"max_tokens\":256,\"system\":\"You are brief. %s\","
                       "\"messages\":[{\"role\":\"user\",\"content\":\"%s%.*s\"}],\"temperature\":0.2,"
                       "\"stream\":true}",
                       model, wish, question, letters, pattern);
    } else {
        len = asprintf(&body,
                       "{\"model\":\"%s\",\"messages\":[{\"role\":\"system\",\"content\":\"You are brief. %s\"},"
                       "{\"role\":\"user\",\"content\":\"%s%.*s\"}],"
                       "\"temperature\":0.2,\"max_tokens\":256,\"stream\":%s}",
                       model, wish, question, letters, pattern,
                       options.chunks ? "true,\"stream_options\":{\"include_usage\":true}" : "false");
    }
    if (len < 0)
        die("asprintf");
    all = asprintf(&request,
                   "POST /v1/%s HTTP/1.1\r\nhost: 127.0.0.1:%u\r\n"
                   "accept: application/json\r\ncontent-type: application/json\r\n"
                   "user-agent: bench\r\nauthorization: Bearer bench\r\n%s%scontent-length: %d\r\n\r\n%s",
                   path, options.port, anthropic ? "anthropic-version: 2023-06-01\r\n" : "",
                   options.headers, len, body);
    if (all < 0)
        die("asprintf");
    free(body);
    request_len = (size_t)all;
    id_at = (size_t)(strstr(request, "bench:n=") - request) + strlen("bench:n=");
    model_at = options.models ? (size_t)(strstr(request, model) - request) + strlen(options.model) + 1 : 0;
}

/* The one request of all, made that of a connection. */
static void name_request(const struct conn *c)
{
    unsigned long long id = strtoull(c->id + strlen("chatcmpl-"), NULL, 10);
    digits(request + id_at, ID_DIGITS, id);
    if (model_at)
        digits(request + model_at, MODEL_DIGITS, id % options.models);
}

static void watch_for(struct conn *c, uint32_t events)
{
    struct epoll_event e = {.events = events, .data.ptr = c};
    epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &e);
}

/* A slow reader is not told of what came: it looks when it is time (`sip`). */
static uint32_t readable(void)
{
    return options.slow && phase != DRAINING ? 0 : EPOLLIN;
}

static void send_request(struct conn *c)
{
    name_request(c);
    ssize_t n = send(c->fd, request + c->request_sent, request_len - c->request_sent, MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN)
        return fail(c, CONNECT, strerror(errno), strlen(strerror(errno)));
    if (n > 0)
        c->request_sent += (size_t)n;
    int all = c->request_sent == request_len;
    if (c->state == HEAD && all && c->request_sent == (size_t)n)
        return; /* in one go, and nothing else was watched for */
    watch_for(c, readable() | (all ? 0 : EPOLLOUT));
    c->state = HEAD;
}

static void expect_answer(struct conn *c)
{
    c->request_sent = c->text_len = c->trailer_len = 0;
    c->last = c->status = c->event_stream = c->bytes_seen = 0;
    c->number = 0;
    c->begun = c->pending = c->finish = c->usage = c->done = c->wrong = 0;
    c->attempted = 1;
    c->asked_at = now();
    digits(c->id + strlen("chatcmpl-"), ID_DIGITS, next_id++);
}

static void ask_again(struct conn *c)
{
    expect_answer(c);
    c->state = HEAD;
    send_request(c);
}

static void connect_and_ask(struct conn *c)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)options.port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int on = 1, narrow = NARROW;
    expect_answer(c);
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0)
        die("socket");
    c->state = CONNECTING;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (options.slow)
        setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &narrow, sizeof narrow);
    struct epoll_event e = {.events = EPOLLIN | EPOLLOUT, .data.ptr = c};
    epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &e);
    if (connect(c->fd, (struct sockaddr *)&address, sizeof address) && errno != EINPROGRESS)
        fail(c, CONNECT, strerror(errno), strlen(strerror(errno)));
}

/* ---- the meaning of an answer ---- */

/* The value of a JSON key, whatever the spaces; NULL when it is not there. */
static const char *value_of(const char *text, size_t len, const char *key)
{
    const char *end = text + len, *at = memmem(text, len, key, strlen(key));
    if (!at)
        return NULL;
    for (at += strlen(key); at < end && (*at == ' ' || *at == ':'); at++)
        ;
    return at < end ? at : NULL;
}

static int has(const char *text, size_t len, const char *part)
{
    return memmem(text, len, part, strlen(part)) != NULL;
}

static void note(struct times *times, uint64_t time)
{
    times->of = grown(times->of, &times->cap, times->len + 1, sizeof *times->of);
    times->of[times->len++] = time;
}

static uint64_t number_in(const char *at, int width)
{
    uint64_t value = 0;
    while (width--)
        value = value * 10 + (uint64_t)(*at++ - '0');
    return value;
}

/* The text of a chunk: its number, which has to be the next one, the id, and when it was sent. */
static int chunk(struct conn *c, const char *text, size_t len)
{
    if (len < TEXT_LEN || c->finish || number_in(text, NUMBER_DIGITS) != c->number ||
        memcmp(text + NUMBER_DIGITS + 1, c->id + strlen("chatcmpl-"), ID_DIGITS))
        return 0;
    c->pending++;
    if (!c->number++) {
        open_streams++;
        note(&first_tokens, now() - c->asked_at);
    } else if (options.rate && phase == MEASURING) {
        uint64_t sent = number_in(text + NUMBER_DIGITS + ID_DIGITS + 2, STAMP_DIGITS) * 1000;
        note(&transits, read_at > sent ? read_at - sent : 0);
    }
    return 1;
}

static int string_of(const char *text, size_t len, const char *key, const char **value)
{
    const char *at = value_of(text, len, key);
    *value = at ? at + 1 : NULL;
    return at && *at == '"';
}

/* One event of a chat: the next chunk, the finish reason, the usage or [DONE], in that order. */
static int chat_event(struct conn *c, const char *text, size_t len)
{
    const char *end = text + len, *value;
    if (len == 6 && !memcmp(text, "[DONE]", 6)) {
        c->done++;
        return c->finish && c->usage && c->done == 1;
    }
    if (c->done || !memmem(text, len, c->id, sizeof ID_TEXT - 1))
        return 0;
    if (string_of(text, len, "\"content\"", &value)) {
        int role_alone = value < end && *value == '"' && !c->number && has(text, len, "\"role\"");
        return role_alone || chunk(c, value, (size_t)(end - value));
    }
    c->pending++;
    const char *reason = value_of(text, len, "\"finish_reason\"");
    if (reason && *reason == '"') {
        c->finish++;
        return c->number == options.chunks && c->finish == 1;
    }
    value = value_of(text, len, "\"usage\"");
    if (value && *value == '{' && has(text, len, "\"total_tokens\"")) {
        c->usage++;
        return c->finish && c->usage == 1;
    }
    return 0;
}

/* One event of a message; of those that count only the end of the text and the usage are no chunk. */
static int message_event(struct conn *c, const char *text, size_t len)
{
    const char *end = text + len, *value;
    if (has(text, len, "\"message_start\"")) {
        c->begun++;
        return c->begun == 1 && has(text, len, c->id + strlen("chatcmpl-"));
    }
    if (!c->begun || c->done)
        return 0;
    if (has(text, len, "\"content_block_delta\""))
        return string_of(text, len, "\"text\"", &value) && chunk(c, value, (size_t)(end - value));
    if (has(text, len, "\"content_block_stop\"")) {
        c->pending++;
        return !c->finish++ && c->number == options.chunks;
    }
    if (has(text, len, "\"message_delta\"")) {
        c->pending++;
        return c->finish && !c->usage++ && has(text, len, "\"end_turn\"") && has(text, len, "\"output_tokens\"");
    }
    if (has(text, len, "\"message_stop\"")) {
        c->done++;
        return c->finish && c->usage;
    }
    return !c->number && (has(text, len, "\"content_block_start\"") || has(text, len, "\"ping\""));
}

static void line(struct conn *c, const char *text, size_t len)
{
    if (len && text[len - 1] == '\r')
        len--;
    if (!len) {
        chunks += (unsigned)c->pending;
        c->pending = 0;
        return;
    }
    if (len < 5 || memcmp(text, "data:", 5) || c->wrong)
        return;
    size_t skip = 5 + (len > 5 && text[5] == ' ');
    if (!(anthropic ? message_event : chat_event)(c, text + skip, len - skip)) {
        c->wrong = 1;
        fail(c, WRONG, text, len);
    }
}

static void keep(struct conn *c, const char *bytes, size_t len)
{
    c->text = grown(c->text, &c->text_cap, c->text_len + len + 1, 1);
    memcpy(c->text + c->text_len, bytes, len);
    c->text_len += len;
    c->text[c->text_len] = '\0';
}

/* Takes bytes of a body with its framing removed. */
static void payload(struct conn *c, const char *bytes, size_t len)
{
    const char *end = bytes + len, *eol;
    if (c->text_len + len > MAX_TEXT)
        return fail(c, WRONG, "too much", 8);
    if (!c->event_stream)
        return keep(c, bytes, len);
    while (c->state != CLOSED && (eol = memchr(bytes, '\n', (size_t)(end - bytes)))) {
        if (c->text_len) {
            keep(c, bytes, (size_t)(eol - bytes));
            line(c, c->text, c->text_len);
            c->text_len = 0;
        } else {
            line(c, bytes, (size_t)(eol - bytes));
        }
        bytes = eol + 1;
    }
    if (bytes < end)
        keep(c, bytes, (size_t)(end - bytes));
}

/* What stands after the letters that were asked for; NULL when they did not all come. */
static const char *after_letters(const struct conn *c)
{
    if (!options.answer)
        return c->text;
    const char *at = memmem(c->text, c->text_len, pattern, MARK);
    if (!at || (size_t)(c->text + c->text_len - at) <= options.answer ||
        memcmp(at, pattern, options.answer) || at[options.answer] != '"')
        return NULL;
    return at + options.answer;
}

static int answer_is_whole(struct conn *c)
{
    if (options.chunks)
        return c->event_stream && c->done && !c->pending && !c->text_len;
    if (c->event_stream || !c->text_len || c->text[0] != '{' || c->text[c->text_len - 1] != '}')
        return 0;
    const char *tail = after_letters(c);
    return tail && has(c->text, c->text_len, c->id) && has(c->text, c->text_len, "\"chat.completion\"") &&
           has(tail, (size_t)(c->text + c->text_len - tail), "\"total_tokens\"");
}

/* The answer has ended as its framing says: judge it and go on. */
static void finish(struct conn *c)
{
    if (c->status != 200)
        return fail(c, STATUS, c->text, c->text_len);
    if (!answer_is_whole(c))
        return fail(c, WRONG, c->text_len ? c->text : "stream without its end", c->text_len ? c->text_len : 22);
    answers++;
    if (options.once || phase == DRAINING || c->last)
        return leave(c);
    if (options.chunks)
        open_streams--;
    ask_again(c);
}

/* ---- the framing of an answer ---- */

static const char *header(const char *head, const char *name)
{
    size_t len = strlen(name);
    for (const char *at = strstr(head, "\r\n"); at; at = strstr(at, "\r\n")) {
        at += 2;
        if (!strncasecmp(at, name, len) && at[len] == ':')
            return at + len + 1 + strspn(at + len + 1, " \t");
    }
    return NULL;
}

/* Reads the head, a string that ends with an empty line. Returns 0 when it is no HTTP. */
static int read_head(struct conn *c, const char *head)
{
    const char *coding = header(head, "transfer-encoding"), *length = header(head, "content-length");
    const char *connection = header(head, "connection"), *type = header(head, "content-type");
    int minor;
    if (sscanf(head, "HTTP/1.%1d %3d", &minor, &c->status) != 2)
        return 0;
    c->last = minor == 0 || (connection && !strncasecmp(connection, "close", 5));
    c->event_stream = c->status == 200 && type && !strncasecmp(type, "text/event-stream", 17);
    c->left = 0;
    c->piece = SIZE_LINE;
    if (coding && !strncasecmp(coding, "chunked", 7))
        c->framing = CHUNKED;
    else if (length) {
        c->framing = LENGTH;
        c->left = strtoull(length, NULL, 10);
    } else {
        c->framing = UNTIL_CLOSE;
        c->last = 1;
    }
    return 1;
}

/* Takes a byte of a chunked body that is not payload. Returns 1 at the end of the body, -1 when wrong. */
static int take_mark(struct conn *c, char byte)
{
    switch (c->piece) {
    case SIZE_LINE:
        if (isxdigit((unsigned char)byte)) {
            c->left = c->left * 16 + (unsigned)(isdigit((unsigned char)byte) ? byte - '0' : (byte | 32) - 'a' + 10);
            return c->left > MAX_TEXT ? -1 : 0;
        }
        if (byte != ';' && byte != ' ' && byte != '\r')
            return -1;
        c->piece = EXTENSION;
        return 0;
    case EXTENSION:
        if (byte == '\n')
            c->piece = c->left ? DATA : TRAILER;
        return 0;
    case DATA_END:
        if (byte == '\n')
            c->piece = SIZE_LINE;
        return byte == '\n' || byte == '\r' ? 0 : -1;
    case TRAILER:
        if (byte == '\n' && !c->trailer_len)
            return 1;
        c->trailer_len = byte == '\n' ? 0 : c->trailer_len + (byte != '\r');
        return 0;
    default:
        return -1;
    }
}

static size_t least(unsigned long long a, size_t b)
{
    return a < b ? (size_t)a : b;
}

/* Takes bytes of the body. Returns 1 when that is all of it. */
static int body(struct conn *c, const char *bytes, size_t len)
{
    const char *end = bytes + len;
    int mark = 0;
    while (bytes < end && c->state == BODY) {
        if (c->framing == CHUNKED && c->piece != DATA) {
            if ((mark = take_mark(c, *bytes++)))
                break;
            continue;
        }
        size_t n = (size_t)(end - bytes);
        if (c->framing != UNTIL_CLOSE) {
            n = least(c->left, n);
            c->left -= n;
        }
        payload(c, bytes, n);
        bytes += n;
        if (c->framing == CHUNKED && !c->left)
            c->piece = DATA_END;
        if (c->framing == LENGTH && !c->left)
            break;
    }
    if (c->state != BODY)
        return 0;
    int whole = c->framing == LENGTH ? !c->left : mark > 0;
    if (mark < 0 || (whole && bytes < end)) {
        fail(c, WRONG, "broken framing", 14);
        return 0;
    }
    return whole;
}

/* Takes bytes of the head. Returns how many belonged to it, or `len` while it is incomplete. */
static size_t take_head(struct conn *c, const char *bytes, size_t len)
{
    size_t before = c->text_len;
    keep(c, bytes, len);
    char *end = strstr(c->text, "\r\n\r\n");
    if (!end) {
        if (c->text_len > MAX_HEAD)
            fail(c, WRONG, "endless head", 12);
        return len;
    }
    size_t used = (size_t)(end + 4 - c->text) - before;
    end[4] = '\0';
    if (!read_head(c, c->text)) {
        fail(c, WRONG, c->text, c->text_len);
        return len;
    }
    c->text_len = 0;
    if (c->status >= 200) /* 100 and 103 pass by */
        c->state = BODY;
    return used;
}

static void receive(struct conn *c, const char *bytes, size_t len)
{
    c->bytes_seen = 1;
    while (c->state == HEAD && len) {
        size_t used = take_head(c, bytes, len);
        bytes += used;
        len -= used;
    }
    if (c->state == BODY && body(c, bytes, len))
        finish(c);
}

static void on_end(struct conn *c, const char *why)
{
    if (c->state == BODY && c->framing == UNTIL_CLOSE)
        return finish(c);
    fail(c, c->bytes_seen ? CUT : CONNECT, why, strlen(why));
}

static void take(struct conn *c, size_t most)
{
    static char bytes[256u << 10];
    ssize_t n = recv(c->fd, bytes, most < sizeof bytes ? most : sizeof bytes, 0);
    if (options.rate)
        read_at = now();
    if (n > 0)
        receive(c, bytes, (size_t)n);
    else if (n == 0)
        on_end(c, "closed");
    else if (errno != EAGAIN)
        on_end(c, strerror(errno));
}

static void on_event(struct conn *c, uint32_t events)
{
    if (c->state == CLOSED)
        return; /* by what came before it in this turn */
    if ((events & EPOLLOUT) && !(events & EPOLLERR))
        send_request(c);
    if (c->state != CLOSED && (events & (EPOLLIN | EPOLLERR | EPOLLHUP)))
        take(c, SIZE_MAX);
}

/* ---- the run ---- */

static void report(const char *name)
{
    printf("{\"event\":\"%s\",\"at\":%.6f,\"answers\":%lu,\"chunks\":%lu,\"open\":%u}\n", name,
           (double)(now() - started) / SECOND, answers, chunks, open_streams);
    fflush(stdout);
}

static int ascending(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Of times in order; -1 where there are none. */
static double ms_of(const struct times *times, double quantile)
{
    if (!times->len)
        return -1;
    size_t at = (size_t)(quantile * (double)times->len);
    return (double)times->of[at < times->len ? at : times->len - 1] / 1e6;
}

static void put_in_order(struct times *times)
{
    if (times->len)
        qsort(times->of, times->len, sizeof *times->of, ascending);
}

static void report_done(void)
{
    put_in_order(&first_tokens);
    put_in_order(&transits);
    printf("{\"event\":\"done\",\"at\":%.6f,\"asked\":%llu,\"answers\":%lu,\"chunks\":%lu,"
           "\"first_token_p50_ms\":%.3f,\"first_token_p99_ms\":%.3f,\"transit_p50_ms\":%.3f,"
           "\"transit_p99_ms\":%.3f,\"transit_max_ms\":%.3f,\"errors\":{",
           (double)(now() - started) / SECOND, next_id - 1, answers, chunks, ms_of(&first_tokens, 0.5),
           ms_of(&first_tokens, 0.99), ms_of(&transits, 0.5), ms_of(&transits, 0.99), ms_of(&transits, 1));
    for (int kind = 0; kind < ERRORS; kind++)
        printf("%s\"%s\":%lu", kind ? "," : "", ERROR_NAMES[kind], errors_of[kind]);
    printf("}}\n");
    fflush(stdout);
}

static void read_on_or_leave(void)
{
    for (unsigned i = 0; i < opened; i++) {
        struct conn *c = &conns[i];
        if (c->state == CLOSED)
            continue;
        if (!options.drain)
            leave(c);
        else if (options.slow)
            watch_for(c, EPOLLIN | (c->state == CONNECTING || c->request_sent < request_len ? EPOLLOUT : 0));
    }
}

static void enter(enum phase next)
{
    phase = next;
    phase_since = now();
    if (next == MEASURING)
        report("begin");
    if (next == DRAINING) {
        report("end");
        read_on_or_leave();
    }
}

static int all_open(void)
{
    if (opened < options.connections)
        return 0;
    for (unsigned i = 0; options.once && options.chunks && i < opened; i++)
        if (!conns[i].finished && !conns[i].number)
            return 0;
    return 1;
}

static int all_finished(void)
{
    for (unsigned i = 0; i < options.connections; i++)
        if (conns[i].state != CLOSED ||
            (options.once && phase != DRAINING && !conns[i].finished))
            return 0;
    return 1;
}

static void sip(uint64_t time)
{
    static uint64_t sipped, sampled;
    if (phase == MEASURING && time - sampled >= SAMPLE_EVERY) {
        sampled = time;
        report("sample");
    }
    if (time - sipped < SIP_EVERY)
        return;
    sipped = time;
    for (unsigned i = 0; i < opened; i++)
        if (conns[i].state == HEAD || conns[i].state == BODY)
            take(&conns[i], options.slow);
}

static int measured(double passed)
{
    static unsigned long before;
    if (!before)
        before = answers + 1; /* at the first look, which is when it begins */
    return passed >= options.seconds || (options.count && answers + 1 - before >= options.count);
}

static void open_what_is_due(uint64_t time)
{
    double passed = (double)(time - started) / SECOND;
    while (opened < options.connections && passed * options.connections >= options.open * opened)
        connect_and_ask(&conns[opened++]);
    if (options.once || phase == DRAINING)
        return;
    for (unsigned i = 0; i < opened; i++)
        if (conns[i].state == CLOSED)
            connect_and_ask(&conns[i]);
}

/* Looks at the clock. Returns 0 when the run is over. */
static int tick(void)
{
    uint64_t time = now();
    double passed = (double)(time - phase_since) / SECOND;
    if ((double)(time - started) / SECOND > options.limit) {
        for (unsigned i = 0; i < opened; i++)
            if (conns[i].state != CLOSED)
                fail(&conns[i], LATE, "", 0);
        return 0;
    }
    if (phase == DRAINING)
        return !all_finished();
    open_what_is_due(time);
    if (phase == OPENING && all_open())
        enter(WARMING);
    else if (phase == WARMING && passed >= options.warm)
        enter(MEASURING);
    else if (phase == MEASURING && measured(passed))
        enter(DRAINING);
    if (options.slow && phase != DRAINING)
        sip(time);
    if (errors >= MOST_ERRORS)
        phase = DRAINING;
    return !(options.once && opened == options.connections && all_finished());
}

static void run(void)
{
    static int timer_tag;
    struct epoll_event events[256];
    uint64_t expirations;
    struct itimerspec each = {{0, TICK}, {0, TICK}};
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC), going = 1;
    timerfd_settime(timer, 0, &each, NULL);
    epoll_ctl(poller, EPOLL_CTL_ADD, timer, &(struct epoll_event){.events = EPOLLIN, .data.ptr = &timer_tag});
    while (going) {
        int n = epoll_wait(poller, events, 256, options.polls ? 0 : -1);
        if (!n)
            sched_yield();
        for (int i = 0; i < n; i++)
            if (events[i].data.ptr != &timer_tag)
                on_event(events[i].data.ptr, events[i].events);
            else if (read(timer, &expirations, sizeof expirations) > 0)
                going = tick();
    }
}

static int read_option(char *word)
{
    char *value = strchr(word, '=');
    if (!value)
        return 0;
    *value++ = '\0';
    const struct { const char *name; unsigned *to; } counts[] = {{"port", &options.port},
        {"connections", &options.connections}, {"once", &options.once}, {"drain", &options.drain},
        {"models", &options.models}, {"polls", &options.polls}};
    const struct { const char *name; unsigned long *to; } sizes[] = {{"chunks", &options.chunks},
        {"rate", &options.rate}, {"padding", &options.padding}, {"answer", &options.answer},
        {"count", &options.count}, {"slow", &options.slow}};
    const struct { const char *name; double *to; } times[] = {
        {"open", &options.open}, {"warm", &options.warm}, {"seconds", &options.seconds}, {"limit", &options.limit}};
    const struct { const char *name; const char **to; } words[] = {{"fault", &options.fault},
        {"dialect", &options.dialect}, {"model", &options.model}, {"headers", &options.headers}};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        if (!strcmp(word, counts[i].name))
            return *counts[i].to = (unsigned)strtoul(value, NULL, 10), 1;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        if (!strcmp(word, sizes[i].name))
            return *sizes[i].to = strtoul(value, NULL, 10), 1;
    for (size_t i = 0; i < sizeof times / sizeof *times; i++)
        if (!strcmp(word, times[i].name))
            return *times[i].to = strtod(value, NULL), 1;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (!strcmp(word, words[i].name))
            return *words[i].to = value, words[i].to == &options.headers || strlen(value) < 16;
    return 0;
}

static int usable(void)
{
    anthropic = !strcmp(options.dialect, "anthropic");
    return options.port && options.port <= 65535 && options.connections && options.connections <= 100000 &&
           options.padding <= MAX_PATTERN && options.answer <= MAX_PATTERN && options.models <= 1000 &&
           (anthropic ? options.chunks > 0 : !strcmp(options.dialect, "openai"));
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (!read_option(argv[i])) {
            fprintf(stderr, "load: what is %s?\n", argv[i]);
            return 2;
        }
    if (!usable()) {
        fprintf(stderr, "load: how to call it stands on top of load.c\n");
        return 2;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    alarm((unsigned)options.limit + 10);
    conns = calloc(options.connections, sizeof *conns);
    if (!conns)
        die("calloc");
    for (unsigned i = 0; i < options.connections; i++)
        memcpy(conns[i].id, ID_TEXT, sizeof ID_TEXT);
    size_t letters = options.padding > options.answer ? options.padding : options.answer;
    pattern = malloc(letters + MARK);
    if (!pattern)
        die("malloc");
    fill_pattern(pattern, letters + MARK);
    poller = epoll_create1(EPOLL_CLOEXEC);
    write_request();
    started = phase_since = now();
    run();
    report_done();
    return 0;
}
