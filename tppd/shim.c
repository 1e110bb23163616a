/* The shim: one small process between tppd and each command. It is the command's parent and a child
 * subreaper, so whatever the command leaves behind, daemons that forked twice and called setsid
 * included, stays below it: the shim ends exactly when the last of them has ended, and that end is
 * the proof that a tree is empty.
 *
 * It waits for a go byte before the command starts (tppd records the start meanwhile), and reports on
 * the same socket: started, failed to start, ended. All signals stay blocked in it. */
#include "tppd.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define OOM_COMMAND "800" /* the sandbox itself has 500, where the driver may say so */
#define HIGH 100 /* where fds wait while 0, 1 and 2 are put in order */

void close_from(int first) {
    if (syscall(436 /* close_range */, (unsigned)first, ~0u, 0u) == 0) return;
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    for (int fd = first; fd < (int)(limit.rlim_cur < 65536 ? limit.rlim_cur : 65536); fd++) close(fd);
}

static void limit(int resource, rlim_t value) {
    struct rlimit r = {value, value}, now;
    if (!value || getrlimit(resource, &now) < 0) return;
    if (now.rlim_max != RLIM_INFINITY && now.rlim_max < value) r = (struct rlimit){now.rlim_max, now.rlim_max};
    setrlimit(resource, &r);
}

/* What tppd itself can do without is given up once, at its start, and its children are born without:
 * ways to gain rights (a tppd that runs as root keeps the few it has), and the filtered system calls. */
int renounce(void) {
    for (int cap = 0; cap < 64; cap++)
        if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0 && errno == EINVAL) break; /* EPERM: without SETPCAP */
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) return -1;
    return seccomp_install();
}

static int drop_capabilities(const char **step) {
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct empty[2] = {{0, 0, 0}, {0, 0, 0}};
    *step = "drop capabilities";
    return (int)syscall(SYS_capset, &header, empty);
}

static void limit_all(void) {
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    if (options.nofile) limit(RLIMIT_NOFILE, options.nofile);
    else setrlimit(RLIMIT_NOFILE, &options.given_nofile);
    limit(RLIMIT_FSIZE, options.fsize);
    limit(RLIMIT_DATA, options.data);
}

/* To the sandbox user, without any capability. Runs between vfork and exec too: it must touch nothing
 * but the process's own attributes and its own stack. */
int drop_rights(bool ptrace, const char **step) {
    limit_all();
    if (options.drop) {
        *step = "change user";
        if (setgroups(0, NULL) < 0 && errno != EPERM) return -1;
        if (setresgid(options.gid, options.gid, options.gid) < 0) return -1;
        if (setresuid(options.uid, options.uid, options.uid) < 0) return -1;
    }
    limit(RLIMIT_NPROC, options.nproc); /* only now: it counts the processes of the user one is */
    if (drop_capabilities(step) < 0) return -1;
    *step = "install the system call filter";
    return seccomp_deny(!ptrace, !options.drop);
}

/* For file work: the sandbox user's rights to files and no capability, but still the helper's account, so that
 * a command can neither stop nor limit this process. */
int drop_to_files(const char **step) {
    limit_all();
    if (options.drop) {
        *step = "change user";
        if (setgroups(0, NULL) < 0 && errno != EPERM) return -1;
        setfsgid(options.gid);
        setfsuid(options.uid);
        if ((gid_t)setfsgid((gid_t)-1) != options.gid || (uid_t)setfsuid((uid_t)-1) != options.uid) return -1;
    }
    if (drop_capabilities(step) < 0) return -1;
    *step = "install the system call filter";
    return seccomp_deny(true, false);
}

/* A command is ended by the kernel before the helper when memory is short. The driver's own /proc is there
 * when the command's is read-only, so that none can take it back. */
