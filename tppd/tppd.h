/* tppd: process 1 of a sandbox. docs/tppd.md holds the wire protocol, the journal format and what is
 * guaranteed; the numbers below also stand in actors/sandbox/tppd/protocol.py and a test compares the two.
 *
 *   main.c      options, process-wide set-up, the one epoll loop
 *   launch.c    before all of it, outside: the user namespace in which tppd and its commands are two accounts
 *   guard.c     beside it, outside: keeps the program that connects the sandbox's network
 *   conns.c     connections of clients: frames in, frames out, never blocking
 *   requests.c  one function per operation
 *   execs.c     commands: table, life cycle, waiters
 *   starts.c    processes that are ready for a command
 *   inputs.c    their standard input, by offset
 *   ptys.c      terminals: the pseudo-terminal of a command, its size, the marks of its recording
 *   shim.c      the small process between tppd and a command; drops rights and starts the program
 *   seccomp.c   the system calls that commands may not make
 *   journals.c  output to bounded segments on disk
 *   records.c   how commands started and ended; generation, epoch
 *   trees.c     finding and killing every process a command left
 *   processes.c all processes of the sandbox: the list of them, ending all
 *   ports.c     which ports are listened on inside, and by whom
 *   relays.c    bytes between a client and a port inside
 *   memory.c    whether the kernel killed for want of memory
 *   files.c     the process that does file operations with the sandbox user's rights
 *   fileops.c   these operations; stamps and conditions
 *   filewrites.c  writing one
 *   filetrees.c   listing, removing, moving, copying
 *   filewalks.c  what is in a whole tree
 *   filebulk.c  reading and making many files at once
 *   egress.c    the socket by which the host's egress proxy takes what wants out
 *   wire.c      frames and growing buffers
 */
#ifndef TPPD_H
#define TPPD_H
#define _GNU_SOURCE

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

#define TPPD_VERSION 7
#define MAX_FRAME (16u * 1024 * 1024)
#define MAX_OUT_QUEUE (32u * 1024 * 1024) /* a client that reads no replies is cut off beyond this */
#define MAX_CONNS 1024
#define MAX_EXECS 1024   /* commands with a process or an open stream left */
#define MAX_WORKERS 64   /* file connections */
#define MAX_RELAYS 512   /* connections to ports inside */
#define SEGMENT_BYTES (8u * 1024 * 1024)
#define SEGMENT_LEAST (64u * 1024) /* where many streams share options.journal_bytes */
#define JOURNAL_BYTES (1024ull * 1024 * 1024)
#define KEEP_FIRST 2     /* segments; with KEEP_LAST this is the 64 MiB bound of a stream */
#define KEEP_LAST 6
#define MAX_HELD 16
#define HOLD_MS 5000     /* how long a prepared command waits for its START */
#define GRACE_MS 200     /* how long an ended command's pipes may stay open before it counts as ended */
#define TERM_MS 2000     /* how long a command whose time is up may take to end by itself */
#define STDIN_QUEUE (1024u * 1024)
#define MAX_WRITERS 64   /* of one terminal, whose input is told apart; then the one silent longest is forgotten */
#define ID_MAX 64

enum op {
    OP_HELLO = 1, OP_START = 2, OP_STATUS = 3, OP_WAIT = 4, OP_STDIN = 5, OP_SIGNAL = 6, OP_KILL_TREE = 7,
    OP_LIST = 8, OP_FILES = 9, OP_PREPARE = 10, OP_PROCESSES = 11, OP_KILL_ALL = 12,
    OP_RESIZE = 13, OP_MARK = 14,
    OP_STAT = 16, OP_READ = 17, OP_WRITE = 18, OP_MKDIR = 19, OP_SYMLINK = 20, OP_REMOVE = 21,
    OP_LISTDIR = 22, OP_SET = 23, OP_RENAME = 24, OP_COPY = 25, OP_LISTTREE = 26,
    OP_WALK = 27, OP_READ_FILES = 28, OP_WRITE_FILES = 29,
    OP_EGRESS = 30, OP_EGRESS_CLOSE = 31,
    OP_CONNECT = 34, OP_LISTEN = 35, OP_HOLDERS = 36,
};