static void offer_to_oom(void) {
    setfsuid(0); /* as the owner of the run directory one could not write it */
    int fd = open("/.tpp/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd < 0) fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd < 0) return;
    if (write(fd, OOM_COMMAND, sizeof OOM_COMMAND - 1) < 0) errno = 0; /* it was higher already */
    close(fd);
}

static void execute(char **argv, char **envp) {
    if (strchr(argv[0], '/')) {
        execve(argv[0], argv, envp);
        return;
    }
    const char *path = "/usr/local/bin:/usr/bin:/bin";
    for (char **e = envp; *e; e++)
        if (!strncmp(*e, "PATH=", 5)) path = *e + 5;
    int denied = 0;
    for (const char *at = path;; at++) {
        size_t n = strcspn(at, ":");
        char file[4096];
        if (n + strlen(argv[0]) + 2 < sizeof file) {
            snprintf(file, sizeof file, "%.*s/%s", n ? (int)n : 1, n ? at : ".", argv[0]);
            execve(file, argv, envp);
            if (errno == EACCES) denied = EACCES;
            else if (errno != ENOENT && errno != ENOTDIR) return;
        }
        at += n;
        if (!*at) break;
    }
    errno = denied ? denied : ENOENT;
}

/* Between vfork and exec: the shim stands still meanwhile and sees what is written to `r`. */
static _Noreturn void command_run(const struct launch *l, struct report *r) {
    const char *step = "start a session";
    if (setsid() < 0) goto failed;
    step = "take its terminal";
    if (l->flags & START_PTY && ioctl(0, TIOCSCTTY, 0) < 0) goto failed;
    signal(SIGPIPE, SIG_DFL);
    signal(SIGXFSZ, SIG_DFL);
    umask(022);
    offer_to_oom(); /* while the file is still ours */
    if (drop_rights(l->flags & START_PTRACE, &step) < 0) goto failed;
    step = "enter the directory";
    if (chdir(options.home) < 0 && chdir("/") < 0) goto failed;
    if (l->cwd && chdir(l->cwd) < 0) goto failed;
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    step = "execute";
    execute(l->argv, l->envp);
failed:
    r->error = errno;
    r->kind = REPORT_FAILED;
    snprintf(r->step, sizeof r->step, "%s", step);
    _exit(127);
}

static __attribute__((noinline)) pid_t command_start(const struct launch *l, struct report *r) {
    pid_t pid = vfork(); /* no page tables to copy, and its failure needs no pipe */
    if (pid == 0) command_run(l, r);
    return pid;
}

static int high(int fd) { return fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, HIGH); }

_Noreturn void shim_run(const struct launch *l) {
    int fds[4] = {high(l->in), high(l->out), high(l->err), high(l->report)};
    for (int i = 0; i < 3; i++) dup2(fds[i], i); /* without CLOEXEC: these three are the command's */
    dup2(fds[3], 3);
    fcntl(3, F_SETFD, FD_CLOEXEC);
    close_from(4);
    prctl(PR_SET_NAME, "tppd-shim");
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    char go;
    if (read(3, &go, 1) != 1) _exit(0); /* nothing was recorded: nothing is started */

    static struct report r = {.kind = REPORT_STARTED};
    pid_t pid = command_start(l, &r);
    if (pid < 0) {
        r.kind = REPORT_FAILED;
        r.error = errno;
        snprintf(r.step, sizeof r.step, "fork");
    }
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int i = 0; i < 3; i++)
        if (null < 0 || dup2(null, i) < 0) close(i); /* or the pipes would never end */
    r.pid = pid;
    if (write(3, &r, sizeof r) < 0) _exit(1);
    for (;;) {
        struct report end = {.kind = REPORT_ENDED};
        pid_t ended = wait4(-1, &end.status, 0, &end.usage);
        if (ended < 0 && errno == EINTR) continue;
        if (ended < 0) _exit(0);
        end.pid = ended;
        if (ended != pid || r.kind != REPORT_STARTED) continue;
        if (write(3, &end, sizeof end) < 0) _exit(1);
        sched_yield(); /* tppd was woken on this processor: it need not wait for our own end */
    }
}