enum tag {
    TAG_EXEC_ID = 1, TAG_EPOCH = 2, TAG_ARG = 3, TAG_ENV = 4, TAG_CWD = 5, TAG_FLAGS = 6, TAG_SPEC_HASH = 7,
    TAG_OUT_OFFSET = 8, TAG_ERR_OFFSET = 9, TAG_UNTIL = 10, TAG_TIMEOUT_MS = 11, TAG_OFFSET = 12,
    TAG_DATA = 13, TAG_SIGNO = 14, TAG_PATH = 15, TAG_MODE = 16, TAG_LIMIT = 17, TAG_TARGET = 18,
    TAG_WRITE_ID = 19, TAG_LIMIT_MS = 20, TAG_ROWS = 21, TAG_COLS = 22, TAG_WRITER = 23, TAG_OWNER = 24,
    TAG_MATCH = 26, TAG_NONE_MATCH = 27, TAG_DEPTH = 28, TAG_AFTER = 29,
    TAG_STATE = 32, TAG_RECORD = 33, TAG_OUT_END = 34, TAG_ERR_END = 35, TAG_CREATED = 36, TAG_DETAIL = 37,
    TAG_ERRNO = 38, TAG_VERSION = 39, TAG_GENERATION = 40, TAG_STARTED_MS = 41, TAG_SIZE = 42,
    TAG_MTIME_NS = 43, TAG_KIND = 44, TAG_NAME = 45, TAG_CLOSED = 46, TAG_PROCESS = 47, TAG_COUNT = 48,
    TAG_STAMP = 60, TAG_SETTLED = 61, TAG_MORE = 62, TAG_PORT = 63,
    TAG_SOCKET = 71, TAG_CHANGE = 72, TAG_HOLDER = 73,
};

enum status {
    STATUS_OK = 0, STATUS_NOT_FOUND = 1, STATUS_CONFLICT = 2, STATUS_FENCED = 3, STATUS_OFFSET = 4,
    STATUS_FINISHED = 5, STATUS_NOT_STARTED = 6, STATUS_INVALID = 7, STATUS_FILE = 8, STATUS_TOO_LARGE = 9,
    STATUS_OVERLOADED = 10, STATUS_DISK_FULL = 11, STATUS_INTERNAL = 12,
    STATUS_PRECONDITION = 20,
};

enum { STATE_RUNNING = 1, STATE_ENDED = 2, STATE_LOST = 3 };
enum { START_MERGE = 1, START_STDIN = 2, START_PTRACE = 4, START_PTY = 8 };
enum { FILE_FINAL = 1, FILE_PARENTS = 2, FILE_FIRST = 4, FILE_ABANDON = 8, FILE_OVERWRITE = 16 };

/* ---- wire.c ---- */
struct buffer { uint8_t *at; size_t len, cap; };
struct bytes { const uint8_t *at; size_t len; };
struct request { uint8_t op; uint32_t id; const uint8_t *fields; size_t len; };

void buffer_add(struct buffer *b, const void *data, size_t len);
void buffer_text(struct buffer *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
void buffer_json(struct buffer *b, const char *text);
void buffer_free(struct buffer *b);
bool request_parse(const uint8_t *frame, size_t len, struct request *r);
bool field_next(const struct request *r, size_t *cursor, uint8_t *tag, struct bytes *value);
bool field(const struct request *r, uint8_t tag, struct bytes *value);
int64_t field_number(const struct request *r, uint8_t tag, int64_t otherwise);
char *field_text(const struct request *r, uint8_t tag); /* malloc'ed; NULL when absent or with a zero byte */
size_t reply_begin(struct buffer *b, uint8_t status, uint32_t id);
void reply_bytes(struct buffer *b, uint8_t tag, const void *data, size_t len);
void reply_number(struct buffer *b, uint8_t tag, int64_t value);
void reply_end(struct buffer *b, size_t begin);
void reply_error(struct buffer *b, uint8_t status, uint32_t id, int error, const char *format, ...)
    __attribute__((format(printf, 5, 6)));

/* ---- main.c ---- */
struct handle { void (*ready)(struct handle *, uint32_t events); };
struct options {
    int run_fd, listen_fd, oom_fd;
    int64_t generation;
    uid_t uid; gid_t gid; bool drop;
    const char *home;
    rlim_t nproc, nofile, fsize, data; /* 0: as it is */
    uint64_t journal_bytes, journal_floor; /* of all open streams; free bytes below which output is dropped */
    struct rlimit given_nofile;
};
extern struct options options;
extern int epoll_fd;
extern volatile int64_t *epoch;         /* shared with file workers */
#define file_lock (epoch + 1)           /* among them: the pid of the one that holds it, or 0 */
extern int64_t started_ms;
extern bool stopping;
int64_t now_ms(void);                   /* monotonic */
int64_t now_us(void);
int64_t wall_ms(void);
void watch(int fd, struct handle *h, uint32_t events);
void rewatch(int fd, struct handle *h, uint32_t events);
void unwatch(int fd);
void bury(void *memory);                /* freed after this round of events */
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* ---- launch.c, guard.c: on the host ---- */
int launch(int count, char **words);
int guard(int count, char **words);

/* ---- conns.c ---- */
struct conn {
    struct handle handle;
    int fd;
    bool dead;
    struct buffer in, out;
    size_t sent;
    struct conn *next;
};
void conns_listen(int fd);
int64_t conns_resume(int64_t now);      /* ms until there is something to do, -1: nothing */
void conn_flush(struct conn *c);
void conn_close(struct conn *c);
int conn_release(struct conn *c);       /* forget it but keep its fd open */

/* ---- requests.c ---- */
void request_handle(struct conn *c, const struct request *r);

/* ---- journals.c ---- */
struct exec;
struct stream {
    struct handle handle;
    struct exec *exec;
    int pipe;                           /* -1: at its end */
    const char *prefix;
    int file;
    uint64_t end, segment, limit;       /* limit: bytes of the present segment */
    uint64_t kept[KEEP_FIRST + KEEP_LAST + 1], size[KEEP_FIRST + KEEP_LAST + 1];
    int count;
};
void stream_open(struct stream *s, struct exec *x, const char *prefix, int pipe);
size_t stream_read(struct stream *s, size_t budget);
void stream_close(struct stream *s);

/* ---- execs.c ---- */
enum waiting { WAIT_START, WAIT_EXIT, WAIT_OUTPUT, WAIT_CLOSED, WAIT_STDIN, WAIT_KILL };
struct waiter {
    struct conn *conn;
    uint32_t id;
    enum waiting kind;
    bool created;
    uint64_t out_offset, err_offset;
    int64_t deadline_ms, timeout_ms;
    struct waiter *next;
};
struct writer { char id[ID_MAX + 1]; uint64_t taken, turn; };
struct input {
    struct handle handle;
    struct exec *exec;
    int pipe;                           /* -1: closed */
    struct buffer queue;
    uint64_t taken;
    bool eof;
    struct writer *writers;             /* of a terminal: MAX_WRITERS, those without id are free */
    uint64_t turns;
};
struct exec {
    struct handle report;
    char id[ID_MAX + 1], spec_hash[65];
    int record_fd, report_fd, flags;
    int ends[3];                        /* ours, of its three streams; -1: none */
    int terminal;                       /* the program's side of its terminal until it has ended; -1: none */
    int marks;                          /* the file with the marks of its recording; -1: none */
    int64_t owner, marked_us;           /* the highest owner seen; when its last output mark was made */
    uint64_t mark_count;
    pid_t shim, command;
    bool started, command_ended, shim_gone, orphaned, recorded, saved, killing, gone;
    bool timed_out, swept, left_open, close_saved; /* left_open: its end was recorded while a pipe was still open */
    int start_errno, wait_status, kill_rounds;
    char start_error[128];
    struct rusage usage;
    int64_t started_ms, started_us, ended_ms, ended_us, grace_ms, kill_ms, save_ms, held_ms;
    int64_t limit_ms, term_ms;          /* when its time is up; when what ignored SIGTERM is killed; 0: never */
    int64_t oom_kills;                  /* of the sandbox, when it was started */
    struct stream out, err;
    struct input in;
    struct buffer record;               /* its end, as recorded */
    off_t begun;                        /* length of its record before the end is added */
    struct waiter *waiters;
    struct exec *next;
};
extern struct exec *execs;
struct exec *exec_find(const char *id);
struct launch {
    char **argv, **envp;
    const char *cwd;
    int flags, in, out, err, report, rows, cols;
    int64_t limit_ms;
};
int exec_start(const char *id, const char *spec_hash, int64_t at_epoch, const struct launch *what,
               struct exec **out, const char **why);
void exec_wait(struct exec *x, struct conn *c, uint32_t id, enum waiting kind, const struct request *r,
               bool created);
void exec_status(struct buffer *b, struct exec *x, uint32_t id, bool created);
void exec_kill(struct exec *x);
void exec_settle(struct exec *x);
bool exec_closed(const struct exec *x); /* ended, and nothing more can be printed */
void execs_forget(struct conn *c);
void execs_reap(void);
int64_t execs_tick(void);               /* does what is due; ms to the next thing due, -1: nothing */
void execs_stop(void);

/* ---- starts.c ---- */
int start_prepare(const char *id, const char *spec_hash, const struct launch *what, struct exec **result,
                  const char **why);
void start_discard(struct exec *x);
void start_hold(const char *id, const char *spec_hash, const struct launch *what);
bool start_is_held(pid_t shim);
struct exec *start_take(const char *id, const char *spec_hash, int flags);
void starts_drop(int64_t now, pid_t gone);
int64_t starts_due_ms(void);            /* -1: nothing is held */

/* ---- inputs.c ---- */
void input_open(struct exec *x, int pipe);
void input_close(struct input *in);
void exec_input(struct exec *x, struct conn *c, const struct request *r);

/* ---- ptys.c ---- */
int pty_open(struct exec *x, const struct launch *what, int pair[2]);
int pty_size(const struct launch *what, const char **why);
void pty_begin(struct exec *x, const struct launch *what);
void pty_close(struct exec *x);
void pty_output(struct exec *x, uint64_t offset);
void pty_resize(struct exec *x, struct conn *c, const struct request *r);
void pty_mark(struct exec *x, struct conn *c, const struct request *r);

/* ---- shim.c ---- */
struct report {
    enum { REPORT_STARTED, REPORT_FAILED, REPORT_ENDED } kind;
    pid_t pid;
    int status, error;
    char step[32];
    struct rusage usage;
};
_Noreturn void shim_run(const struct launch *l);
int renounce(void);
int drop_rights(bool ptrace, const char **step);
int drop_to_files(const char **step);
void close_from(int first);

/* ---- seccomp.c ---- */
int seccomp_install(void);
int seccomp_deny(bool tracing, bool reaching);

/* ---- records.c ---- */
enum { RECORD_NONE, RECORD_RUNNING, RECORD_ENDED, RECORD_LOST };
int record_of(const char *id, char spec_hash[65], struct buffer *end);
void record_prepare(void);
int record_begin(struct exec *x, int64_t at_epoch);
void record_compose(struct exec *x);
int record_end(struct exec *x);
int record_close(struct exec *x);
int64_t number_read(const char *name);
int number_write(const char *name, int64_t value);

/* ---- trees.c ---- */
struct process {
    pid_t pid, parent;
    char state, name[16];
    bool ours;
    int64_t ticks, started, pages;      /* processor time; since boot, in ticks too; resident memory */
};
int processes_scan(struct process **list); /* all there are, by pid; -1: cannot tell */
const struct process *process_of(const struct process *list, int count, pid_t pid);
bool process_is_shim(pid_t pid);
int tree_scan(const struct exec *x, struct process **list); /* living processes of x; -1: cannot tell */
int tree_signal(const struct exec *x, int signo);
void tree_kill(const struct process *list, int count, int round);
void tree_kill_round(struct exec *x);

/* ---- processes.c ---- */
void processes_list(struct conn *c, uint32_t id);
void processes_kill(struct conn *c, uint32_t id);
void processes_forget(const struct conn *c);
int processes_sweep(void);              /* kill those of every command there is now; how many there were */
int64_t processes_tick(void);           /* ms until it is to be called again, -1: when something is asked */

/* ---- ports.c ---- */
void port_hide(int fd);                 /* a listening socket of tppd's own: not shown, not connected to */
void port_show(int port);               /* it is not there any more */
bool port_is_hidden(int port);
void ports_listen(struct conn *c, const struct request *r);
void ports_forget(const struct conn *c);
int64_t ports_tick(void);               /* ms until it is to be called again, -1: when somebody watches */
void ports_holders(struct buffer *out, const struct request *r);

/* ---- relays.c ---- */
void relay_begin(struct conn *c, const struct request *r);

/* ---- memory.c ---- */
void memory_open(int fd);               /* the counter, or -1: look for it */
int64_t memory_kills(void);

/* ---- files.c ---- */
void files_take(struct conn *c, uint32_t id);
bool files_reaped(pid_t pid);
bool files_is_worker(pid_t pid);

/* ---- egress.c ---- */
void egress_open(struct conn *c, const struct request *r);
void egress_close(struct conn *c, uint32_t id);

/* ---- fileops.c, filewrites.c ---- */
void file_serve(struct buffer *out, const struct request *r);
void file_abandon_all(void);

#endif
